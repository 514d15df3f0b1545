"""The ranges format: activation statistics of a calibration pass, from which the int8 steps derive their ranges."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import ModelFacts, Sizes
from edgekit.core.errors import InputError, os_errors
from edgekit.core.files import replacing
from edgekit.core.format import Format
from edgekit.core.json import parse


class Ranges(Format):
    file: ClassVar[str] = "ranges.npz"

    @staticmethod
    def describe(path: Path) -> ModelFacts:
        """The number of tensors and samples; the file is not a model. Raises InputError if it is damaged."""
        statistics = Statistics.load(path)
        with os_errors("read", path):
            total = path.stat().st_size
        details = {"tensors": len(statistics), "samples": statistics.samples}
        return ModelFacts((), (), Sizes(total, 0, 0, total), details=details)


BINS = 65_536

#: tensors of up to this number of values are counted completely
FULL_COUNT_SIZE = 16_384

#: dtypes of the arrays in a file
_TYPES = {"extremes": "f8", "count": "i8", "first": "i8", "bins": "u2", "counts": "i8"}

#: errors that numpy and zipfile raise for a damaged archive, or for another file
_DAMAGED = (ValueError, LookupError, TypeError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Histogram:
    """The values of one tensor: exact `minimum`, `maximum` and `count`, and a histogram `counts` by bfloat16 bits.

    An empty one has `minimum` inf and `maximum` -inf. `counts` covers the strided samples of values only.
    """

    __slots__ = ("count", "counts", "maximum", "minimum")

    def __init__(self) -> None:
        self.minimum, self.maximum, self.count = float("inf"), float("-inf"), 0
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)

    def add(self, values: NDArray[np.float32], stride: int = 17) -> None:
        """Add an array of any shape: exact extremes, and every `stride`-th value for the counts (all of a small one).

        The start of the stride changes from call to call by a hash of `count`, so that the same samples always give
        the same counts. The default is prime: a divisor of the number of channels would skip some of them. Raises
        ValueError for NaN or infinity; nothing is added then.
        """
        if not values.size:
            return
        flat = np.ascontiguousarray(values, np.float32).reshape(-1)
        stride = 1 if flat.size <= FULL_COUNT_SIZE else stride
        start = (self.count // flat.size * 2_654_435_769 % 2**32 * stride) >> 32
        low, high = float(flat.min()), float(flat.max())  # NaN propagates through both
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("holds NaN or infinity")
        np.add.at(self.counts, (flat.view(np.uint32)[start::stride] >> 16).astype(np.intp), 1)
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self.count += flat.size

    def merge(self, other: Histogram) -> Histogram:
        """A new histogram of both."""
        merged = Histogram()
        merged.minimum = min(self.minimum, other.minimum)
        merged.maximum = max(self.maximum, other.maximum)
        merged.count = self.count + other.count
        merged.counts = self.counts + other.counts
        return merged

    def values(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        """The non-empty bins in ascending order: lower edges, upper edges, counts.

        Edges are clipped to the extremes; the bin of zero, which also holds magnitudes below 2**-133, has no width.
        """
        bits = np.flatnonzero(self.counts)
        sign, magnitude = np.where(bits >= BINS // 2, -1.0, 1.0), (bits % (BINS // 2)).astype(np.uint32)
        inner_edge = (magnitude << 16).view(np.float32).astype(np.float64)
        outer_edge = np.where(magnitude, ((magnitude << 16) | 0xFFFF).view(np.float32).astype(np.float64), 0.0)
        lower = np.clip(np.where(sign > 0, inner_edge, -outer_edge), self.minimum, self.maximum)
        upper = np.clip(np.where(sign > 0, outer_edge, -inner_edge), self.minimum, self.maximum)
        order = np.lexsort((upper, lower))
        return lower[order], upper[order], self.counts[bits][order]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        own_values, other_values = (self.minimum, self.maximum, self.count), (other.minimum, other.maximum, other.count)
        return own_values == other_values and np.array_equal(self.counts, other.counts)


class Statistics(Mapping[str, Histogram]):
    """Tensor name → its histogram, over `samples` samples. Memory use does not depend on their number.

    `origin` identifies the model and data of the calibration ("" if not recorded).
    """

    def __init__(self, histograms: Mapping[str, Histogram] | None = None, samples: int = 0, origin: str = "") -> None:
        self._histograms = dict(histograms or {})
        self.samples, self.origin = samples, origin

    def __getitem__(self, name: str) -> Histogram:
        return self._histograms[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._histograms)

    def __len__(self) -> int:
        return len(self._histograms)

    def add(self, tensors: Mapping[str, NDArray[Any]], samples: int = 1) -> None:
        """Add the tensors of one run of the model over `samples` samples.

        Raises InputError, naming tensor and sample, for NaN or infinity, because no scale fits them.
        """
        for name, values in tensors.items():
            try:
                self._histograms.setdefault(name, Histogram()).add(values)
            except ValueError as error:
                samples_text = f"sample {self.samples}" if samples == 1 else f"samples {self.samples} to "
                samples_text += "" if samples == 1 else str(self.samples + samples - 1)
                what = f"tensor {name!r} {error} on calibration {samples_text}"
                raise InputError(
                    "this model cannot be calibrated", what, "check this sample, then the model"
                ) from error
        self.samples += samples

    def alias(self, names: Mapping[str, str]) -> None:
        """Let each key share the histogram of its value."""
        for name, other in names.items():
            self._histograms[name] = self._histograms[other]

    def save(self, path: Path) -> None:
        """Write an `.npz` atomically, without pickles and empty bins.

        Raises NoSpace, NoPermission or InputError.
        """
        tensors = list(self._histograms.values())
        bins = [np.flatnonzero(tensor.counts) for tensor in tensors]
        arrays: dict[str, NDArray[Any]] = {
            "names": np.frombuffer(json.dumps(list(self._histograms)).encode(), np.uint8),
            "origin": np.frombuffer(self.origin.encode(), np.uint8),
            "samples": np.array(self.samples, np.int64),
            "extremes": np.array([(t.minimum, t.maximum) for t in tensors], np.float64).reshape(-1, 2),
            "count": np.array([t.count for t in tensors], np.int64),
            "first": np.cumsum([0, *map(len, bins)], dtype=np.int64),
            "bins": np.concatenate([np.empty(0, np.uint16), *(b.astype(np.uint16) for b in bins)]),
            "counts": np.concatenate(
                [np.empty(0, np.int64), *(t.counts[b] for t, b in zip(tensors, bins, strict=True))]
            ),
        }
        with os_errors("write", path), replacing(path) as part, part.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Raises InputError if the file is damaged, or another file."""
        try:
            with os_errors("read", path), np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            return cls._from(arrays)
        except InputError:
            raise
        except _DAMAGED as error:
            what = f"{path} does not hold activation statistics"
            raise InputError(what, "it is damaged", "create it again with the step calibrate") from error

    @classmethod
    def _from(cls, arrays: Mapping[str, NDArray[Any]]) -> Statistics:
        """Raises ValueError, LookupError or TypeError if the arrays are inconsistent."""
        names, origin = parse(arrays["names"].tobytes()), arrays["origin"].tobytes().decode()
        extremes, count, first = arrays["extremes"], arrays["count"], arrays["first"]
        bins, counts, samples = arrays["bins"], arrays["counts"], int(arrays["samples"])
        if (
            any(arrays[name].dtype != dtype for name, dtype in _TYPES.items())
            or extremes.shape != (len(names), 2)
            or count.shape != (len(names),)
            or first.shape != (len(names) + 1,)
            or bins.ndim != 1
            or bins.shape != counts.shape
            or (first[0], first[-1], samples >= 0) != (0, len(bins), True)
            or (np.diff(first) < 0).any()
            or (count < 0).any()
            or (counts < 0).any()
            or (bins & 0x7F80 == 0x7F80).any()  # the bits of infinity and NaN
            or not isinstance(names, list)
            or not all(isinstance(name, str) for name in names)
            or len(set(names)) != len(names)
        ):
            raise ValueError("the arrays are inconsistent")
        histograms = {}
        for index, name in enumerate(names):
            histogram = histograms[name] = Histogram()
            part = slice(first[index], first[index + 1])
            histogram.counts[bins[part]] = counts[part]
            histogram.minimum, histogram.maximum = map(float, extremes[index])
            histogram.count = int(count[index])
            low, high, empty = histogram.minimum, histogram.maximum, histogram.count == 0
            if not ((low, high) == (np.inf, -np.inf) if empty else np.isfinite((low, high)).all() and low <= high):
                raise ValueError(f"the extremes of {name} are impossible")
        return cls(histograms, samples, origin)
