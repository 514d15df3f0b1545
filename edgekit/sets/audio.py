"""Audio: a folder of WAV or FLAC files by class, or one file, as (samples,) float32 from -1 to 1, read by libsndfile.

Channels are averaged. With `rate`, files are resampled; with `seconds`, or if the model's input has a fixed length,
longer files are cut and shorter ones padded with silence.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError, Missing
from edgekit.core.signature import InputSignature, plain
from edgekit.ondevice import preprocess
from edgekit.sets.folder import Folder
from edgekit.sets.options import Options
from edgekit.sets.preprocessing import audio_signature
from edgekit.sets.reading import UnreadableSample

SUFFIXES = (".wav", ".flac")

#: of one file: 45 minutes at 48 kHz
MOST_VALUES = 1 << 27


def read(path: Path, options: Options, model_inputs: Sequence[TensorSpec]) -> Folder:
    """A folder of sound files. Raises InputError, Missing."""
    decoder = AudioDecoder(str(path), options, model_inputs)
    return Folder(path, SUFFIXES, lambda file: {decoder.input: decoder(file, str(file))}, decoder)


class AudioDecoder:
    """Decodes sound files to arrays of one shape: (samples,), with axes of size 1 if the model's input has them.

    If neither the options nor the model's input fix rate and length, the first file does. `input` is the input's name.
    Raises InputError if no input takes sound, Missing.
    """

    def __init__(self, name: str, options: Options, model_inputs: Sequence[TensorSpec]) -> None:
        try:
            import soundfile  # noqa: F401
        except ImportError as error:
            raise Missing.install("reading sound", "soundfile", "data") from error
        spec = _audio_input(model_inputs, name)
        self._name, self._signature = name, audio_signature(spec, options, name)
        self._rate = self._signature.rate
        self.input = spec.name if spec else "input"
        self._shape = spec.shape[1:] if spec else (None,)
        self._length = max((size or 0 for size in self._shape), default=0)
        self._length = 0 if self._length == 1 else self._length
        self._fixed_length = bool(self._length or self._signature.seconds)
        self._first_name, self._record = "", plain(self._signature)

    def __call__(self, file: Path | IO[bytes], name: str) -> NDArray[np.float32]:
        """One file; `name` is for messages. Raises UnreadableSample, or InputError if rate or length differ."""
        import soundfile

        raw = file.read_bytes() if isinstance(file, Path) else file.read()
        if is_truncated(raw):
            raise UnreadableSample("it is truncated")
        try:
            with soundfile.SoundFile(io.BytesIO(raw)) as sound:
                rate = sound.samplerate
                if sound.frames * sound.channels > MOST_VALUES:
                    raise UnreadableSample(f"it claims {sound.frames:,} samples of {sound.channels} channels")
                values = sound.read(dtype="float32", always_2d=True).mean(axis=1)
        except (soundfile.SoundFileError, ValueError) as error:
            raise UnreadableSample(str(error).partition("\n")[0]) from error
        if not len(values):
            raise UnreadableSample("it holds no sound")
        self._check_rate(name, rate)
        if len(values) * self._rate > MOST_VALUES * rate:
            raise UnreadableSample(f"at {self._rate:,} Hz its {len(values):,} samples at {rate:,} Hz are too many")
        values = resample(values, rate, self._rate)
        if self._fixed_length and not self._length:
            self._length = max(1, round(self._signature.seconds * self._rate))
        self._length = self._length or len(values)
        if len(values) != self._length and not self._fixed_length:
            lengths = f"{self._first_name} has {self._length} samples, {name} has {len(values)}"
            seconds = f"{self._length / self._rate:g}"
            what = f"the files of {self._name} differ in length"
            raise InputError(what, lengths, f"set a length: '{self._name}?seconds={seconds}'")
        values = np.pad(values[: self._length], (0, max(0, self._length - len(values))))
        shaped = values.reshape([1 if size == 1 else self._length for size in self._shape])
        values = preprocess.normalized(shaped, self._record)
        return np.asarray(values, np.float32)

    def decoded(self) -> Mapping[str, InputSignature]:
        """By input name, how the sounds were decoded so far."""
        if not self._first_name:
            return {}
        return {self.input: replace(self._signature, rate=self._rate, seconds=self._length / self._rate)}

    def notes(self) -> tuple[str, ...]:
        return ()

    def _check_rate(self, name: str, rate: int) -> None:
        """The first file sets the rate; the others must have it unless they are resampled."""
        self._first_name = self._first_name or name
        self._rate = self._rate or rate
        if rate != self._rate and not self._signature.rate:
            rates = f"{self._first_name} has {self._rate} Hz, {name} has {rate} Hz"
            what = f"the files of {self._name} differ in rate"
            raise InputError(what, rates, f"set a rate: '{self._name}?rate={self._rate}'")


def resample(values: NDArray[np.float32], rate: int, target_rate: int) -> NDArray[np.float32]:
    """Fourier resampling to another rate (Hz), as in scipy.signal.resample: the spectrum is cut or zero-padded.

    The signal is assumed to be periodic, which distorts its ends.
    """
    if rate == target_rate:
        return values
    count = max(1, round(len(values) * target_rate / rate))
    spectrum = np.fft.rfft(values)[: count // 2 + 1]
    return (np.fft.irfft(spectrum, count) * (count / len(values))).astype(np.float32)


def is_truncated(raw: bytes) -> bool:
    """Whether a WAV file ends before its data chunk does; libsndfile reads such a file without an error.

    RIFF chunks have a four-letter name, a size, and that many bytes, padded to an even number. Programs that stream
    write sizes of 0 or 2**32 - 1.
    """
    if raw[:4] != b"RIFF" or raw[8:12] != b"WAVE":
        return False
    offset = 12
    while offset + 8 <= len(raw):
        name, size = struct.unpack_from("<4sI", raw, offset)
        if name == b"data":
            return size not in (0, 0xFFFFFFFF) and offset + 8 + size > len(raw)
        offset += 8 + size + size % 2
    return True


def _audio_input(model_inputs: Sequence[TensorSpec], name: str) -> TensorSpec | None:
    """The model's input that takes sound; None without a model."""
    if not model_inputs:
        return None
    if len(model_inputs) == 1 and sum(size != 1 for size in model_inputs[0].shape[1:]) == 1:
        return model_inputs[0]
    accepted: Any = ", ".join(map(str, model_inputs))
    raise InputError(f"{name} holds sound", f"the model takes {accepted}", "use an .npz with one array per input")
