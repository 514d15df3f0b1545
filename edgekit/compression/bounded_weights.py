"""Int8 weights whose sums no x86 CPU saturates, though it has no VNNI.

Such a CPU multiplies unsigned by signed bytes and adds two neighbouring products in 16 bits (VPMADDUBSW, Intel's
Software Developer's Manual, volume 2), which clips sums beyond 32,767. With activations up to 255 two neighbouring
weights of one sign must not add up to more than 128. Halving all weights (7 bits) is one way; few neighbours are both
large, so a scale per channel, and less of the few pairs that are larger, keep most of the eighth bit.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: 255 (a + b) fits 16 bits up to a + b = 128
LARGEST_SUM, LARGEST = 128, 127
#: what 7 bits hold; two of them always fit
HALVED = 63
#: inputs of a matrix product that oneDNN's kernel for AVX2 takes at once
BLOCK = 256
#: a channel's largest weight gets one of these codes
_CODES = range(LARGEST, HALVED - 1, -1)


def bound(weights: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Weights `[out, in, *taps]` rounded to bounded codes, and each channel's scale `[out]`.

    The scale is that of the least squared error, so weights that are bounded codes already do not change.
    """
    rows = weights.reshape(len(weights), -1).astype(np.float32)
    pairs = list(neighbours(*weights.shape[1:]))
    largest = np.abs(rows).max(axis=1, keepdims=True)
    largest[largest == 0] = LARGEST
    best, errors, scales = rows, np.full(len(rows), np.inf, np.float32), np.ones_like(largest)
    for code in _CODES if pairs else _CODES[:1]:
        scale = largest / code
        rounded = _fitted(np.rint(rows / scale), pairs) * scale
        error = np.square(rounded - rows).sum(axis=1)
        better = (error < errors)[:, None]
        best, scales = np.where(better, rounded, best), np.where(better, scale, scales)
        errors = np.minimum(error, errors)
    return best.reshape(weights.shape), scales[:, 0]


def neighbours(inputs: int, *taps: int) -> Iterator[NDArray[np.intp]]:
    """Pairs `[pairs, 2]` of indices into a channel's weights `[inputs, *taps]` that a kernel adds in 16 bits.

    Several sets, each weight at most once in each: one for an even number of inputs, of which all kernels take two by
    two at each tap. Otherwise they leave the last one alone, or go on with the next tap, the next in the row, or the
    next in the column; and oneDNN's matrix product, which goes through more than BLOCK in two parts, may start the
    second one at any weight. Found with weights that are zero except for two.
    """
    places = np.moveaxis(np.arange(inputs * math.prod(taps)).reshape(inputs, *taps), 0, -1)
    rows = places.reshape(-1, (taps[-1] if taps else 1) * inputs)
    columns_first = places.transpose(*reversed(range(len(taps))), len(taps))
    orders = [places[..., : inputs // 2 * 2], places, rows[:, : rows.shape[1] // 2 * 2], columns_first]
    if places.size > BLOCK and places.size % 4:
        orders.append(places.reshape(-1)[1:])
    seen: set[bytes] = set()
    for order in orders:
        pairs = np.sort(order.reshape(-1)[: order.size // 2 * 2].reshape(-1, 2), axis=1)
        pairs = pairs[np.argsort(pairs[:, 0])]
        if len(pairs) and pairs.tobytes() not in seen:
            seen.add(pairs.tobytes())
            yield pairs


def _fitted(codes: NDArray[np.float32], pairs: Sequence[NDArray[np.intp]]) -> NDArray[np.float32]:
    """Codes `[out, weights]`, in place: of each pair that adds up to too much, both become smaller by half of that."""
    for first, second in (each.T for each in pairs):
        total = codes[:, first] + codes[:, second]
        excess = np.maximum(np.abs(total) - LARGEST_SUM, 0)
        if excess.any():
            codes[:, first] -= np.sign(total) * np.ceil(excess / 2)
            codes[:, second] -= np.sign(total) * np.floor(excess / 2)
    return codes
