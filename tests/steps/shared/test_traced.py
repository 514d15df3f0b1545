"""Options of the exporters: open axes, a fixed batch, the layout and the preprocessing at the model's edge."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgekit.core.artifact import Artifact, Kind
from edgekit.core.errors import InputError
from edgekit.core.progress import quiet
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature, Signature
from edgekit.core.step import Context, Step, StepResult
from edgekit.core.target import Plan
from edgekit.formats.tflite import read
from edgekit.measure import targets
from edgekit.measure.verify import Finding, Verifier
from edgekit.networks import named
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store
from edgekit.sets import reading
from edgekit.steps.tflite_int8 import TfliteInt8
from edgekit.steps.to_onnx import ToOnnx
from edgekit.steps.to_openvino import ToOpenvino
from edgekit.steps.to_tflite import ToTflite

torch = pytest.importorskip("torch")
pytest.importorskip("litert_torch")
pytest.importorskip("onnxscript")
pytest.importorskip("openvino")

SHAPE = (3, 16, 12)
SIGNED = InputSignature("image", layout="NCHW", scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
EXPORTERS = [ToTflite, ToOnnx, ToOpenvino]


def _images() -> SampleSet:
    """What SIGNED makes of random images."""
    pixels = np.random.default_rng(1).integers(0, 256, (12, *SHAPE)).astype(np.float32)
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (SIGNED.mean, SIGNED.std))
    images = ((pixels * np.float32(SIGNED.scale) - mean) / std).astype(np.float32)
    return reading.sample_set("images", {"input": images}, None)


@dataclass(frozen=True)
class Network(Step):
    produces: ClassVar[Kind] = Kind("torch")

    signed: bool = True

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        torch.manual_seed(0)
        arguments = {"shape": list(SHAPE), "classes": 5, "mean": [0.0] * 3, "std": [1.0] * 3}
        specs = {
            "inputs": [{"name": "input", "dtype": "float32", "shape": [None, *SHAPE]}],
            "outputs": [{"name": "logits", "dtype": "float32", "shape": [None, 5]}],
        }
        named.save(named.build("ds-cnn", arguments).eval(), "ds-cnn", arguments, specs, out)
        return StepResult(signature=Signature((SIGNED,)) if self.signed else Signature())


class Run:
    def __init__(self, path: Path, *, signed: bool = True) -> None:
        self.store, self.data = Store(path), _images()
        self.context = Context(None, {"calibration": self.data}, quiet, logging.getLogger("edgekit.tests"))
        self.torch = self.make(Network(signed), "torch")
        host = dataclasses.replace(
            targets.load("host"), runtimes={"torch": "", "litert": "", "onnxruntime": "", "openvino": ""}
        )
        self.verifier = Verifier(self.store, host, self.data, None, Gates(), Plan(processes=1))

    def make(self, step: Step, name: str, parent: Artifact | None = None) -> Artifact:
        with self.store.lock():
            return self.store.make(name, step, {"parent": parent} if parent else {}, self.context)

    def exported(self, step: Step) -> tuple[Artifact, Finding]:
        artifact = self.make(step, step.produces.stem, self.torch)
        return artifact, self.verifier.check(artifact, "outputs")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("traced"))


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_nhwc_is_verified_against_the_nchw_network(exporter: Any, run: Run) -> None:
    artifact, finding = run.exported(exporter(layout="nhwc"))
    assert artifact.inputs[0].shape[1:] == (16, 12, 3)
    assert artifact.inputs[0].signature == dataclasses.replace(SIGNED, layout="NHWC", colour="RGB")
    assert not finding.failed and finding.parity is not None and finding.parity.sqnr_db > 100


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_embedded_preprocessing_takes_bytes(exporter: Any, run: Run) -> None:
    artifact, finding = run.exported(exporter(embed_preprocessing=True))
    spec = artifact.inputs[0]
    assert (spec.dtype, spec.shape[1:]) == ("uint8", (16, 12, 3))
    assert spec.signature == InputSignature("image", layout="NHWC", colour="RGB")
    assert not finding.failed and finding.parity is not None and finding.parity.sqnr_db > 100


def test_nhwc_leaves_no_transpose_in_tflite(run: Run) -> None:
    for options in ({"layout": "nhwc"}, {"embed_preprocessing": True}):
        artifact, _ = run.exported(ToTflite(**options))
        assert artifact.details["transposes"] == 0


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_a_fixed_batch(exporter: Any, run: Run) -> None:
    artifact, finding = run.exported(exporter(batch=3))
    assert artifact.inputs[0].shape == (3, *SHAPE)
    assert not finding.failed and finding.parity is not None and finding.parity.sqnr_db > 100


@pytest.mark.parametrize(("dynamic", "first"), [("none", 1), ("batch", None), ("input:0", None)])
def test_dynamic_axes_are_chosen(dynamic: str, first: int | None, run: Run) -> None:
    artifact, finding = run.exported(ToOnnx(dynamic=dynamic))
    assert artifact.inputs[0].shape == (first, *SHAPE)
    assert not finding.failed


def test_the_operator_set_is_chosen(run: Run) -> None:
    import onnx

    artifact, _ = run.exported(ToOnnx(opset=18))
    assert onnx.load(artifact.path / "model.onnx").opset_import[0].version == 18


def test_impossible_options_are_refused_with_the_reason(run: Run) -> None:
    assert list(ToOnnx(opset=17).check(None)) == ["opset must be from 18 to 23, which torch's exporter writes"]
    assert "tflite files have no dynamic axes" in next(ToTflite(dynamic="batch").check(None))
    assert "either fixed or dynamic" in next(ToOnnx(dynamic="batch", batch=2).check(None))
    assert "INPUT:AXIS" in next(ToOnnx(dynamic="all").check(None))
    with pytest.raises(InputError, match="axis 2 of 'input' cannot stay open"):
        run.exported(ToOnnx(dynamic="input:2"))


def test_preprocessing_needs_a_signature(tmp_path: Path) -> None:
    run = Run(tmp_path, signed=False)
    with pytest.raises(InputError, match="cannot be embedded: no signature"):
        run.exported(ToOnnx(embed_preprocessing=True))
    artifact, finding = run.exported(ToOnnx(layout="nhwc"))
    assert artifact.inputs[0].shape == (None, 16, 12, 3)
    assert not finding.failed


@pytest.mark.parametrize(("given", "returned"), [("uint8", "uint8"), ("float32", "float32"), ("int8", "float32")])
def test_types_at_the_edges_of_int8(given: Any, returned: Any, run: Run) -> None:
    parent, _ = run.exported(ToTflite())
    plain = run.make(TfliteInt8(calibration="x"), "plain", parent)
    typed = run.make(TfliteInt8(calibration="x", input_type=given, output_type=returned), "typed", parent)
    assert (typed.inputs[0].dtype, typed.outputs[0].dtype) == (given, returned)
    assert typed.inputs[0].name == "input"
    graph = read(typed.path / "model.tflite").subgraphs[0]
    assert (typed.inputs[0].quantization is None) == (given == "float32")
    assert len({tensor.name for tensor in graph.tensors}) == len(graph.tensors)
    np.testing.assert_array_equal(run.verifier.outputs(typed)["logits"], run.verifier.outputs(plain)["logits"])
