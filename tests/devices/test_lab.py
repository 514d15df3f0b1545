"""Two boards over ssh and a phone over adb, all emulated, from nothing: one recipe, then a deployment to each; then a
board with other runtimes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import BARS, Ended

from edgekit import sets
from edgekit.core.errors import EdgekitError, InputError
from edgekit.core.target import Plan
from edgekit.devices.shared import emulator, system_image
from edgekit.devices.shared.emulator import PHONE_TOOLS
from edgekit.measure import targets
from edgekit.measure.execute import execute, execute_all
from edgekit.runs import named_sets
from edgekit.runs.store import Store
from edgekit.workflows.inspect.operator_times import operator_times

PHONE = "emulated-phone"
TARGETS = ("emulated-cortex-a72", "emulated-cortex-a76", PHONE)
PLAN = Plan(processes=1, seconds=0.01, warmup_seconds=0.0, min_runs=11, samples=256)
RECIPE = f"""{BARS}
[[chain]]
steps = ["train", "to_tflite", "tflite_int8"]

[plan]
processes = 1
samples = 256
seconds = 0.01
warmup_seconds = 0.0
min_runs = 11
"""


@pytest.fixture(autouse=True)
def systems(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    try:
        system_image.check_tools(*PHONE_TOOLS)
    except EdgekitError as error:
        assert not os.environ.get("CI"), error
        pytest.skip(str(error))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "boards"))
    yield
    emulator.stop_all()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_trained_measured_and_deployed_on_all(cli: Callable[..., Ended], tmp_path: Path, members: None) -> None:
    (tmp_path / "bars.toml").write_text(RECIPE)
    words = [word for name in TARGETS for word in ("--target", name)]
    ended = cli("run", "bars.toml", "--out", "run", "--target", "host", *words, "--json", timeout=1500)
    assert ended.code == 0, ended.err
    rows = [row for row in ended.json["measurements"] if row["runtime"] != "torch"]
    assert {(row["target"], row["runtime"], row["precision"]) for row in rows} == {
        (target, runtime, precision)
        for target in ("host", *TARGETS)
        for runtime in ("onnxruntime", "litert")
        for precision in ("fp32", "int8")
    }
    native = {row["artifact"]: row["peak_rss_bytes"] for row in rows if row["target"] == "host"}
    for row in rows:
        if row["target"] == "host":
            continue
        assert row["provenance"] == "emulated" and row["latency_ms"] is None and row["facts"]["instructions"] > 10_000
        if row["target"] != PHONE:  # which runs no Python
            assert row["peak_rss_bytes"] == pytest.approx(native[row["artifact"]], rel=0.15)
        alike = row["facts"].get("agreement")
        if alike is None:  # this machine saturates what that scheme sums up, so it is no judge
            assert row["artifact"] == "onnx-int8@arm64"
            continue
        assert alike["samples"] == 256
        assert alike["bit_identical"] if row["precision"] == "int8" else alike["max_abs"] <= 5e-4, row["artifact"]
    for name in TARGETS:
        deployed = cli("deploy", "run/tflite-int8", "--target", name, "--json", timeout=500)
        assert deployed.code == 0, deployed.err
        assert deployed.json["result"]["check"]["bit_identical"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_other_runtimes_on_a_board(
    cli: Callable[..., Ended], bars_formats: Path, tmp_path: Path, members: None
) -> None:
    """OpenVINO, and the last tflite-runtime with a numpy before 2: wheels that are pushed there."""
    shutil.copytree(bars_formats, tmp_path / "run")
    ended = cli("quantize", "run/tflite", "--dynamic", "--max-drop", "5", "--json")
    assert ended.code == 0, ended.err
    store, data, host = Store(tmp_path / "run"), sets.take(named_sets.load("bars:test"), 256), targets.load("host")
    board = targets.load(TARGETS[0])
    old = replace(board, runtimes={"litert": "==2.14.0"})
    [dynamic] = [store.get(name) for name in store.names() if name.endswith("dynamic")]
    lite, vino = [store.get("tflite"), store.get("tflite-int8")], [store.get("openvino")]
    there = execute_all([(file, "litert") for file in lite], old, data, PLAN, latency=False)
    there += execute_all([(vino[0], "openvino")], replace(board, runtimes={"openvino": ">=2025.4"}), data, PLAN)
    here = execute_all([(file, "litert") for file in lite], host, data, PLAN, latency=False)
    here += execute_all([(vino[0], "openvino")], host, data, PLAN, latency=False)
    assert there[0].facts["runtime_version"] == "2.14.0"
    for file, run, native, most in zip([*lite, *vino], there, here, (1e-5, 0.02, 5e-3), strict=True):
        mine, theirs = run.outputs["output"], native.outputs["output"]
        np.testing.assert_allclose(mine, theirs, atol=most * np.abs(theirs).max(), err_msg=file.name)
        assert np.mean(mine.argmax(1) == theirs.argmax(1)) >= 0.99, file.name
    counts = operator_times(str(store.get("onnx-int8").path), board.name)
    assert counts["provenance"] == "emulated" and counts["against"] == "onnx" and counts["total_us"] > 10
    assert any("int8" in entry["precisions"] for entry in counts["types"] if entry["type"] == "Conv")
    sent = targets.device(old).sent_bytes  # type: ignore[attr-defined]
    with pytest.raises(InputError, match=f"cannot run {dynamic.name}") as error:
        execute(dynamic, old, data, PLAN, runtime="litert")
    assert "tflite-runtime 2.14.0" in error.value.why
    assert targets.device(old).sent_bytes == sent, "refused before anything is sent"  # type: ignore[attr-defined]
