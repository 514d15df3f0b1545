"""What the shipped recipes promise, end to end, through the command line: on real images, in the real runtimes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from helpers import ONE_THREAD

from edgekit.errors import InputError
from edgekit.tasks.fashion_mnist import find

CHAINS = ("", "ds.")
FLOATS = ("onnx", "tflite", "openvino")


def edgekit(*arguments: str, cwd: Path) -> dict[str, Any]:
    environment = {
        name: value for name, value in os.environ.items() if name not in ONE_THREAD
    }  # these networks are big
    command = [sys.executable, "-m", "edgekit", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def rows(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["artifact"]: row for row in document["measurements"]}


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("recipe", ["mnist", "fashion-mnist"])
def test_recipe_keeps_its_promises(recipe: str, tmp_path: Path) -> None:
    if recipe == "fashion-mnist":
        try:
            find()
        except InputError as error:
            assert not os.environ.get("CI"), "CI must have the images"
            pytest.skip(f"{error}: {error.next}")
    first = edgekit("run", recipe, cwd=tmp_path)
    found = rows(first)
    for chain in CHAINS:
        assert f"{chain}torch" in found
        for name in FLOATS:
            plain, int8 = found[f"{chain}{name}"], found[f"{chain}{name}-int8"]
            assert plain["parity"]["sqnr_db"] >= 60
            assert plain["weight_bytes"] >= 3.7 * int8["weight_bytes"]
            assert plain["size_bytes"] > int8["size_bytes"]
            states = ("met",) if recipe == "fashion-mnist" else ("met", "undecided")
            assert int8["verdict"]["state"] in states, (chain, name, int8["metric"])
    if recipe == "fashion-mnist":
        assert found["torch"]["metric"]["value"] >= 0.90
    assert all(row["latency_ms"]["processes"] >= 5 for row in found.values())

    started = time.monotonic()
    again = edgekit("run", recipe, cwd=tmp_path)
    assert {m["key"] for m in again["measurements"]} == {m["key"] for m in first["measurements"]}
    valid = {m["artifact"]: m["session"] for m in first["measurements"] if not m["invalid"]}
    assert {name: rows(again)[name]["session"] for name in valid} == valid, "a valid measurement was made again"
    if len(valid) == len(found):
        assert time.monotonic() - started < 30
