"""Ten public architectures through export to three formats and int8; `make zoo` takes all through the command line."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
from outside import timm, torchvision

import edgekit
from edgekit.core.progress import quiet
from edgekit.core.target import Plan
from edgekit.runs.recipe import Gates
from edgekit.runs.references import resolve
from edgekit.workflows.chains import extend
from edgekit.workflows.routes import route
from edgekit.workflows.setup import silent

sys.path.append(str(Path(__file__).parent / "benchmarks" / "zoo"))
architectures, page, stages = (importlib.import_module(name) for name in ("architectures", "page", "stages"))

NETWORKS, FORMATS = architectures.NETWORKS, stages.FORMATS
#: those of no package first: the first test pays for the imports of every converter
CORE = [name for name in reversed(NETWORKS) if NETWORKS[name].core]


def test_the_core() -> None:
    assert len(CORE) == 10
    assert {NETWORKS[name].package for name in CORE} == {"torchvision", "timm", "none"}
    assert len(NETWORKS) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("name", CORE)
def test_export_and_int8(name: str, tmp_path: Path) -> None:
    {"torchvision": torchvision, "timm": timm, "none": lambda: None}[NETWORKS[name].package]()
    module, example = architectures.made(name)
    run = tmp_path / "run"
    inputs = tuple(example.values()) if isinstance(example, dict) else example
    edgekit.import_model(module, example=inputs, out=run, progress=False)
    values = {key: value.numpy() for key, value in architectures.samples(NETWORKS[name], 32).items()}
    np.savez(tmp_path / "samples.npz", **values)
    chains = [[*route("torch", format), f"{format}_int8"] for format in FORMATS]
    fields = {"calibration": str(tmp_path / "samples.npz")}
    outcome = extend(resolve(str(run)), chains, Plan(), Gates(), "host", fields["calibration"], fields, quiet, silent)

    checked = {finding.artifact: finding for finding in outcome.findings}
    for format in FORMATS:
        exported, small = checked[format], checked[f"{format}-int8"]
        assert not exported.failed and exported.parity and exported.parity.sqnr_db > 60, exported
        # the top classes of random weights are too close to each other for the floor of top-1 agreement
        assert small.failed in ("", "floor") and small.parity and not small.parity.constant, small
        assert small.parity.sqnr_db > 10, small


RESULTS = {
    "resnet18": {
        "import": {"code": 0, "seconds": 1.0, "why": ""},
        "export": {
            "code": 1,
            "seconds": 2.0,
            "why": "several",
            "formats": {
                "onnx": {"sqnr_db": 120.4, "unverified": ""},
                "tflite": {"why": "no aten.x"},
                "openvino": {"why": "no aten.x"},
            },
        },
        "int8": {"code": 0, "seconds": 3.0, "why": "", "formats": {"onnx": {"sqnr_db": 30.0, "unverified": ""}}},
        "prune": {"code": 0, "seconds": 1.0, "why": "", "macs": 0.52},
        "bench": {"code": 0, "seconds": 1.0, "why": "", "speedup": {"onnx": 3.14}},
    },
    "lstm": {"import": {"code": 70, "seconds": 1.0, "why": "a bug"}},
}


def test_the_page_says_what_works_and_why_not() -> None:
    text = page.document(RESULTS)
    assert "| `resnet18` | 96 × 96 | 120 | no | no | 30 (3.1×) |" in text
    assert "- `resnet18`, export to tflite, openvino: no aten.x" in text
    assert "2 of" in text and "1 are imported, 0 exported to all three formats" in text
    assert "1 commands ended in a crash" in text
    assert "- `lstm`, import: a bug" in text
    assert stages.bug(RESULTS["lstm"]["import"]) and not stages.bug(RESULTS["resnet18"]["export"])
