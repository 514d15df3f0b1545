"""The recipe that makes a network smaller: taught, pruned, trained with its rounding, int8."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import QUICK_PLAN, Ended

from edgekit.core.errors import InputError
from edgekit.runs import recipe
from edgekit.runs.store import Store
from edgekit.tasks.fashion_mnist import find

pytest.importorskip("torch_pruning")
#: a training that still learns
REDUCED = ("train.samples=4000", "train.epochs=2", "prune.samples=2000", "prune.epochs=1", "qat.samples=1000")


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_from_a_large_network_to_a_small_int8_file(cli: Callable[..., Ended], tmp_path: Path) -> None:
    try:
        find()
    except InputError as error:
        assert not os.environ.get("CI"), "CI must have the images"
        pytest.skip(f"{error}: {error.next}")
    head, *chains = re.split(r"^\[\[chain\]\]\n", recipe.find("compress").read_text(), flags=re.MULTILINE)
    plan = f"[gates]\nmax_drop_pp = 60.0\n{QUICK_PLAN}samples = 1000\n"
    (tmp_path / "reduced.toml").write_text("[[chain]]\n".join([head, chains[0], chains[3]]) + plan)
    words = [word for setting in REDUCED for word in ("--set", setting)]
    ended = cli("run", "reduced.toml", "--out", "run", "--json", *words, timeout=560)
    assert ended.code == 0, ended.err
    found = {row["artifact"]: row for row in ended.json["measurements"]}
    assert list(found) == ["torch", "onnx", "small.torch~train", "small.torch~prune", "small.torch", "small.onnx-int8"]
    store = Store(tmp_path / "run")
    small = store.get("small.onnx-int8")
    assert store.root(small).name == "torch", "what is lost counts from the teacher"
    assert found["small.onnx-int8"]["metric"]["against"] == "torch"
    assert found["small.onnx-int8"]["metric"]["value"] > 0.3, "chance is 0.1"
    assert found["onnx"]["weight_bytes"] > 10 * found["small.onnx-int8"]["weight_bytes"]
    assert store.get("small.torch~prune").details["pruned"]["macs"] <= 0.75
    assert '<section id="path">' in (tmp_path / "run" / "report.html").read_text()
