"""Weight-only int8 and int4 of a tiny transformer-like graph with a tied head, in ONNX Runtime and OpenVINO."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_files import save
from tiny_transformer import WIDTH, WORDS, network

from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import CannotConvert, InputError
from edgekit.core.progress import quiet
from edgekit.core.step import Context
from edgekit.runs.store import Store
from edgekit.sets.reading import sample_set

RNG = np.random.default_rng(3)
FILES = {"onnx": ("model.onnx", "onnxruntime"), "openvino": ("model.xml", "openvino")}
IDS = RNG.integers(0, WORDS, (40, 12))


class Made:
    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, Store(folder / "run")

    def imported(self, path: Path, name: str, format: str = "onnx") -> Artifact:
        if format == "openvino":
            import openvino

            openvino.save_model(openvino.Core().read_model(path), path.with_suffix(".xml"), compress_to_fp16=False)
            path = path.with_suffix(".xml")
        return self.get(name, registry.load("steps", f"import_{format}")(path=str(path)))

    def get(self, name: str, step: Any, parent: Artifact | None = None) -> Artifact:
        data = {"calibration": sample_set("ids", {"ids": IDS}, None)} if parent and step.sets(None) else {}
        context = Context(None, data, quiet, logging.getLogger("edgekit"))
        with self.store.lock():
            return self.store.make(name, step, {"parent": parent} if parent else {}, context)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def plain(made: Made) -> dict[str, Artifact]:
    return {format: made.imported(network(made.folder / f"{format}.onnx"), format, format) for format in FILES}


def answers(artifact: Artifact, ids: np.ndarray = IDS) -> np.ndarray:
    file, runtime = FILES[artifact.kind.format]
    session = registry.load("runtimes", runtime)(str(artifact.path / file), 1, "fp32", {})
    return np.asarray(session.bind({"ids": ids})()[0])


def facts(artifact: Artifact) -> Any:
    return registry.load("formats", artifact.kind.format).describe(artifact.path / FILES[artifact.kind.format][0])


def decibels(artifact: Artifact, like: Artifact) -> float:
    return statistics.sqnr_db(answers(like), answers(artifact))


def step(format: str, bits: int, **fields: Any) -> Any:
    return registry.load("steps", f"{format}_w{bits}")(**fields)


@pytest.mark.parametrize("format", FILES)
@pytest.mark.parametrize("bits", [8, 4])
def test_the_file_says_what_it_is(made: Made, plain: dict[str, Artifact], format: str, bits: int) -> None:
    before, after = facts(plain[format]), None
    artifact = made.get(f"{format}-w{bits}", step(format, bits, calibration="x"), plain[format])
    after = facts(artifact)
    assert after.traits == {f"w{bits}"} and artifact.kind.precision == f"w{bits}"
    assert after.parameters == before.parameters
    assert sum(o.macs or 0 for o in after.operators) == sum(o.macs or 0 for o in before.operators)
    assert artifact.inputs == plain[format].inputs and artifact.outputs == plain[format].outputs
    assert artifact.sizes.total < plain[format].sizes.total
    assert f"int{bits} blocks of 32, asymmetric" in after.quantized if bits == 4 else "int8" in after.quantized
    assert decibels(artifact, plain[format]) > (36 if bits == 8 else 18)


@pytest.mark.parametrize("format", FILES)
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block", [0, 32])
def test_runtimes_compute_with_these_weights(
    made: Made, plain: dict[str, Artifact], format: str, block: int, symmetric: bool
) -> None:
    """The runtime's outputs are those of the float graph with the weights that the codes stand for."""
    for bits, head in ((4, "4"), (8, "8")):
        fields = {
            "block": block,
            "symmetric": "yes" if symmetric else "no",
            "embeddings": head,
            "head": head,
            "weight_method": "rtn",
        }
        exact = {"accuracy_level": 0} if format == "onnx" else {}
        artifact = made.get(f"{format}-w{bits}~all", step(format, bits, **fields, **exact), plain[format])
        expected = made.imported(_with_weights(made, bits, block, symmetric, format), "expected")
        assert statistics.sqnr_db(answers(expected), answers(artifact)) > 90


def _with_weights(made: Made, bits: int, block: int, symmetric: bool, format: str) -> Path:
    from edgekit.compression.weight_only.codes import Grid, rounded
    from edgekit.steps.shared.openvino_weights import OpenvinoWeights

    path = network(made.folder / "expected.onnx")
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        if len(tensor.dims) != 2:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        turned = tensor.name == "up"
        matrix = np.ascontiguousarray(values.T if turned else values)
        grid = Grid(bits, block, symmetric)
        grid = OpenvinoWeights.fitted(None, grid, matrix.shape[1]) if format == "openvino" or bits == 8 else grid  # type: ignore[arg-type]
        values = rounded(matrix, grid).values
        tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(values.T if turned else values), tensor.name))
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize("format", FILES)
def test_samples_bring_it_nearer(made: Made, plain: dict[str, Artifact], format: str) -> None:
    near = {
        method: decibels(
            made.get(f"{format}-w4~{method}", step(format, 4, weight_method=method, calibration="x"), plain[format]),
            plain[format],
        )
        for method in ("rtn", "scale", "awq", "gptq")
    }
    assert near["gptq"] > max(near["rtn"], near["scale"], near["awq"]) + 1 and near["scale"] != near["rtn"], near


@pytest.mark.parametrize("format", FILES)
def test_a_tied_head_is_stored_once(made: Made, plain: dict[str, Artifact], format: str) -> None:
    artifact = made.get(f"{format}-w8~tied", step(format, 8), plain[format])
    untied = made.imported(network(made.folder / "untied.onnx", tied=False), f"{format}~untied", format)
    twice = made.get(f"{format}-w8~untied", step(format, 8), untied)
    assert twice.sizes.weights - artifact.sizes.weights > 0.9 * WORDS * WIDTH
    with pytest.raises(InputError, match="cannot have other bits"):
        made.get(f"{format}-w4~no", step(format, 4, embeddings="4", head="8"), plain[format])
    floats = made.get(f"{format}-w4~float", step(format, 4, embeddings="float", head="float"), plain[format])
    assert "int8" not in facts(floats).quantized and facts(floats).parameters == facts(artifact).parameters


@pytest.mark.parametrize("format", FILES)
def test_some_products_keep_more_bits(made: Made, plain: dict[str, Artifact], format: str) -> None:
    low, one, all_ = (
        made.get(f"{format}-w4~{n}", step(format, 4, raised=n, weight_method="rtn"), plain[format]) for n in (0, 1, 2)
    )
    assert decibels(low, plain[format]) < decibels(one, plain[format]) < decibels(all_, plain[format])
    assert low.sizes.total < one.sizes.total < all_.sizes.total
    assert len(one.details["weight_only"]["raised"]) == 1 and "1 of 2 in int8" in one.scheme
    fields = {"max_mb": (0.1 * low.sizes.total + 0.9 * all_.sizes.total) / 1e6, "weight_method": "rtn"}
    fitting = made.get(f"{format}-w4~fit", step(format, 4, **fields), plain[format])
    assert low.sizes.total < fitting.sizes.total <= 1e6 * fields["max_mb"]  # type: ignore[operator]
    with pytest.raises(CannotConvert, match="as small as"):
        made.get(f"{format}-w4~no", step(format, 4, max_mb=0.001, weight_method="rtn"), plain[format])


@pytest.mark.parametrize("format", FILES)
def test_nothing_to_quantize_is_refused(made: Made, plain: dict[str, Artifact], format: str, tmp_path: Path) -> None:
    ends = [("x", TensorProto.FLOAT, ["N", 8, 8, 8])], [("y", TensorProto.FLOAT, ["N", 16, 6, 6])]
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"])]
    path = save(tmp_path / "conv.onnx", nodes, *ends, {"w": np.ones((16, 8, 3, 3), np.float32)})
    with pytest.raises(CannotConvert, match="convolutions stay float") as caught:
        made.get("no", step(format, 4), made.imported(path, f"{format}~conv", format))
    assert "--int8" in caught.value.next
    ends = [("x", TensorProto.FLOAT, ["N", 8])], [("y", TensorProto.FLOAT, ["N", 200])]
    path = save(
        tmp_path / "thin.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        *ends,
        {"w": np.ones((8, 200), np.float32)},
    )
    with pytest.raises(CannotConvert, match="nothing of"):
        made.get("no", step(format, 8), made.imported(path, f"{format}~thin", format))


def test_the_options_are_checked() -> None:
    problems = {
        "block": list(step("onnx", 4, block=24).check(None)),
        "weight_method": list(step("onnx", 4, weight_method="gptq").check(None)),
        "raised": list(step("onnx", 8, raised=1).check(None)),
        "max_mb": list(step("onnx", 4, raised=1, max_mb=1).check(None)),
        "samples": list(step("onnx", 4, samples=0).check(None)),
    }
    assert all((len(found) == 1 and name in found[0]) or name == "weight_method" for name, found in problems.items()), (
        problems
    )
    assert not list(step("onnx", 4).check(None)), "without samples it takes what needs none"


def test_half_precision_weights(made: Made, tmp_path: Path) -> None:
    """Constants of float16 that are cast to float32."""
    path = network(tmp_path / "half.onnx", tied=False)
    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        if tensor.name in ("up", "head"):
            half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{tensor.name}/half"))
    for name in ("up", "head"):
        model.graph.node.insert(0, helper.make_node("Cast", [f"{name}/half"], [name], to=TensorProto.FLOAT))
    onnx.save(model, str(path))
    floats = made.imported(path, "halves")
    small = made.get("halves-w8", step("onnx", 8), floats)
    assert decibels(small, floats) > 30
    assert "3 int8 per channel" in facts(small).quantized and facts(small).parameters == facts(floats).parameters


@pytest.mark.parametrize("bits", [4, 8])
def test_activations_in_int8_cost_little(made: Made, plain: dict[str, Artifact], bits: int) -> None:
    """ONNX Runtime's accuracy level 4; int8 is then kept in memory, too."""
    exact, rounded = (
        made.get(f"onnx-w{bits}~{n}", step("onnx", bits, accuracy_level=n), plain["onnx"]) for n in (0, 4)
    )
    assert 25 < statistics.sqnr_db(answers(exact), answers(rounded)) < 80
    types = [[node.op_type for node in onnx.load(str(a.path / "model.onnx")).graph.node] for a in (exact, rounded)]
    assert types[1].count("MatMulNBits") == 3 and types[0].count("MatMulNBits") == (2 if bits == 4 else 0)
    assert facts(rounded).parameters == facts(exact).parameters and facts(rounded).traits == {f"w{bits}"}
    assert rounded.details["weight_only"]["accuracy_level"] == 4
    default = step("onnx", bits).weights(plain["onnx"].path / "model.onnx", plain["onnx"])
    assert default.level == (4 if bits == 4 else 0)


def test_the_id_depends_on_every_option() -> None:
    steps = {
        step("onnx", 4, **{f.name: v}) for f, v in zip(dataclasses.fields(step("onnx", 4)), ["s"] * 20, strict=False)
    }
    assert len(steps) == len(dataclasses.fields(step("onnx", 4)))
