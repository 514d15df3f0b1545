"""Text classification: tables and GLUE's layouts, metrics against scikit-learn, a tokenizer that ships."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.networks import named
from edgekit.tasks.shared import glue, text
from edgekit.tasks.shared.text import SEPARATOR
from edgekit.tasks.text_classification import TextClassification

pytest.importorskip("tokenizers")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def made(**options: object) -> TextClassification:
    return TextClassification(TextClassification.Options(**{"words": 300, "length": 12, **options}))  # type: ignore[arg-type]


@pytest.fixture
def reviews() -> TextClassification:
    rows = [f"the film number {i} was {('awful', 'great')[i % 2]},{('bad', 'good')[i % 2]}" for i in range(80)]
    Path("reviews.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    return made(data="reviews.csv")


def test_a_table(reviews: TextClassification) -> None:
    parts = {split: reviews.load(split) for split in ("train", "val", "test")}
    assert reviews.classes == ("bad", "good") and sum(map(len, parts.values())) == 80
    tokens = parts["train"].inputs["tokens"]
    assert tokens.shape[1] == 12 and tokens.dtype == np.int64
    assert not {row.tobytes() for row in tokens} & {row.tobytes() for row in parts["test"].inputs["tokens"]}


@pytest.mark.parametrize("model", TextClassification.models)
def test_networks(reviews: TextClassification, model: str) -> None:
    torch = pytest.importorskip("torch")
    network = named.build(model, reviews.arguments(model)).eval()
    tokens = torch.from_numpy(reviews.load("test").inputs["tokens"][:3])
    outputs = network(tokens)
    assert outputs.shape == (3, 2)
    assert reviews.loss(outputs, torch.tensor([0, 1, 1])).shape == ()


def test_the_tokenizer_ships_and_long_texts_are_said(reviews: TextClassification, tmp_path: Path) -> None:
    reviews.ship(tmp_path, {})
    inputs, notes = reviews.read("the film number 3 was great", tmp_path)
    assert inputs["tokens"].shape == (1, 12) and notes == ()
    inputs, notes = reviews.read("great " * 50, tmp_path)
    assert notes == ("1 of 1 texts were cut to 12 tokens",)
    with pytest.raises(InputError, match="the text is empty"):
        reviews.read("  ", tmp_path)


def test_the_tokenizer_that_the_data_was_encoded_with_ships(reviews: TextClassification, tmp_path: Path) -> None:
    """A conversion keeps its parent's; initial weights and a teacher may come with others."""
    other = SimpleNamespace(path=tmp_path / "other")
    other.path.mkdir()
    (other.path / "tokenizer.json").write_text("other")
    reviews.ship(tmp_path, {"parent": other})
    assert (tmp_path / "tokenizer.json").read_text() == "other"
    reviews.ship(tmp_path, {"init": other, "teacher": other})
    assert (tmp_path / "tokenizer.json").read_text() == reviews.tokenizer.to_str(pretty=True)


def test_a_tokenizer_that_pads_with_another_token(reviews: TextClassification, tmp_path: Path) -> None:
    tokenizer = reviews.tokenizer
    tokenizer.enable_padding(pad_id=3, pad_token="[SEP]", direction="left")
    tokenizer.save(str(tmp_path / "padded.json"))
    task = made(data="reviews.csv", tokenizer=str(tmp_path / "padded.json"))
    assert task.arguments("text-encoder")["pad"] == 3
    assert task.load("train").inputs["tokens"][0, 0] == 3
    with pytest.raises(InputError, match="fills up with token 3"):
        task.arguments("transformer-text")


def test_long_texts_of_a_table_are_counted() -> None:
    rows = [f"{'long and ' * 9 * (i % 4 == 0)}text {i},{('bad', 'good')[i % 2]}" for i in range(80)]
    Path("long.csv").write_text("text,label\n" + "\n".join(rows) + "\n")
    task = made(data="long.csv")
    counts = [int(note.split()[0]) for split in ("train", "val", "test") for note in task.load(split).notes]
    assert sum(counts) == 20


def test_pairs_in_glue_s_layout() -> None:
    folder = Path("RTE")
    folder.mkdir()
    lines = [f"{i}\tthe cat {i} sat\ta cat sat {i}\t{('entailment', 'not_entailment')[i % 2]}" for i in range(40)]
    for name in ("train.tsv", "dev.tsv"):
        (folder / name).write_text("index\tsentence1\tsentence2\tlabel\n" + "\n".join(lines) + "\n")
    task = made(data="RTE", length=24)
    assert task.classes == ("entailment", "not_entailment") and len(task.load("test")) == 40
    assert (task.load("train").inputs["tokens"] == SEPARATOR).sum(axis=1).min() >= 1


@pytest.mark.parametrize("metric", ["f1", "matthews"])
def test_metrics_against_scikit_learn(metric: str) -> None:
    judge = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    outputs, labels = rng.normal(size=(200, 2)), rng.integers(0, 2, 200)
    wanted = {"f1": judge.f1_score, "matthews": judge.matthews_corrcoef}[metric](labels, outputs.argmax(axis=1))
    assert glue.score(metric, outputs, labels).value == pytest.approx(wanted)


def test_bad_tables(tmp_path: Path) -> None:
    Path("one.csv").write_text("text,label\n" + "".join(f"a b {i},x\n" for i in range(60)))
    with pytest.raises(InputError, match="one class only"):
        made(data="one.csv").classes  # noqa: B018
    with pytest.raises(InputError):
        made(data="nowhere.csv").load("train")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="not a tokenizer"):
        text.load_tokenizer(tmp_path / "tokenizer.json")
