"""`edgekit verify --layers`: for people and as --json; and without it, if a conversion fails its check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Ended

pytest.importorskip("onnxruntime")
Cli = Callable[..., Ended]


def test_for_people(cli: Cli, bars_run: Path) -> None:
    shown = cli("verify", bars_run / "onnx-int8", "--layers")
    assert shown.code == 0, shown.err
    lines = shown.out.splitlines()
    assert lines[0].startswith("onnx-int8") and "verified" in lines[0]
    assert any(line.split() == ["dB", "lost", "here", "type", "layer"] for line in lines)
    assert any(" Conv+Relu " in line for line in lines)
    assert "no operator diverges" in lines
    assert any(line.startswith("most sensitive") for line in lines)
    assert any(line.startswith("  1. ") for line in lines)
    assert max(map(len, lines[1:])) <= 80


def test_as_json(cli: Cli, bars_run: Path, check_document: Any) -> None:
    from edgekit.core import registry

    ended = cli("verify", bars_run / "onnx-int8", "--layers", "--json")
    assert ended.code == 0, ended.err
    check_document(ended.json)
    (finding,) = ended.json["result"]
    names = {o.name for o in registry.load("formats", "onnx").describe(bars_run / "onnx" / "model.onnx").operators}
    assert {layer["name"] for layer in finding["layers"]} <= names
    assert finding["sensitive"] and set(finding["sensitive"]) <= names
    assert finding["first_divergence"] is None
    assert finding["layers"][-1]["sqnr_db"] == pytest.approx(finding["parity"]["sqnr_db"], abs=3)
    assert json.loads((bars_run / "onnx-int8" / "layers.json").read_text())["against"] == "onnx"


def test_not_looked_at_unless_asked(cli: Cli, bars_run: Path) -> None:
    ended = cli("verify", bars_run, "--json")
    assert ended.code == 0, ended.err
    assert all(finding["layers"] is None for finding in ended.json["result"])
    assert not (bars_run / "onnx-int8" / "layers.json").exists()


def test_a_whole_run(cli: Cli, bars_run: Path) -> None:
    """An export has other operators than the network it came from, which is said and is no failure."""
    shown = cli("verify", bars_run, "--layers")
    assert shown.code == 0, shown.err
    assert "their operators are not the same" in " ".join(shown.out.split())
    assert "made from no other model" in shown.out
    assert "no operator diverges" in shown.out


def test_a_failure_names_the_operator_unasked(cli: Cli, bars_run: Path) -> None:
    """The scale of one activation is made fifty times too small; the record is made to fit the damaged file."""
    name = _damage(bars_run / "onnx-int8")
    ended = cli("verify", bars_run / "onnx-int8", "--json")
    assert ended.code == 1, ended.err
    (finding,) = ended.json["result"]
    assert finding["failed"] == "budget"
    assert finding["first_divergence"] == name
    shown = cli("verify", bars_run / "onnx-int8")
    assert shown.code == 1
    assert f"first to diverge: Conv+Relu {name}" in shown.out
    assert "lost here" not in shown.out, "the table was not asked for"


def _damage(folder: Path) -> str:
    import onnx
    from onnx import numpy_helper

    from edgekit.core.files import sha256

    path = folder / "model.onnx"
    model = onnx.load(str(path))
    second = [node for node in model.graph.node if node.op_type == "Conv"][1]
    quantizer = next(n for n in model.graph.node if n.op_type == "QuantizeLinear" and _reaches(second, n, model))
    scale = next(t for t in model.graph.initializer if t.name == quantizer.input[1])
    scale.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(scale) / 50, scale.name))
    onnx.save(model, str(path))
    record = json.loads((folder / "artifact.json").read_text())
    record["files"]["model.onnx"] = sha256(path)
    (folder / "artifact.json").write_text(json.dumps(record))
    return str(second.name)


def _reaches(node: Any, quantizer: Any, model: Any) -> bool:
    """Does it quantize what the node writes, directly or behind its Relu?"""
    behind = {
        *node.output,
        *(o for n in model.graph.node if n.op_type == "Relu" and n.input[0] in node.output for o in n.output),
    }
    return quantizer.input[0] in behind
