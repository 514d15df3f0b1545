"""The record: what is written is read, and every problem with a table is reported at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgekit.core.signature import (
    Column,
    InputSignature,
    OutputSignature,
    Resize,
    Signature,
    distinct,
    input_of,
    matched,
    output_of,
    parse,
    plain,
)

WHOLE = Signature(
    (
        InputSignature(
            "image",
            name="x",
            layout="NCHW",
            colour="BGR",
            exif=True,
            resize=Resize("letterbox", (8, 9), 114.0),
            crop=(8, 9),
            crop_offset="down",
            interpolation="lanczos",
            antialias=False,
            scale=0.5,
            mean=(1.0,),
            std=(2.0, 3.0, 4.0),
            range=(-1.0, 1.0),
        ),
        InputSignature("audio", rate=16000, seconds=1.5),
        InputSignature("text", tokenizer="t.json", max_length=4),
        InputSignature("table", columns=(Column("a", missing=0.5), Column("b", ("", "x")))),
        InputSignature("table", columns=(Column("a"),)),
        InputSignature(),
    ),
    (OutputSignature("boxes", classes=("a", "b"), boxes="yxyx", relative=True), OutputSignature("logits")),
)


@pytest.mark.parametrize(
    ("record", "problem"),
    [
        (OutputSignature("boxes", strides=(8, 16), anchors=(((9, 9),), ())), "an anchor is a width and a height"),
        (OutputSignature("boxes", strides=(8, 16), anchors=(((9, 9),),)), "a list for each stride"),
        (OutputSignature("boxes", strides=(8,), variances=(1, 1, 1, 1)), "four finite numbers, for boxes with anchors"),
        (OutputSignature("scores", origin=0.0), "origin is for boxes with anchors"),
        (OutputSignature("class-ids", background="last"), "background is for"),
        (OutputSignature("boxes", boxes="xyxy", strides=(8,)), "cxcywh, and never relative"),
    ],
)
def test_what_no_detector_has(record: OutputSignature, problem: str) -> None:
    assert any(problem in found for found in record.problems())


def test_what_is_written_is_read() -> None:
    assert parse(json.loads(WHOLE.to_json())) == (WHOLE, [])
    assert [input_of(plain(record)) for record in WHOLE.inputs] == list(WHOLE.inputs)
    assert [output_of(plain(record)) for record in WHOLE.outputs] == list(WHOLE.outputs)
    assert not Signature() and Signature().to_json() == "{}" and WHOLE.classes == ("a", "b")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"inputs": []}, "unknown key 'inputs'"),
        ({"input": 3}, "must be tables: [[input]]"),
        ({"input": [{"kind": "picture"}]}, "input[0].kind: must be one of"),
        ({"input": [{"kind": "image", "meen": [1]}]}, "did you mean mean"),
        ({"input": [{"kind": "image", "resize": {"mode": "stretch"}}]}, "'size' is missing"),
        ({"input": [{"kind": "image", "resize": {"mode": "shortest", "size": [1, 2]}}]}, "size is one number"),
        ({"input": [{"kind": "image", "colour": "RGB", "mean": [1, 2]}]}, "mean has 2 values, and RGB has 3"),
        ({"input": [{"kind": "image", "std": [0]}]}, "std must be positive"),
        ({"input": [{"kind": "image", "crop": 0}]}, "crop must be positive"),
        ({"input": [{"crop": 3}]}, "crop is for images"),
        ({"input": [{"kind": "image", "rate": 3}]}, "rate and seconds are for audio"),
        ({"output": [{"classes": ["a", "a"]}]}, "two classes are called 'a'"),
        ({"output": [{"boxes": "xyxy"}]}, "the form of boxes is 'xyxy', and kind is ''"),
    ],
)
def test_problems(table: dict[str, Any], said: str) -> None:
    signature, problems = parse({**table, "more": 1})
    text = "\n".join(map(str, problems))
    assert not signature and said in text and "unknown key 'more'" in text


def test_records_by_name_and_position() -> None:
    records = [OutputSignature("boxes", name="b"), OutputSignature("logits")]
    assert [record and record.kind for record in matched(records, ["a", "b", "c"])] == ["logits", "boxes", None]


def test_spans() -> None:
    assert InputSignature("image", scale=1 / 255, mean=(0.5,), std=(0.5,)).span() == (-1.0, 1.0)
    assert InputSignature("tensor").span() is None
    assert InputSignature("text", range=(0.0, 99.0)).span() == (0.0, 99.0)


def test_names_that_come_again() -> None:
    assert distinct(["crane", "cat", "crane", 3]) == ("crane", "cat", "crane (2)", "3")
