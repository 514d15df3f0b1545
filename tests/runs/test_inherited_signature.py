"""Whose signature a new artifact has."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.artifact import Artifact, Kind, ModelFacts, Sizes, TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.progress import quiet
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature, OutputSignature, Signature
from edgekit.core.step import Context, StepResult
from edgekit.core.task import Task
from edgekit.runs import inherited_signature

NONE = Sizes(0, 0, 0, 0)
PHOTO = InputSignature("image", layout="NCHW", colour="RGB", scale=1 / 255)
ANIMALS = OutputSignature("logits", classes=("cat", "dog"))


class Animals(Task):
    name = "animals"
    classes = ("hen", "cow")


def facts(input: str = "x", output: str = "y") -> ModelFacts:
    return ModelFacts(
        (TensorSpec(input, "float32", (None, 3, 8, 8)),), (TensorSpec(output, "float32", (None, 2)),), NONE
    )


def artifact(kind: str = "onnx", details: Any = None, **signatures: Any) -> Artifact:
    inputs = (TensorSpec("x", "float32", (None, 3, 8, 8), signature=signatures.get("x")),)
    outputs = (TensorSpec("y", "float32", (None, 2), signature=signatures.get("y")),)
    return Artifact(
        *(kind, "1", Kind(kind), "step", {}, (), "", inputs, outputs, NONE, {}, Path()), details=details or {}
    )


def context(task: Task | None = None, **sets: SampleSet) -> Context:
    return Context(task, sets, quiet, logging.getLogger("t"))


def photos() -> SampleSet:
    values = {"x": np.zeros((2, 3, 8, 8), np.uint8)}
    return SampleSet("photos", values, None, "sha", classes=("bird", "fish"), decoded={"x": PHOTO})


def signature(result: StepResult, inputs: dict[str, Artifact], ctx: Context, **names: str) -> tuple[Any, Any]:
    (spec,), (out,) = inherited_signature.specs(facts(**names), result, inputs, ctx)
    return spec.signature, out.signature


def test_the_order_of_those_who_may_say_it() -> None:
    signed = artifact(x=PHOTO, y=ANIMALS)
    own = StepResult(signature=Signature((InputSignature("image", layout="NCHW", colour="BGR"),)))
    assert signature(own, {"parent": signed}, context())[0].colour == "BGR"
    assert signature(StepResult(), {"parent": signed}, context(Animals()))[1] == ANIMALS
    assert signature(StepResult(), {}, context(Animals()))[1].classes == ("hen", "cow")
    assert signature(StepResult(), {}, context()) == (None, None)


def test_names_follow_the_steps_tensor_map_or_the_position() -> None:
    signed = artifact(x=PHOTO, y=ANIMALS)
    mapped = StepResult(tensors={"x": "serving_x", "y": "out"})
    assert signature(mapped, {"parent": signed}, context(), input="serving_x", output="out") == (PHOTO, ANIMALS)
    assert signature(StepResult(), {"parent": signed}, context(), input="args_0", output="z") == (PHOTO, ANIMALS)


def test_what_nobody_knows_is_that_of_the_calibration_set() -> None:
    """Also by way of the ranges, which an int8 step has as an input in place of the set."""
    found = signature(StepResult(), {"parent": artifact()}, context(calibration=photos()))
    assert found == (PHOTO, OutputSignature(classes=("bird", "fish")))
    kept = inherited_signature.details(Kind("ranges"), {"calibration": photos()})
    ranges = artifact("ranges", kept)
    assert signature(StepResult(), {"parent": artifact(), "ranges": ranges}, context()) == found
    known = artifact(x=InputSignature("image", layout="NCHW", colour="BGR"), y=ANIMALS)
    assert signature(StepResult(), {"parent": known, "ranges": ranges}, context())[0].colour == "BGR"
    assert inherited_signature.details(Kind("onnx"), {"calibration": photos()}) == {}


def test_a_signature_that_contradicts_the_model() -> None:
    wrong = StepResult(signature=Signature((), (OutputSignature("logits", classes=("a", "b", "c")),)))
    with pytest.raises(InputError, match="contradicts the model"):
        signature(wrong, {}, context())
