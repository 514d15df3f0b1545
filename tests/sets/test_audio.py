"""Folders of sounds: rate, length, channels, and what is cut off."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.runs import named_sets
from edgekit.sets.audio import resample

soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")


def tone(path: Path, rate: int = 8000, seconds: float = 0.1, hertz: float = 440, channels: int = 1) -> np.ndarray:
    """Half as loud as can be, written as 16 bits; returns it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)
    soundfile.write(path, np.repeat(values[:, None], channels, axis=1), rate, "PCM_16")
    return values


def like(*shape: int | None) -> tuple[TensorSpec]:
    return (TensorSpec("wave", "float32", (None, *shape)),)


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for i in range(12):
        for name, hertz in (("low", 200), ("high", 900)):
            tone(tmp_path / "words" / name / f"{i}.wav", hertz=hertz + i)
    return tmp_path / "words"


def test_a_folder_by_class(words: Path) -> None:
    data = named_sets.load("words")
    assert data.inputs["input"].shape == (24, 800) and data.inputs["input"].dtype == np.float32
    assert data.labels is not None and data.labels.tolist() == [0] * 12 + [1] * 12
    assert np.allclose(data.inputs["input"][0], tone(words / "high" / "0.wav", hertz=900), atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "wanted"), [((400,), (400,)), ((1, 1000), (1, 1000)), ((1000, 1), (1000, 1)), ((1, None), (1, 800))]
)
def test_as_the_model_takes_it(words: Path, shape: tuple[int | None, ...], wanted: tuple[int, ...]) -> None:
    values = named_sets.load("words", like(*shape)).inputs["wave"]
    assert values.shape == (24, *wanted)
    whole, flat = named_sets.load("words").inputs["input"][3], values[3].ravel()
    assert np.array_equal(flat[:400], whole[:400]) and not flat[800:].any()


def test_length_and_rate(words: Path) -> None:
    assert named_sets.load("words?seconds=0.05").inputs["input"].shape == (24, 400)
    assert named_sets.load("words?rate=4000").inputs["input"].shape == (24, 400)
    tone(words / "low" / "long.wav", seconds=0.2)
    with pytest.raises(InputError, match="differ in length") as error:
        named_sets.load("words")
    assert "seconds=0.1" in error.value.next
    tone(words / "low" / "long.wav", rate=16000)
    with pytest.raises(InputError, match="differ in rate") as error:
        named_sets.load("words?seconds=0.1")
    assert "rate=8000" in error.value.next
    assert len(named_sets.load("words?rate=8000")) == 25


def test_stereo_is_averaged(tmp_path: Path) -> None:
    values = np.stack([np.full(100, 0.5), np.full(100, -0.25)], axis=1)
    soundfile.write(tmp_path / "a.wav", values, 8000, "PCM_16")
    assert np.allclose(named_sets.load(str(tmp_path)).inputs["input"], 0.125, atol=1e-4)


@pytest.mark.parametrize(("rate", "wanted"), [(8000, 16000), (16000, 8000), (44100, 16000), (8000, 8000)])
def test_resampling_keeps_a_tone(rate: int, wanted: int) -> None:
    def wave(hertz: float, at: int) -> np.ndarray:
        return np.sin(2 * np.pi * hertz * np.arange(at) / at).astype(np.float32)

    found = resample(wave(440, rate), rate, wanted)
    assert found.dtype == np.float32 and len(found) == wanted
    assert np.abs(found - wave(440, wanted)).max() < 1e-4
    if wanted < rate:
        assert np.abs(resample(wave(wanted / 2 + 500, rate), rate, wanted)).max() < 1e-4, "a high tone came back low"


def test_a_file_that_is_cut_off(words: Path) -> None:
    path = words / "high" / "7.wav"
    raw = path.read_bytes()
    for cut in (len(raw) - 2, len(raw) // 2, 50, 20):
        path.write_bytes(raw[:cut])
        data = named_sets.load("words")
        assert data.skipped == ("words/high/7.wav: it is truncated",)
        assert len(data) == 23
    path.write_bytes(b"not a sound")
    assert "words/high/7.wav: " in named_sets.load("words").skipped[0]
    (words / "low" / "7.wav").write_bytes(raw[:100])
    with pytest.raises(InputError, match="2 of 24 samples"):
        named_sets.load("words")


def test_a_model_that_takes_no_sound(words: Path) -> None:
    for shape in ((3, 32, 32), (2, 800)):
        with pytest.raises(InputError, match="holds sound"):
            named_sets.load("words", like(*shape))


def test_images_and_sounds_in_one_folder(words: Path) -> None:
    (words / "high" / "cover.png").write_bytes(b"")
    with pytest.raises(InputError, match="images and sounds"):
        named_sets.load("words")


def test_a_header_that_claims_a_tiny_rate(words: Path, tmp_path: Path) -> None:
    """Resampled from 1 Hz, 10,000 samples would be 160 million."""
    soundfile.write(tmp_path / "words" / "low" / "0.wav", np.zeros(10_000), 1, "PCM_16")
    data = named_sets.load("words?rate=16000&seconds=0.1")
    assert len(data) == 23
    assert "at 16,000 Hz its 10,000 samples at 1 Hz are too many" in data.skipped[0]


def test_a_sound_that_claims_too_much(words: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.sets.audio.MOST_VALUES", 1000)
    tone(words / "low" / "0.wav", seconds=1, hertz=200)
    assert "it claims 8,000 samples of 1 channels" in named_sets.load("words?seconds=0.1").skipped[0]
