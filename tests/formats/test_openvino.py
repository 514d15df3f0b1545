"""The OpenVINO reader on IRs written by hand: what it counts, and what it refuses. OpenVINO itself is not needed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.formats.openvino import Openvino

WIDTH = {"f32": 4, "f16": 2, "i8": 1, "i64": 8}


class Ir:
    """An IR in the making: layers by number, each with one output."""

    def __init__(self) -> None:
        self.layers: list[str] = []
        self.edges: list[str] = []
        self.bytes = 0

    def constant(self, type: str, *shape: int) -> int:
        size = int(np.prod(shape)) * WIDTH[type]
        text = ", ".join(map(str, shape))
        data = f'<data element_type="{type}" shape="{text}" offset="{self.bytes}" size="{size}" />'
        self.bytes += size
        return self.add("Const", shape, data)

    def add(
        self, type: str, shape: Sequence[int] | None, data: str = "", inputs: Sequence[int] = (), more: str = ""
    ) -> int:
        number = len(self.layers)
        output = ""
        if shape is not None:
            dims = "".join(f"<dim>{size}</dim>" for size in shape)
            output = f'<output><port id="9" precision="FP32" names="{type.lower()}{number}">{dims}</port></output>'
        self.layers.append(f'<layer id="{number}" name="n{number}" type="{type}"{more}>{data}{output}</layer>')
        for port, source in enumerate(inputs):
            edge = f'<edge from-layer="{source}" from-port="9" to-layer="{number}" to-port="{port}" />'
            self.edges.insert(0, edge)  # any order will do
        return number

    def text(self, version: str = "11", extra: str = "") -> str:
        layers, edges = "".join(self.layers), "".join(self.edges)
        graph = f"<layers>{layers}</layers><edges>{edges}</edges>{extra}"
        return f'<?xml version="1.0"?><net name="m" version="{version}">{graph}</net>'

    def write(self, folder: Path, version: str = "11", extra: str = "") -> Path:
        path = folder / "model.xml"
        path.write_text(self.text(version, extra))
        path.with_suffix(".bin").write_bytes(bytes(self.bytes))
        return path


def network(weight_type: str = "f32", quantized: bool = False) -> Ir:
    """conv 3 x 3 (2 → 4) with bias, depthwise conv, and a linear layer; its weights stored as asked."""
    ir = Ir()

    def weight(*shape: int) -> int:
        stored = ir.constant(weight_type, *shape)
        if weight_type == "f32":
            return stored
        as_float = ir.add("Convert", shape, inputs=[stored])
        if weight_type == "f16":
            return as_float
        ones = [shape[0]] + [1] * (len(shape) - 1)
        zero = ir.add("Convert", ones, inputs=[ir.constant("i8", *ones)])
        centred = ir.add("Subtract", shape, inputs=[as_float, zero])
        return ir.add("Multiply", shape, inputs=[centred, ir.constant("f32", *ones)])

    x = ir.add("Parameter", (-1, 2, 8, 8))
    if quantized:
        ranges = [ir.constant("f32", 1, 2, 1, 1) for _ in range(4)]
        x = ir.add("FakeQuantize", (-1, 2, 8, 8), '<data levels="256" />', [x, *ranges])
    conv = ir.add("Convolution", (-1, 4, 6, 6), inputs=[x, weight(4, 2, 3, 3)])
    bias = ir.add("Add", (-1, 4, 6, 6), inputs=[conv, ir.constant("f32", 1, 4, 1, 1)])
    depthwise = ir.add("GroupConvolution", (-1, 4, 4, 4), inputs=[bias, weight(4, 1, 1, 3, 3)])
    flat = ir.add("Reshape", (-1, 64), inputs=[depthwise, ir.constant("i64", 2)])
    data = '<data transpose_a="false" transpose_b="true" />'
    linear = ir.add("MatMul", (-1, 10), data, [flat, weight(10, 64)])
    ir.add("Result", None, inputs=[linear], more=' output_names="logits"')
    return ir


WEIGHTS = 4 * 2 * 9 + 4 * 9 + 10 * 64


def test_float_network(tmp_path: Path) -> None:
    extra = '<rt_info><Runtime_version value="2026.4.1" /></rt_info>'
    path = network().write(tmp_path, extra=extra)
    facts = Openvino.describe(path)
    assert facts.inputs == (TensorSpec("parameter0", "float32", (None, 2, 8, 8)),)
    assert facts.outputs == (TensorSpec("logits", "float32", (None, 10)),)
    assert facts.parameters == WEIGHTS + 4  # and the bias
    assert [o.type for o in facts.operators] == ["Convolution", "Add", "GroupConvolution", "Reshape", "MatMul"]
    assert [o.parameters for o in facts.operators] == [72, 4, 36, 0, 640]
    assert [o.macs for o in facts.operators] == [4 * 36 * 2 * 9, 0, 4 * 16 * 9, 0, 640]
    assert facts.traits == frozenset()
    assert facts.sizes.weights == 4 * WEIGHTS
    assert facts.sizes.total == path.stat().st_size + path.with_suffix(".bin").stat().st_size
    assert facts.sizes.metadata == len(extra)
    assert facts.sizes.graph == facts.sizes.total - facts.sizes.weights - facts.sizes.metadata
    assert facts.details["weight_types"] == {"f32": 3}
    assert facts.details["made_by"] == "2026.4.1"


@pytest.mark.parametrize(
    ("stored", "quantized", "trait", "width"),
    [("f16", False, "fp16", 2), ("i8", True, "int8", 1), ("i8", False, "w8", 1), ("f32", True, "int8", 4)],
)
def test_weights_are_counted_through_their_encoding(
    tmp_path: Path, stored: str, quantized: bool, trait: str, width: int
) -> None:
    """Scales, zero points and ranges are of rank 4 too, and still neither weights nor parameters."""
    facts = Openvino.describe(network(stored, quantized).write(tmp_path))
    assert facts.traits == frozenset({trait})
    assert facts.sizes.weights == width * WEIGHTS
    assert facts.parameters == WEIGHTS + 4
    held = {o.type: o.parameters for o in facts.operators if o.parameters}
    assert held == {"Convolution": 72, "Add": 4, "GroupConvolution": 36, "MatMul": 640}
    assert sum(o.macs or 0 for o in facts.operators) == 4 * 36 * 18 + 4 * 16 * 9 + 640


def test_an_embedding_added_counts_and_a_shared_constant_counts_once(tmp_path: Path) -> None:
    ir = Ir()
    x = ir.add("Parameter", (-1, 5, 8))
    table, square = ir.constant("f32", 1, 5, 8), ir.constant("f32", 8, 8)
    y = ir.add("Add", (-1, 5, 8), inputs=[x, table])
    for _ in range(2):
        y = ir.add("MatMul", (-1, 5, 8), inputs=[y, square])
    ir.add("Result", None, inputs=[y])
    facts = Openvino.describe(ir.write(tmp_path))
    assert facts.sizes.weights == 4 * (40 + 64)
    assert facts.parameters == 40 + 64
    assert [o.macs for o in facts.operators] == [0, 5 * 8 * 8, 5 * 8 * 8]
    assert facts.outputs[0].name == "matmul5"  # what feeds a result lends it its name


def test_bodies_of_loops_are_read_too(tmp_path: Path) -> None:
    inner = network()
    ir = Ir()
    ir.bytes = inner.bytes
    x = ir.add("Parameter", (-1, 2))
    body = re.sub(r".*(<layers>.*</edges>).*", r"<body>\1</body>", inner.text())
    y = ir.add("TensorIterator", (-1, 2), body, [x])
    ir.add("Result", None, inputs=[y])
    facts = Openvino.describe(ir.write(tmp_path))
    assert [spec.shape for spec in facts.inputs] == [(None, 2)]
    assert facts.parameters == WEIGHTS + 4
    assert "TensorIterator" in {o.type for o in facts.operators}


def test_macs_are_unknown_where_shapes_are(tmp_path: Path) -> None:
    ir = Ir()
    x = ir.add("Parameter", (-1, 1, -1, -1))
    y = ir.add("Convolution", (-1, 4, -1, -1), inputs=[x, ir.constant("f32", 4, 1, 3, 3)])
    ir.add("Result", None, inputs=[y])
    facts = Openvino.describe(ir.write(tmp_path))
    assert facts.operators[0].macs is None
    assert facts.inputs[0].shape == (None, 1, None, None)


def test_the_weights_file_must_be_there_and_whole(tmp_path: Path) -> None:
    path = network().write(tmp_path)
    weights = path.with_suffix(".bin")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"model\.bin has .* where its constants need"):
        Openvino.describe(path)
    weights.unlink()
    with pytest.raises(InputError, match=r"weights file model\.bin is missing"):
        Openvino.describe(path)
    weights.write_bytes(whole + b"padding")
    assert Openvino.describe(path).parameters


DANGEROUS = '<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><net version="11">&b;</net>'


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "cannot be parsed"),
        (b"not a model at all\n", "cannot be parsed"),
        (bytes(range(256)) * 8, "cannot be parsed"),
        (b"<html><body>404</body></html>", "no <net>"),
        (b'<net version="11"></net>', "no <net> with <layers>"),
        (b'<net version="11"><layers></layers></net>', "no outputs"),
        (network().text("99").encode(), "IR version 99"),
        (DANGEROUS.encode(), "DOCTYPE"),
        (DANGEROUS.encode("utf-16"), "DOCTYPE"),
        (network().text().replace('to-layer="2"', 'to-layer="77"').encode(), "'77' is missing"),
        (network().text().replace('layer id="1"', 'layer id="0"').encode(), "two layers"),
        (network().text().replace('size="288"', 'size="8"').encode(), "cannot have shape"),
        (network().text().replace("<dim>64</dim>", "<dim>many</dim>").encode(), "damaged"),
    ],
)
def test_what_is_not_a_model_is_refused_with_a_reason(tmp_path: Path, raw: bytes, why: str) -> None:
    path = network().write(tmp_path)
    path.write_bytes(raw)
    with pytest.raises(InputError, match=why):
        Openvino.describe(path)


def test_weights_are_not_read_through_a_link_to_another_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = network().write(tmp_path / "model")
    weights = path.with_suffix(".bin")
    weights.rename(tmp_path / "secret")
    weights.symlink_to(tmp_path / "secret")
    with pytest.raises(InputError, match="link to another folder"):
        Openvino.describe(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Openvino.describe(tmp_path / "none.xml")
    with pytest.raises(InputError, match="is a folder"):
        Openvino.describe(tmp_path)


def test_a_cut_file_never_passes(tmp_path: Path) -> None:
    path = network("i8", True).write(tmp_path)
    whole = path.read_bytes()
    for length in range(0, len(whole) - 1, 97):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError):
            Openvino.describe(path)


def test_damage_is_refused_or_read_but_never_crashes(tmp_path: Path) -> None:
    path = network("i8", True).write(tmp_path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for at in rng.integers(len(whole), size=rng.integers(1, 4)):
            damaged[at] = rng.choice(list(b'0123456789-<>"= aZ/,')) if rng.random() < 0.8 else rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            Openvino.describe(path)
        except InputError:
            refused += 1
    assert refused > 100
