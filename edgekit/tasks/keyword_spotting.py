"""Keyword spotting: ten spoken digits, tested on a speaker who is not in the training data; or any folder of sounds.

The Free Spoken Digit Dataset: 3,000 recordings at 8 kHz, `recordings/DIGIT_SPEAKER_INDEX.wav`, in a folder or in
`fsdd.zip`. The features are computed before the network (`ondevice/sound.py`, numpy only) and not in the exported
model, because int8 cannot hold a spectrum that spans six decades. The code and its settings are stored with every
artifact.
"""

from __future__ import annotations

import io
import json
import shutil
import wave
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, Missing, os_errors
from edgekit.core.json import read as read_json
from edgekit.core.json import record
from edgekit.core.progress import Progress, quiet
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature
from edgekit.ondevice import sound
from edgekit.sets import reading
from edgekit.sets.audio import SUFFIXES, is_truncated
from edgekit.sets.folder import Folder
from edgekit.sets.labels import Raw
from edgekit.sets.options import SPLITS, Options
from edgekit.sets.reading import Item, UnreadableSample, collect, labels_of
from edgekit.tasks.shared import downloads
from edgekit.tasks.shared.base import Classification

TEST_SPEAKER = "yweweler"
#: the validation split is the other speakers' recordings of each digit with an index below this
VALIDATION = 13
FRAMES, BANDS = 49, 40
SETTINGS = "sound.json"

Floats = NDArray[np.float32]


class KeywordSpotting(Classification):
    """Log-mel features (N, 49 frames, 40 bands) float32 → logits (N, classes)."""

    name = "keyword-spotting"
    models = ("ds-cnn-kws", "gru-kws")

    @dataclass(frozen=True)
    class Options:
        """`data`: a folder with one folder per word, or FSDD. `rate`: Hz (0: the first file's). `seconds`: length."""

        data: str = ""
        rate: int = 0
        seconds: float = 1.0

        def problems(self) -> Iterator[str]:
            if self.rate and not 1000 <= self.rate <= 192000:
                yield "rate must be from 1000 to 192000 Hz"
            if not 0.2 <= self.seconds <= 60:
                yield "seconds must be from 0.2 to 60"

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or self.Options()

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        if not self._options.data:
            return tuple("0123456789")
        return labels_of(self.name, self._reader({}), Options()).classes

    @property
    def licences(self) -> tuple[str, ...]:  # type: ignore[override]
        return () if self._options.data else ("Free Spoken Digit Dataset (CC BY-SA 4.0)",)

    @cached_property
    def settings(self) -> Mapping[str, Any]:
        """Of the features: 49 windows of 30 ms over the recording, bands up to 4 kHz (or half the rate)."""
        rate = self._options.rate or self._reader({}).rate()
        length = round(self._options.seconds * rate)
        window = round(0.03 * rate)
        hop = (length - window) // (FRAMES - 1)
        fft = 1 << (window - 1).bit_length()
        length = window + hop * (FRAMES - 1)
        high = min(4000, rate // 2)
        return {
            **{"rate": rate, "length": length, "window": window, "hop": hop, "fft": fft},
            **{"bands": BANDS, "low": 20, "high": high},
        }

    def arguments(self, model: str) -> Mapping[str, Any]:
        """MLPerf Tiny's network takes ten cepstral coefficients, which it computes from the bands."""
        arguments = {"frames": FRAMES, "bands": BANDS, "classes": len(self.classes)}
        return {**arguments, "coefficients": 10} if model == "ds-cnn-kws" else arguments

    def load(self, split: str, progress: Progress = quiet) -> SampleSet:
        """The recordings as features. Raises InputError if they are not available, or too many are unreadable."""
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        conversions: dict[str, int] = {}
        data = collect(f"{self.name}:{split}", self._reader(conversions), Options(), split, progress)
        order = np.random.default_rng(0).permutation(len(data)) if not self._options.data else np.arange(len(data))
        (features,) = data.inputs.values()
        assert data.labels is not None
        notes = tuple(f"{count} of {len(data)} recordings {what}" for what, count in conversions.items())
        return reading.sample_set(data.name, {"input": features[order]}, data.labels[order], data.skipped, notes)

    def augment(self, inputs: Mapping[str, Any], labels: Any, generator: Any) -> tuple[Mapping[str, Any], Any]:
        """Random shift, stretch, filter and noise: see `_augmented`."""
        return {"input": _augmented(inputs["input"], generator)}, labels

    def ship(self, folder: Path, parents: Mapping[str, Any]) -> None:
        """Store the features' code and settings with the model."""
        shutil.copyfile(sound.__file__, folder / "sound.py")
        (folder / SETTINGS).write_text(json.dumps(self.settings, indent=1) + "\n")

    def read(self, text: str, folder: Path) -> tuple[Mapping[str, NDArray[Any]], tuple[str, ...]]:
        """A sound file as inputs of the artifact in `folder`, and the conversions made. Raises InputError."""
        with os_errors("read", text):
            raw = Path(text).read_bytes()
        settings = asdict(record(_Settings, read_json(folder / SETTINGS), folder / SETTINGS, newer=True))
        conversions: dict[str, int] = {}
        try:
            features = _features(raw, settings, conversions)
        except UnreadableSample as error:
            raise InputError(f"cannot read {text}", str(error), "name another file") from error
        return {"input": features[None]}, tuple(conversions)

    def _reader(self, conversions: dict[str, int]) -> _Recordings:
        return _Recordings(self, self._options.data, conversions)


@dataclass(frozen=True)
class _Settings:
    """`sound.json`, see `edgekit/ondevice/sound.py`."""

    rate: int
    length: int
    window: int
    hop: int
    fft: int
    bands: int
    low: float
    high: float

    def problems(self) -> Iterator[str]:
        if min(self.rate, self.length, self.window, self.hop, self.fft, self.bands) < 1:
            yield "rate, length, window, hop, fft and bands must be positive"
        if max(self.rate, self.length, self.window, self.fft, self.bands) > 10_000_000:
            yield "rate, length, window, fft and bands must be at most 10,000,000"
        if not self.window <= self.fft or not 0 <= self.low < self.high:
            yield "window must be at most fft, and low below high"


@dataclass
class _Recordings:
    """A `Reader` of sounds; it counts conversions in `conversions`."""

    task: KeywordSpotting
    data: str
    conversions: dict[str, int]
    count: int | None = None
    labelled: bool = True
    splits: frozenset[str] = frozenset()
    _raw: list[tuple[str, Raw | None, str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        folder = Path(self.data) if self.data else None
        if folder and any(folder.glob("recordings/*_*_*.wav")):
            folder = folder / "recordings"
        if folder is None or any(folder.glob("*_*_*.wav")) or folder.suffix == ".zip":
            self._raw = list(_digit_recordings(folder))
            self.splits = frozenset(SPLITS)
        else:
            inner = Folder(folder, SUFFIXES, lambda path: {})
            self.splits = inner.splits
            self.labelled = inner.labelled
            self._raw = [(item.name, item.label, item.split, Path(item.name).read_bytes) for item in inner]
            if not inner.labelled:
                raise InputError(f"{folder} has no labels", "training needs labels", "make one folder per word")
        self.count = len(self._raw)

    def decoded(self) -> Mapping[str, InputSignature]:
        return {}

    def notes(self) -> tuple[str, ...]:
        return ()

    def rate(self) -> int:
        """The sample rate of the first readable file."""
        for _, _, _, read in self._raw:
            try:
                return _decoded(read())[1]
            except UnreadableSample:
                continue
        raise InputError(f"no recording of {self.data or 'the spoken digits'} can be read", next="check the files")

    def __iter__(self) -> Iterator[Item]:
        settings = self.task.settings
        for name, label, split, read in self._raw:
            yield Item(
                name,
                name,
                label,
                lambda read=read: {"input": _features(read(), settings, self.conversions)},  # type: ignore[misc]
                split,
            )


def _digit_recordings(folder: Path | None) -> Iterator[tuple[str, Raw | None, str, Any]]:
    """FSDD's recordings: name, digit, split, and a function that reads the bytes. Raises InputError without them."""
    advice = "set EDGEKIT_DATA to the folder with fsdd.zip or recordings/ of the Free Spoken Digit Dataset"
    source = folder or downloads.find("recordings" if _unpacked() else "fsdd.zip", advice)
    if source.is_dir():
        files: dict[str, Any] = {path.name: path.read_bytes for path in source.glob("*.wav")}
    else:
        with os_errors("read", source), zipfile.ZipFile(source) as archive:
            files = {}
            for name in archive.namelist():
                if name.endswith(".wav"):
                    files[name.rpartition("/")[2]] = partial(bytes, archive.read(name))
    for name in sorted(files):
        digit, speaker, index = name.removesuffix(".wav").split("_")
        split = "test" if speaker == TEST_SPEAKER else "val" if int(index) < VALIDATION else "train"
        yield name, int(digit), split, files[name]


def _unpacked() -> bool:
    return any(any(folder.glob("recordings/*_*_*.wav")) for folder in downloads.folders())


def _features(raw: bytes, settings: Mapping[str, Any], conversions: dict[str, int]) -> Floats:
    """(49, 40) features of a file's bytes. Raises UnreadableSample."""
    values, rate, channels = _decoded(raw)
    if rate != settings["rate"]:
        what = f"were resampled from {rate} to {settings['rate']} Hz"
        conversions[what] = conversions.get(what, 0) + 1
    if channels != 1:
        what = f"had {channels} channels, which were averaged"
        conversions[what] = conversions.get(what, 0) + 1
    if len(values) > settings["length"] * rate / settings["rate"]:
        what = f"were cut to {settings['length'] / settings['rate']:.2g} s"
        conversions[what] = conversions.get(what, 0) + 1
    features: Floats = sound.log_mel(sound.fitted(values, rate, settings), settings)
    return features


def _decoded(raw: bytes) -> tuple[Floats, int, int]:
    """Samples, rate and channels. Formats other than plain WAV need libsndfile. Raises UnreadableSample."""
    if not raw:
        raise UnreadableSample("it is empty")
    if is_truncated(raw):
        raise UnreadableSample("it is truncated")
    try:
        with wave.open(io.BytesIO(raw)) as file:
            channels = file.getnchannels()
        values, rate = sound.read_wav(io.BytesIO(raw))
    except (wave.Error, EOFError, ValueError):
        values, rate, channels = _by_libsndfile(raw)
    if not len(values):
        raise UnreadableSample("it holds no sound")
    return values, rate, channels


def _by_libsndfile(raw: bytes) -> tuple[Floats, int, int]:
    try:
        import soundfile
    except ImportError as error:
        raise Missing.install("reading this kind of sound file", "soundfile", "data") from error
    try:
        with soundfile.SoundFile(io.BytesIO(raw)) as file:
            values = file.read(dtype="float32", always_2d=True)
            return values.mean(axis=1), file.samplerate, values.shape[1]
    except (soundfile.SoundFileError, ValueError) as error:
        raise UnreadableSample(str(error).partition("\n")[0]) from error


def _augmented(x: Any, generator: Any) -> Any:
    """Features (N, frames, bands) shifted by up to a tenth in time, with bands stretched by up to a twelfth (vocal
    tract length perturbation), a random frequency response, and noise.
    """
    import torch
    from torch.nn.functional import grid_sample

    count, frames, bands = x.shape

    def uniform(low: float, high: float) -> Any:
        return low + (high - low) * torch.rand(count, 1, generator=generator).to(x.device)

    def linspace(low: float, high: float, size: int) -> Any:
        return torch.linspace(low, high, size, device=x.device)

    rows = linspace(-1, 1, frames) * uniform(0.94, 1.06) + uniform(-0.2, 0.2)
    columns = linspace(0, 2, bands) * uniform(0.92, 1.09) - 1 + uniform(-0.03, 0.03)
    grid = torch.stack([columns[:, None].expand(-1, frames, -1), rows[:, :, None].expand(-1, -1, bands)], dim=-1)
    warped = grid_sample(x[:, None], grid, padding_mode="border", align_corners=True)[:, 0]
    curve = uniform(-0.3, 0.3) * linspace(-1, 1, bands) + uniform(-0.2, 0.2) * torch.cos(
        4.7 * linspace(-1, 1, bands) + uniform(0, 6.28)
    )
    noise = torch.randn(x.shape, generator=generator).to(x.device) * uniform(0, 0.1)[:, :, None]
    return warped + curve[:, None] + noise
