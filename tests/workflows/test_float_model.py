"""What is said about the float model and its samples before anything is made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.artifact import Artifact, Kind, Sizes, TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature
from edgekit.sets.reading import sample_set
from edgekit.workflows import quantize
from edgekit.workflows.float_model import batch_norm_warning, range_warnings

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

RNG = np.random.default_rng(0)
NORMALIZED = InputSignature("image", scale=1 / 255, mean=(0.5,), std=(0.25,))
GREY = InputSignature("image")


def model(signature: InputSignature | None = None, **details: Any) -> Artifact:
    spec = TensorSpec("x", "float32", (None, 3), signature=signature)
    kind, sizes = Kind("onnx"), Sizes(0, 0, 0, 0)
    return Artifact("onnx", "id", kind, "import", {}, (), "", (spec,), (), sizes, {}, Path(), details=details)


def warnings(artifact: Artifact, values: Any) -> list[str]:
    return list(range_warnings(sample_set("photos", {"x": np.asarray(values, np.float32)}, None), artifact, artifact))


EXAMPLE = {"statistics": {"x": {"mean": 0.0, "std": 1.0, "min": -2.5, "max": 2.5}}}


@pytest.mark.parametrize("artifact", [model(NORMALIZED), model(**EXAMPLE)])
def test_grey_levels_for_a_network_of_normalized_images(artifact: Artifact) -> None:
    (warning,) = warnings(artifact, RNG.uniform(0, 255, (40, 3)))
    assert "the samples of 'x' in photos are from" in warning and "are they not normalized? give --signature" in warning
    assert not warnings(artifact, RNG.normal(size=(40, 3)))
    assert not warnings(artifact, RNG.uniform(0, 1, (40, 3)))


def test_normalized_images_for_a_network_of_grey_levels() -> None:
    (warning,) = warnings(model(GREY), RNG.uniform(0, 1, (40, 3)))
    assert "are they normalized already?" in warning
    assert not warnings(model(GREY), RNG.uniform(0, 255, (40, 3)))


@pytest.mark.parametrize(("trained", "given"), [(1.0, 255.0), (255.0, 1.0), (1.0, 1.0), (255.0, 100.0)])
def test_the_first_batch_norm_knows_the_scale_of_its_training(
    trained: float, given: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Conv1d(3, 8, 1), torch.nn.BatchNorm1d(8), torch.nn.ReLU())
    with torch.no_grad():
        for _ in range(60):
            network.train()(trained * torch.rand(32, 3, 5))
    monkeypatch.setattr("edgekit.networks.load", lambda folder: network.eval())
    root = replace(model(), kind=Kind("torch"))
    warning = batch_norm_warning(sample_set("photos", {"x": np.float32(given * RNG.random((40, 3, 5)))}, None), root)
    if trained == 1 and given == 255:
        assert "times what they had in training: are they not normalized?" in warning
    elif given == 1 and trained == 255:
        assert "are they normalized already?" in warning
    else:
        assert warning == ""


@pytest.mark.parametrize("error", [ImportError("no torch"), InputError("net.py is not here")])
def test_without_torch_or_its_code_another_format_is_quantized_all_the_same(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(folder: Path) -> Any:
        raise error

    monkeypatch.setattr("edgekit.networks.load", load)
    root = replace(model(), kind=Kind("torch"))
    assert batch_norm_warning(sample_set("photos", {"x": np.ones((4, 3), np.float32)}, None), root) == ""


def test_nothing_is_said_where_nothing_is_known() -> None:
    assert not warnings(model(), RNG.uniform(0, 255, (40, 3)))


def classifier(path: Path) -> Path:
    """Its class is the largest of its six inputs."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", 6]) for n in "xy"]
    weights = numpy_helper.from_array(np.eye(6, dtype=np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weights])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


@pytest.mark.parametrize("guesses", [True, False])
def test_a_float_model_that_guesses_has_no_budget(guesses: bool, tmp_path: Path) -> None:
    labels = np.arange(120) % 6
    x = (5 * np.eye(6)[RNG.permutation(labels) if guesses else labels] + RNG.normal(size=(120, 6))).astype(np.float32)
    np.savez(tmp_path / "val.npz", x=x, label=labels)
    said: list[str] = []
    outcome = quantize.quantize(
        str(classifier(tmp_path / "m.onnx")),
        precision="dynamic",
        to=["onnx"],
        val=str(tmp_path / "val.npz"),
        max_drop_pp=10,
        out=tmp_path / "run",
        say=said.append,
    )
    verdict = outcome.findings[-1].verdict
    assert verdict is not None
    loud = [note for note in outcome.notes if "the float model is no better than chance on val.npz" in note]
    if not guesses:
        assert verdict.state == "met" and not loud
        return
    assert verdict.state == "undecided" and "no better than chance" in verdict.reason
    assert "of 6 classes" in loud[0] and "--signature" in loud[0]
    index = next(i for i, line in enumerate(said) if "no better than chance on val.npz" in line)
    assert not any("made      onnx-dynamic" in line for line in said[:index]), "before anything is made"
