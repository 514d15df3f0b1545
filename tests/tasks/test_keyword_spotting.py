"""Keyword spotting: any folder of sounds by word, what is said of files unlike the others, and features that ship."""

from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.networks import named
from edgekit.tasks.keyword_spotting import KeywordSpotting

RATE = 8000
TONES = {"left": 400, "right": 1500}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sound(path: Path, hertz: float, rate: int = RATE, channels: int = 1, seconds: float = 0.8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(int(hertz)).normal(0, 300, (round(seconds * rate), channels))
    tone = 8000 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((tone[:, None] + noise).astype("<i2").tobytes())
    return path


@pytest.fixture
def words() -> KeywordSpotting:
    for word, hertz in TONES.items():
        for index in range(20):
            sound(Path("words", word, f"{index}.wav"), hertz + index)
    return KeywordSpotting(KeywordSpotting.Options(data="words"))


def test_a_folder_of_sounds(words: KeywordSpotting) -> None:
    parts = {split: words.load(split) for split in ("train", "val", "test")}
    assert words.classes == ("left", "right") and sum(map(len, parts.values())) == 40
    train = parts["train"]
    assert train.inputs["input"].shape[1:] == (49, 40) and train.inputs["input"].dtype == np.float32
    seen = [row.tobytes() for data in parts.values() for row in data.inputs["input"]]
    assert len(set(seen)) == 40
    assert train.labels is not None
    bands = [train.inputs["input"][train.labels == label].mean(axis=(0, 1)).argmax() for label in (0, 1)]
    assert bands[0] < bands[1], "the higher tone is in a higher band"


@pytest.mark.parametrize("model", KeywordSpotting.models)
def test_networks(words: KeywordSpotting, model: str) -> None:
    torch = pytest.importorskip("torch")
    network = named.build(model, words.arguments(model)).eval()
    assert network(torch.zeros(3, 49, 40)).shape == (3, 2)


def test_other_rates_channels_and_lengths_are_said(words: KeywordSpotting) -> None:
    sound(Path("words/left/x.wav"), 500, rate=16000)
    sound(Path("words/left/y.wav"), 510, channels=2)
    sound(Path("words/right/z.wav"), 520, seconds=1.5)
    task = KeywordSpotting(KeywordSpotting.Options(data="words", rate=RATE))
    said = [note for split in ("train", "val", "test") for note in task.load(split).notes]
    assert any("resampled from 16000 to 8000 Hz" in note for note in said)
    assert any("had 2 channels, which were averaged" in note for note in said)
    assert any("were cut to 1 s" in note for note in said)


def test_what_ships_computes_the_same(words: KeywordSpotting, tmp_path: Path) -> None:
    """The features' code, run alone as a device would, against those of the data."""
    folder = tmp_path / "artifact"
    folder.mkdir()
    words.ship(folder, {})
    path = sound(tmp_path / "one.wav", 700)
    inputs, notes = words.read(str(path), folder)
    assert inputs["input"].shape == (1, 49, 40) and notes == ()
    subprocess.run([sys.executable, "-I", folder / "sound.py", path, tmp_path / "one.npy"], check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "one.npy").reshape(49, 40), inputs["input"][0])


def test_bad_sounds(words: KeywordSpotting, tmp_path: Path) -> None:
    words.ship(tmp_path, {})
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    with pytest.raises(InputError, match=r"cannot read .*empty\.wav"):
        words.read(str(empty), tmp_path)
    with pytest.raises(InputError):
        words.load("tset")
    with pytest.raises(InputError):
        KeywordSpotting(KeywordSpotting.Options(data="nowhere")).load("train")
    assert list(KeywordSpotting.Options(rate=1).problems())


def test_a_word_without_sounds_is_named(words: KeywordSpotting) -> None:
    Path("words", "up").mkdir()
    with pytest.raises(InputError, match="a class without samples: up/ is empty"):
        words.load("train")
    Path("words", "up", "notes.txt").write_text("a folder of other things is no class")
    assert KeywordSpotting(KeywordSpotting.Options(data="words")).classes == ("left", "right")
