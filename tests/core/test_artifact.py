"""Kinds and tensors as text and JSON, and what an artifact's name and parents say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.artifact import Artifact, Kind, Parent, Sizes, TensorSpec, kinds
from edgekit.core.signature import OutputSignature

WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789_", min_size=1)


@given(WORDS, st.frozensets(WORDS))
def test_a_kind_is_read_as_it_is_written(format: str, traits: frozenset[str]) -> None:
    kind = Kind(format, traits)
    assert Kind.parse(str(kind)) == kind


@pytest.mark.parametrize(
    ("text", "precision", "stem"),
    [
        ("onnx", "", "onnx"),
        ("onnx[int8]", "int8", "onnx-int8"),
        ("tflite[dynamic,ranges]", "dynamic", "tflite-dynamic"),
        ("torch[ranges]", "", "torch"),
    ],
)
def test_the_precision_is_part_of_the_name(text: str, precision: str, stem: str) -> None:
    kind = Kind.parse(text)
    assert (kind.precision, kind.stem) == (precision, stem)


def test_ranges_are_no_model() -> None:
    assert [kind.is_model for kind in map(Kind.parse, ("ranges", "torch[ranges]", "onnx"))] == [False, True, True]
    assert kinds("onnx", "onnx[int8]") == {Kind("onnx"), Kind("onnx", frozenset({"int8"}))}


SPECS = st.builds(
    TensorSpec,
    st.text(),
    st.sampled_from(["float32", "int8"]),
    st.lists(st.none() | st.integers(1, 512)).map(tuple),
    st.none() | st.tuples(st.floats(1e-6, 1), st.integers(-128, 127)),
)


@given(SPECS)
def test_a_tensor_survives_json(spec: TensorSpec) -> None:
    data = dataclasses.asdict(spec)
    lists = {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}
    assert TensorSpec.from_json(lists) == spec


def test_an_open_axis_is_a_question_mark() -> None:
    assert str(TensorSpec("x", "float32", (None, 3, 8))) == "x: float32[?, 3, 8]"


def test_parents_and_chain() -> None:
    parents = (Parent("parent", "torch", "1"), Parent("teacher", "big.torch", "2"))
    artifact = Artifact(
        "prune50.onnx-int8", "0", Kind("onnx"), "s", {}, parents, "t", (), (), Sizes(1, 1, 0, 0), {}, Path()
    )
    assert artifact.chain == "prune50"
    assert artifact.parent() == parents[0] and artifact.parent("teacher") == parents[1]
    assert artifact.parent("ranges") is None
    assert dataclasses.replace(artifact, name="onnx").chain == ""


BOXES = OutputSignature("boxes", boxes="xyxy", suppressed=True)
SCORES = OutputSignature("scores")


@pytest.mark.parametrize(
    ("boxes", "scores", "length", "lists"),
    [
        (BOXES, SCORES, None, {"b": 1000, "s": 1000}),
        (BOXES, SCORES, 300, {}),  # as long as always
        (dataclasses.replace(BOXES, suppressed=False), SCORES, None, {}),
        (BOXES, OutputSignature("scores", activation="sigmoid"), None, {}),  # 0 would be a score of one half
        (OutputSignature("values"), SCORES, None, {}),
    ],
)
def test_lists_are_outputs_as_long_as_what_is_found(
    boxes: OutputSignature, scores: OutputSignature, length: int | None, lists: dict[str, int]
) -> None:
    outputs = (
        TensorSpec("b", "float32", (1, length, 4), signature=boxes),
        TensorSpec("s", "float32", (1, length), signature=scores),
    )
    files: tuple[Sizes, dict[str, str], Path] = (Sizes(0, 0, 0, 0), {}, Path())
    assert Artifact("onnx", "id", Kind("onnx"), "import", {}, (), "", (), outputs, *files).lists == lists
