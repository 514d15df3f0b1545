"""What samples say of the inputs of matrices: the second moments that GPTQ needs, and mean magnitudes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.compression.weight_only.codes import Floats

Feed = Mapping[str, NDArray[Any]]
#: feed → the tensors of the names that it was made for
Run = Callable[[Feed], Mapping[str, NDArray[Any]]]

#: bytes of moments that are gathered in one pass over the samples; more tensors take more passes
MOST_BYTES = 2 << 30
#: inputs of more features keep the mean squares alone
MOST_FEATURES = 8192
#: rows (tokens, positions) that are taken of one sample
MOST_ROWS = 4096


@dataclass
class Moments:
    """Of one tensor with `features` values in its last axis: XᵀX `[in, in]` (or its diagonal `[in]`), Σ|X| `[in]`."""

    features: int
    rows: int = 0

    def __post_init__(self) -> None:
        whole = self.features <= MOST_FEATURES
        self.squares = np.zeros((self.features, self.features) if whole else (self.features,), np.float32)
        self.magnitudes = np.zeros(self.features, np.float64)

    def add(self, values: NDArray[Any]) -> None:
        flat = np.asarray(values, np.float32).reshape(-1, self.features)[:MOST_ROWS]
        self.squares += flat.T @ flat if self.squares.ndim == 2 else np.einsum("ri,ri->i", flat, flat)
        self.magnitudes += np.abs(flat).sum(axis=0)
        self.rows += len(flat)

    @property
    def curvature(self) -> Floats | None:
        """The mean of XᵀX, `[in, in]`; None if there are too many features, or no samples."""
        return self.squares / np.float32(self.rows) if self.squares.ndim == 2 and self.rows else None

    @property
    def importance(self) -> Floats:
        """The mean square of each feature, `[in]`."""
        diagonal = np.diagonal(self.squares) if self.squares.ndim == 2 else self.squares
        return np.asarray(diagonal / max(1, self.rows), np.float32)

    @property
    def magnitude(self) -> Floats:
        """The mean magnitude of each feature, `[in]`."""
        return np.asarray(self.magnitudes / max(1, self.rows), np.float32)


def gathered(
    features: Mapping[str, int], run: Callable[[Sequence[str]], Run], feeds: Callable[[], Iterable[Feed]]
) -> dict[str, Moments]:
    """The moments of the tensors `features` (name → size of the last axis), in as many passes as memory asks for.

    `run(names)` prepares the model to return these tensors for a feed.
    """
    moments: dict[str, Moments] = {}
    for names in _passes(features):
        part = {name: Moments(features[name]) for name in names}
        compute = run(names)
        for feed in feeds():
            tensors = compute(feed)
            for name, one in part.items():
                one.add(tensors[name])
        moments |= part
    return moments


def _passes(features: Mapping[str, int]) -> Iterator[list[str]]:
    names: list[str] = []
    total = 0
    for name, size in features.items():
        bytes = 4 * (size * size if size <= MOST_FEATURES else size)
        if names and total + bytes > MOST_BYTES:
            yield names
            names, total = [], 0
        names.append(name)
        total += bytes
    if names:
        yield names
