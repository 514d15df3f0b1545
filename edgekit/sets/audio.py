"""Sound: a folder of WAV or FLAC files by class, or one file, as (samples,) float32 from -1 to 1. Read by libsndfile.

Channels are averaged. With `rate` a file of another rate is resampled; with `seconds`, or where the model's input says
how many samples it takes, longer ones are cut and shorter ones filled up with silence.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError, Missing
from edgekit.sets.folder import Folder
from edgekit.sets.images import normalized
from edgekit.sets.options import Options
from edgekit.sets.reading import UnreadableSample

SUFFIXES = (".wav", ".flac")


def read(path: Path, options: Options, like: Sequence[TensorSpec]) -> Folder:
    """A folder of sound files. Raises InputError, Missing."""
    clip = Clip(str(path), options, like)
    return Folder(path, SUFFIXES, lambda file: {clip.input: clip(file, str(file))})


class Clip:
    """Decodes sound files to arrays of one shape: (samples,), or with an axis of one where the model takes it so.

    The rate and the length that nothing else fixes are those of the first file. `input` is the input's name. Raises
    InputError where no input takes sound, Missing.
    """

    def __init__(self, name: str, options: Options, like: Sequence[TensorSpec]) -> None:
        try:
            import soundfile  # noqa: F401
        except ImportError as error:
            raise Missing.install("reading sound", "soundfile", "data") from error
        self._name, self._options, self._rate = name, options, options.rate
        spec = _taking(like, name)
        self.input = spec.name if spec else "input"
        self._shape = spec.shape[1:] if spec else (None,)
        self._length = max((size or 0 for size in self._shape), default=0)
        self._length = 0 if self._length == 1 else self._length
        self._cut = bool(self._length or options.seconds)
        self._first = ""

    def __call__(self, file: Path | IO[bytes], name: str) -> NDArray[np.float32]:
        """One file; `name` is for people. Raises Corrupt, or InputError where files differ and may not."""
        import soundfile

        raw = file.read_bytes() if isinstance(file, Path) else file.read()
        if cut_off(raw):
            raise UnreadableSample("it is cut off")
        try:
            with soundfile.SoundFile(io.BytesIO(raw)) as sound:
                rate = sound.samplerate
                values = sound.read(dtype="float32", always_2d=True).mean(axis=1)
        except (soundfile.SoundFileError, ValueError) as error:
            raise UnreadableSample(str(error).partition("\n")[0]) from error
        if not len(values):
            raise UnreadableSample("it holds no sound")
        self._settle(name, rate)
        values = resampled(values, rate, self._rate)
        if self._cut and not self._length:
            self._length = max(1, round(self._options.seconds * self._rate))
        self._length = self._length or len(values)
        if len(values) != self._length and not self._cut:
            lengths = f"{self._first} has {self._length} samples, {name} has {len(values)}"
            seconds = f"{self._length / self._rate:g}"
            what = f"the files of {self._name} differ in length"
            raise InputError(what, lengths, f"say how long: '{self._name}?seconds={seconds}'")
        values = np.pad(values[: self._length], (0, max(0, self._length - len(values))))
        shaped = values.reshape([1 if size == 1 else self._length for size in self._shape])
        return normalized(shaped, self._options, None).astype(np.float32, copy=False)

    def _settle(self, name: str, rate: int) -> None:
        """Let the first file fix the rate, and hold the others to it unless they are resampled."""
        self._first = self._first or name
        self._rate = self._rate or rate
        if rate != self._rate and not self._options.rate:
            rates = f"{self._first} has {self._rate} Hz, {name} has {rate} Hz"
            what = f"the files of {self._name} differ in rate"
            raise InputError(what, rates, f"say which: '{self._name}?rate={self._rate}'")


def resampled(values: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """The same sound at another rate (Hz), band-limited: its spectrum is cut or filled up with zeros.

    As scipy.signal.resample does; the sound is taken to be periodic, which blurs its very ends.
    """
    if rate == wanted:
        return values
    count = max(1, round(len(values) * wanted / rate))
    spectrum = np.fft.rfft(values)[: count // 2 + 1]
    return (np.fft.irfft(spectrum, count) * (count / len(values))).astype(np.float32)


def cut_off(raw: bytes) -> bool:
    """Does a WAV file end before its data do? libsndfile reads what is left without a word.

    Chunks as in the RIFF specification: four letters, a size, that many bytes, padded to an even number. Sizes of 0
    and 2**32 - 1 are what programs write that did not know.
    """
    if raw[:4] != b"RIFF" or raw[8:12] != b"WAVE":
        return False
    at = 12
    while at + 8 <= len(raw):
        name, size = struct.unpack_from("<4sI", raw, at)
        if name == b"data":
            return size not in (0, 0xFFFFFFFF) and at + 8 + size > len(raw)
        at += 8 + size + size % 2
    return True


def _taking(like: Sequence[TensorSpec], name: str) -> TensorSpec | None:
    """The model's input that takes sound; None where nothing is known of the model."""
    if not like:
        return None
    if len(like) == 1 and sum(size != 1 for size in like[0].shape[1:]) == 1:
        return like[0]
    taken: Any = ", ".join(map(str, like))
    raise InputError(f"{name} holds sound", f"the model takes {taken}", "give it an .npz with one array per input")
