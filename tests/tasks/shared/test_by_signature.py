"""Metrics of models without a task where labels are classes: by the signature, or as asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.core import metrics
from edgekit.core.artifact import Artifact, Kind, Sizes, TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.signature import OutputSignature
from edgekit.core.task import chosen_metric
from edgekit.tasks.shared import by_signature


def model(**kinds: str) -> Artifact:
    outputs = tuple(
        TensorSpec(name, "float32", (None, 30), signature=OutputSignature(kind)) for name, kind in kinds.items()
    )
    tensors = (TensorSpec("x", "float32", (None, 8)),), outputs, Sizes(1, 1, 0, 0), {}, Path("onnx")
    return Artifact("onnx", "id", Kind("onnx"), "import_onnx", {}, (), "", *tensors)


def data(count: int = 60, dtype: str = "int64") -> SampleSet:
    return SampleSet("set", {"x": np.zeros((count, 8), np.float32)}, np.arange(count).astype(dtype) % 20, "sha")


@pytest.mark.parametrize(
    ("kinds", "metric", "name"),
    [
        ({"y": ""}, "", "accuracy"),
        ({"y": "logits"}, "", "accuracy"),
        ({"y": "logits"}, "top1", "accuracy"),
        ({"y": "logits"}, "top5", "top5"),
        ({"y": "embedding"}, "", "recall@1"),
        ({"y": ""}, "recall@1", "recall@1"),
        ({"e": "embedding", "y": "logits"}, "", "accuracy"),
        ({"e": "embedding", "y": "probabilities"}, "top5", "top5"),
        ({"y": "logits", "e": "embedding"}, "recall@1", "recall@1"),
    ],
)
def test_the_metric_and_its_output(kinds: dict[str, str], metric: str, name: str) -> None:
    """The output of the kind that the metric needs, also where another format names it differently."""
    of, random = data(), np.random.default_rng(0)
    scorer = by_signature.scorer(of, model(**kinds), metric)
    assert of.labels is not None
    wanted = {"y": np.eye(30)[of.labels], "e": np.eye(30)[of.labels]}
    outputs = {
        key: wanted[key] if key == ("y" if name != "recall@1" or "e" not in kinds else "e") else random.random((60, 30))
        for key in kinds
    }
    scores = scorer(outputs, of.labels)
    assert (scores.name, scores.value) == (name, 1)
    renamed = {f"Identity_{index}": value for index, value in enumerate(outputs.values())}
    if chosen_metric(scorer):
        assert scorer(renamed, of.labels).value == 1
    assert chosen_metric(scorer) == ("" if name == "accuracy" else name), "measurements of several must be told apart"


@pytest.mark.parametrize(
    ("kind", "metric", "why"),
    [("embedding", "top5", "needs class scores"), ("logits", "recall@1", "no embedding")],
)
def test_a_metric_that_the_outputs_do_not_allow(kind: str, metric: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        by_signature.scorer(data(), model(y=kind), metric)


@pytest.mark.parametrize("shape", [(60,), (60, 4, 6), (60, 4, 4)])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_labels_that_are_no_classes_have_one_metric(shape: tuple[int, ...], dtype: str) -> None:
    labels = np.zeros(shape, dtype)
    if labels.ndim == 1 and dtype == "uint8":
        return
    of = SampleSet("set", {"x": np.zeros((60, 8))}, labels, "sha")
    with pytest.raises(InputError, match="top5 does not apply"):
        by_signature.scorer(of, model(y="logits"), "top5")


def test_the_labels_decide_by_default() -> None:
    assert by_signature.scorer(data(), model(y="")) is metrics.top1
    assert by_signature.scorer(data(dtype="float32"), model(y="")) is metrics.r_squared


def test_samples_that_are_not_looked_up_are_counted() -> None:
    scorer = by_signature.scorer(data(), model(y="embedding"))
    assert isinstance(scorer, by_signature.OfOutput)
    assert scorer.notes(np.array([0, 0, 1, 1])) == ()
    assert scorer.notes(np.array([0, 0, 1, 2])) == ("2 classes have one sample, which recall@1 does not look up",)
