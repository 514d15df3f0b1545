"""Spoken digits of six speakers (FSDD), as log-mel features, classified by a GRU.

Free Spoken Digit Dataset: 3,000 recordings at 8 kHz, `recordings/DIGIT_SPEAKER_INDEX.wav` in `fsdd.zip`. The speaker of
the test split is heard nowhere else.
"""

from __future__ import annotations

import io
import wave
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from data import found
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.sets.reading import sample_set
from edgekit.tasks.shared.base import Classification
from edgekit.tasks.shared.images import shuffled

SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TEST_SPEAKER = "yweweler"
#: of the other speakers' fifty recordings of a digit, those with lower numbers are the validation split
VALIDATION = 10
RATE, WINDOW, HOP, FFT = 8000, 256, 200, 512
MELS, FRAMES = 40, 40

Floats = NDArray[np.float32]


class Digits(Classification):
    """Log-mel features (N, 40 frames, 40 bands) float32 → logits (N, 10)."""

    models = ("speech.py:Gru",)
    licences = ("Free Spoken Digit Dataset (CC BY-SA 4.0)",)
    classes = tuple("0123456789")

    def arguments(self, model: str) -> Mapping[str, Any]:
        return {"bands": MELS, "classes": len(self.classes)}

    def load(self, split: str) -> SampleSet:
        if split not in ("train", "val", "test"):
            raise InputError(f"{self.name} has no split {split!r}", next="it has train, val, test")
        chosen = [(features(sound), digit) for digit, _, sound in recordings(split)]
        order = shuffled(len(chosen))
        inputs = np.stack([chosen[i][0] for i in order])
        return sample_set(f"{self.name}:{split}", {"input": inputs}, np.array([chosen[i][1] for i in order], np.int64))


def recordings(split: str) -> Iterator[tuple[int, str, Floats]]:
    """Digit, speaker and sound (8 kHz, -1 to 1) of a split's recordings, by name. Raises InputError without them."""
    how = "set EDGEKIT_DATA to the folder with fsdd.zip, the recordings of the Free Spoken Digit Dataset"
    with zipfile.ZipFile(found("fsdd.zip", how)) as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".wav")):
            digit, speaker, index = name.rpartition("/")[2].removesuffix(".wav").split("_")
            part = "test" if speaker == TEST_SPEAKER else "val" if int(index) < VALIDATION else "train"
            if part == split:
                yield int(digit), speaker, _sound(archive.read(name))


def features(sound: Floats) -> Floats:
    """(40 frames, 40 bands): the log energies of mel bands from 0 to 4 kHz in Hann windows of 32 ms every 25 ms.

    Each recording has mean 0 and standard deviation 1. A longer one is cut, a shorter one filled up with silence.
    """
    length = WINDOW + HOP * (FRAMES - 1)
    filled = np.pad(sound[:length], (0, max(0, length - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(filled, WINDOW)[::HOP]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW), FFT)) ** 2
    energies = np.log(power @ _bands().T + 1e-6)
    return ((energies - energies.mean()) / max(energies.std(), 1e-6)).astype(np.float32)


def _bands() -> NDArray[np.float64]:
    """Triangles (bands, bins) at equal distances in mel, 2595 log10(1 + f / 700), which overlap by half."""
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, MELS + 2) / 2595) - 1)
    bins = np.linspace(0, RATE / 2, FFT // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


def _sound(raw: bytes) -> Floats:
    with wave.open(io.BytesIO(raw)) as file:
        if (file.getframerate(), file.getnchannels(), file.getsampwidth()) != (RATE, 1, 2):
            raise InputError("a recording is not of 8 kHz, one channel, 16 bits", next="fetch fsdd.zip again")
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


class Gru(nn.Module):
    """(N, frames, bands) → (N, classes) logits: one recurrent layer, its states averaged over time."""

    def __init__(self, bands: int, classes: int, width: int = 192) -> None:
        super().__init__()
        self.gru = nn.GRU(bands, width, batch_first=True)
        self.dropout, self.head = nn.Dropout(0.3), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.gru(x)
        logits: Tensor = self.head(self.dropout(states.mean(dim=1)))
        return logits
