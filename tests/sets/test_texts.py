"""Texts as samples of a model with a tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import small_transformers as small

from edgekit import sets
from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature
from edgekit.runs import named_sets
from edgekit.sets import texts
from edgekit.sets.class_order import in_order_of


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[TensorSpec, ...]:
    from tokenizers import Tokenizer

    folder = tmp_path_factory.mktemp("tokenizer")
    small.write_tokenizer(folder)
    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8, pad_token="[PAD]")
    tokenizer.save(path)
    parts: dict[str, Any] = {"ids": "", "mask": "mask"}
    return tuple(
        TensorSpec(
            name, "int64", (None, None), signature=InputSignature("text", tokenizer=path, max_length=8, part=part)
        )
        for name, part in parts.items()
    )


@pytest.fixture
def read(inputs: tuple[TensorSpec, ...], tmp_path: Path) -> Any:
    def load(name: str, contents: str, options: str = "") -> SampleSet:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(contents)
        return named_sets.load(f"{tmp_path / name}{options}", inputs)

    return load


def test_a_table_of_reviews(read: Any) -> None:
    data = read("reviews.csv", "review,label\nthe film was good,good\na bad plot,bad\n")
    assert data.inputs["ids"].shape == (2, 8) and data.inputs["mask"].tolist()[1] == [1, 1, 1, 1, 1, 0, 0, 0]
    assert data.classes == ("bad", "good") and data.labels.tolist() == [1, 0]
    assert in_order_of(data, ("good", "bad")).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [("1,0", [1, 0]), ("LABEL_11,LABEL_2", [11, 2]), ("0.5,2", [0.5, 2.0])],
)
def test_labels_may_be_indices_or_values(read: Any, labels: str, expected: list[float]) -> None:
    first, second = labels.split(",")
    assert read("x.csv", f"text,label\ngood,{first}\nbad,{second}\n").labels.tolist() == expected


def test_names_of_classes_may_differ_in_case(read: Any) -> None:
    data = read("x.csv", "text,label\ngood,positive\nbad,negative\n")
    assert in_order_of(data, ("NEGATIVE", "POSITIVE")).labels.tolist() == [1, 0]


def test_pairs_and_chosen_columns(read: Any) -> None:
    contents = "a,b,kind\nthe film,was good,yes\na plot,in bad,no\n"
    data = read("x.csv", contents, "?text=a,b&label=kind")
    assert data.inputs["ids"].tolist()[0] == [2, 4, 5, 3, 6, 15, 3, 0] and data.labels.tolist() == [1, 0]
    with pytest.raises(InputError, match="which column is the text"):
        read("x.csv", contents)
    with pytest.raises(InputError, match="no column 'c'"):
        read("x.csv", contents, "?text=c")


def test_the_only_column_of_text_is_the_text(read: Any) -> None:
    data = read("x.jsonl", '{"body": "the film", "stars": 3, "label": 1}\n{"body": "a plot", "stars": 4, "label": 0}\n')
    assert len(data) == 2 and data.labels.tolist() == [1, 0]


def test_lines_have_no_labels(read: Any) -> None:
    data = read("x.txt", "the film was good\n\na plot\twith a tab\n")
    assert len(data) == 2 and data.labels is None
    for empty in ("", "\n\n"):
        with pytest.raises(InputError, match="holds no samples"):
            read("x.txt", empty)


def test_empty_texts_are_skipped(read: Any) -> None:
    data = read("x.csv", "text,label\n" + "good,1\n" * 30 + ",0\n" + "bad,0\n")
    assert len(data) == 31 and "the text is empty" in data.skipped[0]


def test_truncated_texts_are_counted(read: Any) -> None:
    data = read("x.txt", "the film was good\n" + "the film was a very good film of a good actor\n")
    assert data.notes == ("1 of 2 texts were cut to 8 tokens",)
    data = read("x.txt", "the film was a very good film of a good actor\n", "?length=16")
    assert data.inputs["ids"].shape == (1, 16) and not data.notes


def test_a_folder_of_glue(read: Any, tmp_path: Path, inputs: tuple[TensorSpec, ...]) -> None:
    (tmp_path / "sst").mkdir()
    (tmp_path / "sst" / "train.tsv").write_text("sentence\tlabel\n" + "good film\t1\nbad film\t0\n" * 9)
    (tmp_path / "sst" / "dev.tsv").write_text('sentence\tlabel\ngood "actor\t1\nbad\t0\n')
    data = named_sets.load(f"{tmp_path / 'sst'}:test", inputs)
    assert len(data) == 2 and data.labels.tolist() == [1, 0]
    assert named_sets.has_labels(f"{tmp_path / 'sst'}:test")


def test_cola_has_no_header(read: Any) -> None:
    data = read("x.tsv", "gj04\t1\t\tthe film was good\ngj04\t0\t*\tfilm the good\n")
    assert len(data) == 2 and data.labels.tolist() == [1, 0]


def test_a_model_without_a_tokenizer_takes_no_lines(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("the film\n")
    with pytest.raises(InputError, match="has no tokenizer"):
        named_sets.load(str(tmp_path / "x.txt"), (TensorSpec("x", "float32", (None, 4)),))


def test_a_model_with_another_input_is_refused(inputs: tuple[TensorSpec, ...], tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("the film\n")
    with pytest.raises(InputError, match="takes more than a text"):
        named_sets.load(str(tmp_path / "x.txt"), (*inputs, TensorSpec("x", "float32", (None, 4))))


def test_a_fixed_length_is_kept(inputs: tuple[TensorSpec, ...], tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "x.txt").write_text("the film\n")
    fixed = tuple(replace(spec, dtype="int32", shape=(1, 6)) for spec in inputs)
    assert named_sets.load(str(tmp_path / "x.txt"), fixed).inputs["ids"].shape == (1, 6)
    with pytest.raises(InputError, match="does not fit the model"):
        named_sets.load(f"{tmp_path / 'x.txt'}?length=5", fixed)


def test_a_lost_tokenizer_is_named(inputs: tuple[TensorSpec, ...], tmp_path: Path) -> None:
    from dataclasses import replace

    (tmp_path / "x.txt").write_text("the film\n")
    record = InputSignature("text", tokenizer=str(tmp_path / "none.json"), max_length=8)
    with pytest.raises(InputError, match=r"none\.json"):
        named_sets.load(str(tmp_path / "x.txt"), (replace(inputs[0], signature=record),))


def test_only_paths_that_hold_texts_are_read_as_such(tmp_path: Path) -> None:
    assert sets.is_data("lines.txt") and texts.are_at(Path("a.PARQUET")) and not texts.are_at(tmp_path)
