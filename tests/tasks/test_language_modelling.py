"""Language modelling: windows that meet, perplexity of known distributions, texts of several forms, bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import InputError
from edgekit.core.metrics import reduced_perplexity
from edgekit.tasks.language_modelling import LanguageModelling

pytest.importorskip("tokenizers")

TEXTS = [f"the {word} number {i} of the {word} list is {i * i} and no more" for i in range(120) for word in ("a", "b")]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def task(data: str = "texts.txt", length: int = 16, **options: int) -> LanguageModelling:
    return LanguageModelling(LanguageModelling.Options(data=data, length=length, words=300, **options))  # type: ignore[arg-type]


@pytest.fixture
def texts() -> LanguageModelling:
    Path("texts.txt").write_text("\n\n".join(TEXTS), encoding="utf-8")
    return task(windows=0)


def test_windows_meet_and_cover_the_texts(texts: LanguageModelling) -> None:
    for split in ("train", "val", "test"):
        data = texts.load(split)
        tokens, labels = data.inputs["tokens"], data.labels
        assert labels is not None and tokens.shape == labels.shape and tokens.shape[1] == 16
        assert (tokens[:, 1:] == labels[:, :-1]).all(), "a label is the next token"
        assert (tokens[1:, 0] == labels[:-1, -1]).all(), "a window begins where the one before ends"
    whole = texts.tokenizer.decode(texts.load("test").inputs["tokens"].ravel().tolist())
    assert whole.strip().startswith(texts.texts["test"][0][:20])


def test_no_text_is_in_two_splits(texts: LanguageModelling) -> None:
    parts = [set(texts.texts[split]) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(TEXTS) and not parts[0] & parts[1] and not parts[0] & parts[2]


def test_windows_that_are_scored_are_spread(texts: LanguageModelling) -> None:
    every, few = texts.load("test").inputs["tokens"], task(windows=3).load("test").inputs["tokens"]
    assert len(few) == 3 < len(every)
    assert np.array_equal(few[0], every[0]) and np.array_equal(few[-1], every[-1])
    assert len(task(windows=3).load("train")) == len(texts.load("train"))


@given(st.integers(0, 9999))
def test_perplexity_of_a_uniform_distribution_is_its_size(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(8, size=(3, 5))
    scores = LanguageModelling().score({"logits": np.full((3, 5, 8), rng.normal(), np.float32)}, labels)
    assert scores.value == pytest.approx(8) and not scores.higher_is_better


def test_perplexity_against_torch() -> None:
    torch = pytest.importorskip("torch")
    logits = np.random.default_rng(0).normal(size=(4, 6, 11)).astype(np.float32) * 5
    labels = np.random.default_rng(1).integers(11, size=(4, 6))
    loss = LanguageModelling().loss(torch.from_numpy(logits), torch.from_numpy(labels))
    assert LanguageModelling().score({"y": logits}, labels).value == pytest.approx(float(loss.exp()), rel=1e-6)
    assert reduced_perplexity(np.array([[1e6, 1.0]])) < float("inf"), "of logits that exclude the label"


def test_forms_of_texts() -> None:
    Path("rows.jsonl").write_text("\n".join(json.dumps({"text": text, "n": 1}) for text in TEXTS))
    Path("folder").mkdir()
    for index, text in enumerate(TEXTS):
        (Path("folder") / f"{index}.txt").write_text(text)
    Path("texts.txt").write_text("\n\n".join(TEXTS))
    counts = [sum(map(len, task(data).texts.values())) for data in ("rows.jsonl", "folder", "texts.txt")]
    assert counts == [len(TEXTS)] * 3


def test_bad_texts() -> None:
    Path("latin.txt").write_bytes(b"caf\xe9 " * 100)
    with pytest.raises(InputError, match=r"latin\.txt is not UTF-8 text"):
        task("latin.txt").load("train")
    with pytest.raises(InputError, match=r"no\.txt"):
        task("no.txt").load("train")
    Path("empty").mkdir()
    with pytest.raises(InputError, match=r"holds no \.txt files"):
        task("empty").load("train")
    Path("other.csv").write_text("body,label\nhello,1\n")
    with pytest.raises(InputError, match="no texts in the column 'text'"):
        task("other.csv").load("train")
    Path("short.txt").write_text("\n\n".join(TEXTS[:30]))
    with pytest.raises(InputError, match=r"tokens.*a window has 512"):
        task("short.txt", length=512).load("val")
    with pytest.raises(InputError, match="no split 'dev'"):
        task("short.txt").load("dev")


def test_prompts_and_answers(texts: LanguageModelling, tmp_path: Path) -> None:
    texts.ship(tmp_path, {})
    inputs, notes = texts.read("the a number", tmp_path)
    assert inputs["tokens"].dtype == np.int64 and inputs["tokens"].shape[0] == 1 and notes == ()
    tokens = inputs["tokens"][0]
    assert texts.tell({"tokens": tokens}, {}, tmp_path)["text"].strip() == "the a number"
    ended = np.array([*tokens, 3, *tokens])
    assert texts.tell({"tokens": ended}, {}, tmp_path)["text"].strip() == "the a number", "nothing after the end"
