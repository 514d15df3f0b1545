"""Texts as a model's inputs, with a tokenizer that truncates and pads by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small_transformers as small

from edgekit.ondevice import text

PARTS = {"ids": "", "mask": "mask", "segments": "segments"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer

    small.write_tokenizer(tmp_path)
    file = tmp_path / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(8, stride=1, direction="left")
    tokenizer.enable_padding(length=8, pad_id=1, pad_token="[UNK]", direction="left")
    tokenizer.save(str(file))
    return file


def test_a_text_and_a_pair(path: Path) -> None:
    tokenizer = text.load(path)
    arrays, truncated = text.samples(tokenizer, "the film", PARTS)
    assert {name: array.tolist() for name, array in arrays.items()} == {
        "ids": [[1, 1, 1, 1, 2, 4, 5, 3]],
        "mask": [[0, 0, 0, 0, 1, 1, 1, 1]],
        "segments": [[0] * 8],
    }
    assert not truncated and {array.dtype for array in arrays.values()} == {np.dtype("int64")}
    arrays, _ = text.samples(tokenizer, ["the film", "was good"], PARTS)
    assert arrays["segments"].tolist() == [[0, 0, 0, 0, 0, 1, 1, 1]]


def test_another_length_keeps_the_other_settings(path: Path) -> None:
    tokenizer = text.load(path, 5)
    arrays, truncated = text.samples(tokenizer, "the film was a very good", {"ids": ""})
    assert truncated and arrays["ids"].tolist() == [[2, 7, 8, small.WORDS.index("good") + 4, 3]]
    assert text.samples(tokenizer, "the", {"ids": ""})[0]["ids"].tolist() == [[1, 1, 2, 4, 3]]


def test_without_padding_a_text_is_as_long_as_it_is(tmp_path: Path) -> None:
    small.write_tokenizer(tmp_path)
    arrays, _ = text.samples(text.load(tmp_path / "tokenizer.json", 8), "the film", {"ids": ""})
    assert arrays["ids"].shape == (1, 4)


@pytest.mark.parametrize("empty", ["", " \n", ("the", ""), ["", "the"]])
def test_an_empty_text_is_refused(path: Path, empty: str) -> None:
    with pytest.raises(ValueError, match="the text is empty"):
        text.samples(text.load(path), empty, PARTS)


@pytest.mark.parametrize("damage", ["", "{}", "null", '{"model": 3}'])
def test_a_damaged_file_is_refused(path: Path, damage: str) -> None:
    path.write_text(damage)
    with pytest.raises(ValueError, match=r".") as caught:
        text.load(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(OSError):
        text.load(path.with_name("none.json"))
