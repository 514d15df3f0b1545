"""Conversions that are easy to get wrong: each is right on signed, wide inputs, or edgekit refuses it with a reason."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError
from edgekit.core.progress import quiet
from edgekit.core.step import Context, Step
from edgekit.runs.store import Store
from edgekit.steps.import_network import ImportNetwork
from edgekit.steps.import_onnx import ImportOnnx
from edgekit.workflows.export import export
from edgekit.workflows.routes import route

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
for needed in ("onnxscript", "openvino", "litert_torch"):
    pytest.importorskip(needed)

import hostile  # noqa: E402

from edgekit.networks.interface import named_outputs  # noqa: E402

CONTEXT = Context(None, {}, quiet, logging.getLogger("edgekit.tests"))

Arrays = list[NDArray[Any]]
FORMATS = ("onnx", "tflite", "openvino")
SAMPLES = 6
QUICK = ("prelu_per_channel", "flatten_of_channels", "pad_reflect", "integer_division", "onnx_clip_reversed")
RIGHT = "right"


def rows(names: Any) -> list[Any]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", rows(hostile.ROWS))
def test_a_network_is_converted_or_refused(name: str, tmp_path: Path) -> None:
    verdicts = of_network(name, tmp_path)
    assert not wrong(verdicts), verdicts


@pytest.mark.parametrize("name", rows(hostile.MODELS))
def test_an_onnx_model_is_converted_or_refused(name: str, tmp_path: Path) -> None:
    verdicts = of_model(name, tmp_path)
    assert not wrong(verdicts), verdicts


def wrong(verdicts: Mapping[str, str]) -> list[str]:
    return [format for format, verdict in verdicts.items() if verdict.startswith("WRONG")]


def of_network(name: str, folder: Path) -> dict[str, str]:
    network, example, *_ = hostile.ROWS[name]()
    samples = [sampled(tensor.numpy(), seed) for seed, tensor in enumerate(example)]
    with torch.inference_mode():
        expected = [
            [tensor.numpy() for tensor in named_outputs(network.eval()(*map(torch.from_numpy, one))).values()]
            for one in singles(samples)
        ]
    return verdicts(f"{hostile.__file__}:{name}", FORMATS, samples, expected, folder)


def of_model(name: str, folder: Path) -> dict[str, str]:
    model, shape = hostile.MODELS[name]()
    kind = onnx.helper.tensor_dtype_to_np_dtype(model.graph.input[0].type.tensor_type.elem_type)
    samples = [sampled(np.zeros((1, *shape), kind), 0)]
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    expected = [session.run(None, {"x": one[0]}) for one in singles(samples)]
    return verdicts(str(path), FORMATS[1:], samples, expected, folder)


def verdicts(
    source: str, formats: Sequence[str], samples: Arrays, expected: list[Arrays], folder: Path
) -> dict[str, str]:
    """Format → "right", "refused: …" or "fails its check: …" with edgekit's reason, or "WRONG …"."""
    store = Store(folder / "run")
    importer = ImportOnnx.of(source) if source.endswith(".onnx") else ImportNetwork(source)
    try:
        model = made(importer, {}, store)
    except EdgekitError as error:
        return dict.fromkeys(formats, refusal(error))
    return {format: verdict(source, model, format, samples, expected, store) for format in formats}


def verdict(source: str, model: Artifact, format: str, samples: Arrays, expected: list[Arrays], store: Store) -> str:
    try:
        for step in route(model.kind.format, format):
            model = made(registry.load("steps", step)(), {"parent": model}, store)
    except EdgekitError as error:
        return refusal(error)
    except Exception as error:  # what would be exit code 70
        return f"WRONG: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    try:
        answers = [RUN[format](model, one) for one in singles(samples)]
        why = next(filter(None, map(difference, answers, expected)), "")
    except Exception as error:  # any runtime's own
        why = f"it cannot be run: {' '.join(str(error).split())[:200]}"
    return checked(source, format, why, store.path.with_name("checked")) if why else RIGHT


def made(step: Step, inputs: Mapping[str, Artifact], store: Store) -> Artifact:
    with store.lock():
        return store.make(step.produces.stem, step, inputs, CONTEXT)


def checked(source: str, format: str, why: str, out: Path) -> str:
    """What edgekit's own check says of a wrong conversion."""
    try:
        failures = export(source, to=[format], out=out).failures
    except EdgekitError as error:
        failures = [error]
    return f"fails its check: {failures[0]}" if failures else f"WRONG: {why}"


def test_openvino_is_said_to_compute_in_float32_what_was_float16(tmp_path: Path) -> None:
    """Its random inputs do not overflow, so the check cannot see it."""
    for name, noted in (("half_product", True), ("half_rounds", True), ("gelu_both", False)):
        outcome = export(f"{hostile.__file__}:{name}", to=["openvino"], out=tmp_path / name)
        assert not outcome.failures
        assert any("65,504" in note for note in outcome.notes) is noted, outcome.notes


def sampled(example: NDArray[Any], seed: int) -> NDArray[Any]:
    """Floats of both signs, some of them equal or zero; integers like the example's."""
    rng, shape = np.random.default_rng(seed), (SAMPLES, *example.shape[1:])
    if example.dtype.kind != "f":
        return rng.integers(0, 5, shape).astype(example.dtype)
    values = 3 * rng.normal(size=shape)
    return np.where(rng.random(shape) < 0.2, np.round(values), values).astype(example.dtype)


def singles(samples: Arrays) -> list[Arrays]:
    return [[array[i : i + 1] for array in samples] for i in range(SAMPLES)]


def refusal(error: EdgekitError) -> str:
    return f"refused: {error}" if error.code in (1, 2, 3) and error.why else f"WRONG: without a reason: {error}"


def difference(answers: Arrays, truth: Arrays) -> str:
    if len(answers) != len(truth):
        return f"{len(answers)} outputs, not {len(truth)}"
    for answer, wanted in zip(answers, truth, strict=True):
        if answer.shape != wanted.shape:
            return f"shape {answer.shape}, not {wanted.shape}"
        finite = np.abs(wanted[np.isfinite(wanted)].astype("f8"))
        scale = 2e-3 * float(finite.max(initial=0.0))
        if not np.allclose(answer.astype("f8"), wanted.astype("f8"), rtol=1e-3, atol=scale, equal_nan=True):
            return f"{answer.reshape(-1)[:6]}, not {wanted.reshape(-1)[:6]}"
    return ""


def in_onnxruntime(artifact: Artifact, inputs: Arrays) -> Arrays:
    session = onnxruntime.InferenceSession(artifact.path / "model.onnx", providers=["CPUExecutionProvider"])
    feed = {spec.name: array for spec, array in zip(artifact.inputs, inputs, strict=True)}
    taken = {value.name for value in session.get_inputs()}
    return session.run(None, {name: array for name, array in feed.items() if name in taken})


def in_litert(artifact: Artifact, inputs: Arrays) -> Arrays:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(artifact.path / "model.tflite"))
    interpreter.allocate_tensors()
    for detail, array in zip(interpreter.get_input_details(), inputs, strict=True):
        interpreter.set_tensor(detail["index"], array.astype(detail["dtype"]))
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]


def in_openvino(artifact: Artifact, inputs: Arrays) -> Arrays:
    import openvino

    config = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(artifact.path / "model.xml", "CPU", config)
    results = compiled(inputs)
    return [np.array(results[port]) for port in compiled.outputs]


RUN = {"onnx": in_onnxruntime, "tflite": in_litert, "openvino": in_openvino}
