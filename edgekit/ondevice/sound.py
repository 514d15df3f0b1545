"""Log-mel features of a recording: numpy and the standard library only, shipped with the artifacts that need them.

The settings are in `sound.json` next to it: `rate` in Hz, `length` in samples, `window`, `hop` and `fft` in samples,
`bands`, `low` and `high` in Hz. On a device:

    settings = json.load(open("sound.json"))
    features = log_mel(fitted(*read_wav("yes.wav"), settings), settings)  # (frames, bands) float32

`python sound.py yes.wav out.npy` writes them.
"""

from __future__ import annotations

import json
import os
import sys
import wave

import numpy as np


def read_wav(path):
    """Samples (N,) float32 in [-1, 1], mixed to mono, and the rate in Hz, of a WAV file of 8, 16 or 32 bits."""
    with wave.open(path if hasattr(path, "read") else str(path)) as file:
        width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
        raw = file.readframes(file.getnframes())
    if width not in (1, 2, 4):
        raise ValueError("%d bits per sample" % (8 * width))
    whole = np.frombuffer(raw[: len(raw) // (width * channels) * width * channels], "<u1 <i2 - <i4".split()[width - 1])
    values = (whole.astype(np.float64) - (128 if width == 1 else 0)) / 2 ** (8 * width - 1)
    return values.reshape(-1, channels).mean(axis=1).astype(np.float32), rate


def resampled(values, rate, new_rate):
    """The same sound at another rate (Hz): its spectrum is truncated or zero-padded."""
    if rate == new_rate:
        return values
    count = max(1, round(len(values) * new_rate / rate))
    spectrum = np.fft.rfft(values)[: count // 2 + 1]
    return (np.fft.irfft(spectrum, count) * (count / len(values))).astype(np.float32)


def fitted(values, rate, settings):
    """Resampled to the rate of the settings, then cropped or zero-padded to their length."""
    values = resampled(np.asarray(values, np.float32), rate, settings["rate"])[: settings["length"]]
    return np.pad(values, (0, settings["length"] - len(values)))


def log_mel(sound, settings):
    """(frames, bands) float32 of (..., length): log energies in mel bands, with Hann windows.

    Normalized to mean 0 and standard deviation 1 over the recording, so that the features do not depend on loudness.
    """
    window, hop, fft = settings["window"], settings["hop"], settings["fft"]
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(sound, np.float64), window)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(window + 1)[:-1], fft)) ** 2
    energies = np.log(power @ mel_bands(settings).T + 1e-6)
    return ((energies - energies.mean()) / max(energies.std(), 1e-6)).astype(np.float32)


def mel_bands(settings):
    """Triangular filters (bands, bins), equally spaced in mel, 2595 log10(1 + f / 700), overlapping by half."""
    low, high = (2595 * np.log10(1 + settings[end] / 700) for end in ("low", "high"))
    edges = 700 * (10 ** (np.linspace(low, high, settings["bands"] + 2) / 2595) - 1)
    bins = np.linspace(0, settings["rate"] / 2, settings["fft"] // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


def main(path, out):
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "sound.json"), encoding="utf-8") as file:
        settings = json.load(file)
    np.save(out, log_mel(fitted(*read_wav(path), settings), settings)[None])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
