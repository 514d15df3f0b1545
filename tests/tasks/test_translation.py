"""Translation: tables of pairs, greedy decoding against one token at a time, chrF and BLEU against sacrebleu."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import InputError
from edgekit.networks import named
from edgekit.ondevice import greedy
from edgekit.tasks.translation import Translation, corpus

pytest.importorskip("tokenizers")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def pairs() -> Translation:
    lines = [f"open file {i}\tDatei {i} öffnen" for i in range(100)]
    Path("pairs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Translation(Translation.Options(data="pairs.tsv", length=16, words=300))


def test_a_table_of_pairs(pairs: Translation) -> None:
    parts = {split: pairs.load(split) for split in ("train", "val", "test")}
    assert sum(map(len, parts.values())) == 100
    sources = [row.tobytes() for data in parts.values() for row in data.inputs["source"]]
    assert len(set(sources)) == 100, "a source is in one split only"
    test = parts["test"]
    assert test.labels is not None
    assert pairs.texts(test.labels) == [target for _, target in pairs.pairs["test"]]
    assert (test.inputs["target"][:, 1:] == test.labels[:, :-1]).all()


@pytest.mark.parametrize("model", Translation.models)
def test_networks(pairs: Translation, model: str) -> None:
    torch = pytest.importorskip("torch")
    data = pairs.load("test")
    inputs = [torch.from_numpy(data.inputs[name][:3]) for name in ("source", "target")]
    words = pairs.tokenizer.get_vocab_size()
    network = named.build(model, pairs.arguments(model)).eval()
    outputs = network(*inputs)
    assert outputs.shape == (3, 16, words) and data.labels is not None
    assert pairs.loss(outputs, torch.from_numpy(data.labels[:3])).shape == ()
    later = inputs[1].clone()
    later[:, 9:] = 7
    assert torch.allclose(network(inputs[0], later)[:, :9], outputs[:, :9], atol=1e-5), "a place sees what follows it"


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_decoding_is_that_of_one_token_at_a_time(seed: int, length: int) -> None:
    rng = np.random.default_rng(seed)
    words, settings = 9, {"start": 2, "end": 3, "pad": 0, "length": length}
    table, source = rng.normal(size=(words, words, length, words)), rng.integers(1, words, (3, 4))

    def run(source: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Scores that depend on all that was said before."""
        before = np.cumsum(target, axis=1) % words
        places = np.arange(target.shape[1])
        return table[before, source[:, :1], places]  # type: ignore[no-any-return]

    target = np.zeros((3, length), np.int64)
    target[:, 0], said = 2, np.zeros((3, length), np.int64)
    for place in range(length):
        said[:, place] = run(source, target)[:, place].argmax(axis=-1)
        if place + 1 < length:
            target[:, place + 1] = said[:, place]
    wanted = greedy.pad_after_end(said, settings)
    np.testing.assert_array_equal(greedy.decode(run, source, settings), wanted)


@pytest.mark.parametrize("metric", ["chrf", "bleu"])
def test_metrics_against_sacrebleu(metric: str) -> None:
    sacrebleu = pytest.importorskip("sacrebleu")
    found = ["Datei öffnen", "das Fenster schließen", "nichts davon stimmt hier", "und noch eine ganze Zeile mehr"]
    wanted = ["Datei öffnen", "Fenster schließen", "alles ist anders hier", "und noch eine ganze Zeile"]
    score = {"chrf": sacrebleu.corpus_chrf, "bleu": lambda *a: sacrebleu.corpus_bleu(*a, force=True)}[metric]
    assert corpus(metric, found, wanted).value == pytest.approx(score(found, [wanted]).score / 100)


def test_what_ships(pairs: Translation, tmp_path: Path) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    pairs.ship(folder, {})
    assert {path.name for path in folder.iterdir()} == {"tokenizer.json", "greedy.py", "driver.json"}
    assert json.loads((folder / "driver.json").read_text())["length"] == 16
    inputs, _ = pairs.read("open file 3", folder)
    assert inputs["source"].shape == (1, 16)


def test_long_pairs_are_cut_and_counted(pairs: Translation) -> None:
    lines = [f"open {'the old ' * 20 * (i < 5)}file {i}\tDatei {i} öffnen" for i in range(100)]
    Path("pairs.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    notes = [note for split in ("train", "val", "test") for note in pairs.load(split).notes]
    assert sum(int(note.split()[0]) for note in notes) == 5 and all("to 16 tokens" in note for note in notes)


def test_bad_tables() -> None:
    for text, what in {"": "it is empty", "no tab\n" * 20: "not a tab-separated pair"}.items():
        Path("bad.tsv").write_text(text)
        with pytest.raises(InputError, match=what):
            Translation(Translation.Options(data="bad.tsv")).load("train")
    Path("latin.tsv").write_bytes(b"a\t\xe4\n")
    with pytest.raises(InputError, match="not UTF-8"):
        Translation(Translation.Options(data="latin.tsv")).load("train")
    with pytest.raises(InputError, match="nowhere"):
        Translation(Translation.Options(data="nowhere.tsv")).load("train")
