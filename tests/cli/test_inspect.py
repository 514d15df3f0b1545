"""`edgekit inspect`: for people, as --json, and with exports that are tried."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Ended

Cli = Callable[..., Ended]
NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self, good):
        super().__init__()
        self.good, self.dense = good, torch.nn.Linear(8, 5)

    def forward(self, x):
        return self.dense(x if self.good else torch.linalg.svdvals(x.reshape(-1, 8, 1)) * x)

def good():
    return Net(True), torch.zeros(1, 8)

def bad():
    return Net(False), torch.ones(1, 8)
"""


def test_for_people(cli: Cli, bars_made: Path) -> None:
    shown = cli("inspect", bars_made / "onnx-int8", "--layers", 2)
    assert shown.code == 0, shown.err
    for label in ("model", "precision", "input", "parameters", "MACs", "operators", "heaviest", "runs on"):
        assert any(line.startswith(label) for line in shown.out.splitlines()), label
    assert "more with --layers N" in shown.out
    assert all(len(line) <= 80 or len(line.split()) == 1 for line in shown.out.splitlines()), "a path is not cut"


def test_all_of_it_as_json(cli: Cli, bars_made: Path, check_document: Any) -> None:
    document = cli("inspect", bars_made / "onnx", "--json").json
    check_document(document)
    found = document["result"]
    assert len(found["layers"]) == sum(found["operators"].values())
    assert found["peak_bytes"] > 0 and found["conversions"] == []
    assert {"target": "host", "runtime": "onnxruntime", "problems": []} in found["targets"]


@pytest.mark.slow
def test_exports_are_tried_and_nothing_is_kept(cli: Cli, tmp_path: Path, check_document: Any) -> None:
    pytest.importorskip("onnxscript")
    (tmp_path / "net.py").write_text(NET)
    ended = cli("inspect", "net.py:good", "--to", "onnx", "--json")
    assert ended.code == 0, ended.err
    (entry,) = ended.json["result"]["conversions"]
    assert entry["error"] is None and entry["sqnr_db"] > 60
    ended = cli("inspect", "net.py:bad", "--to", "onnx", "--json")
    check_document(ended.json)
    (entry,) = ended.json["result"]["conversions"]
    assert ended.code == 1 and "svd" in entry["error"]["why"]
    assert {path.name for path in tmp_path.iterdir()} <= {"net.py", "__pycache__"}


@pytest.mark.slow
def test_an_artifact_of_a_run_is_tried_elsewhere(cli: Cli, bars_run: Path) -> None:
    before = sorted(bars_run.iterdir())
    ended = cli("inspect", bars_run / "torch", "--to", "onnx")
    assert ended.code == 0, ended.err
    assert "to onnx      yes" in ended.out
    assert sorted(bars_run.iterdir()) == before
    refused = cli("inspect", bars_run / "onnx-int8", "--to", "tflite")
    assert refused.code == 2 and "converted already" in refused.line
