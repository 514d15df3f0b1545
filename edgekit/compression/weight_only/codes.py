"""Weights as integers of 4 or 8 bits, in blocks of a row that share a scale: value = scale x (code - zero)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Integers = NDArray[np.uint8]

#: shares of a block's range that `searched` tries: what lies outside is clipped
SHARES = tuple(np.linspace(1.0, 0.64, 10))
#: rounds of rounding to given scales, and fitting the scales to what was rounded
FITS = 2
#: the least float16 that is not 0
LEAST_HALF = np.float32(2.0**-24)
#: rows that are searched at a time
ROWS = 2048


@dataclass(frozen=True)
class Grid:
    """The integers that weights may become: their bits, how many in a row share a scale (0: all), and, if `symmetric`,
    a zero point in the middle; else each block has its own. `positive`: scales are, and in 4 bits exact in float16,
    and the least code is left out, as in TFLite."""

    bits: int
    block: int = 0
    symmetric: bool = False
    positive: bool = False

    @property
    def least(self) -> int:
        return int(self.positive)

    @property
    def largest(self) -> int:
        return int(2**self.bits - 1)

    @property
    def middle(self) -> int:
        return int(2 ** (self.bits - 1))

    def representable(self, scales: Floats) -> Floats:
        """The nearest scales that a file can have."""
        if not self.positive:
            return scales
        scales = np.abs(scales)
        if self.bits == 8:
            return scales
        return np.maximum(scales, LEAST_HALF).astype(np.float16).astype(np.float32)

    def width(self, columns: int) -> int:
        """The weights of a block in a row of so many."""
        return min(self.block or columns, columns)

    def bytes_of(self, shape: tuple[int, int]) -> int:
        """Bytes of a matrix `[out, in]` in a file: codes of whole blocks, float32 scales, zero points where they
        differ."""
        rows, columns = shape
        width = self.width(columns)
        blocks = rows * -(-columns // width)
        return (blocks * width * self.bits + (0 if self.symmetric else blocks * self.bits)) // 8 + 4 * blocks

    def described(self) -> str:
        """ "int4 weights in blocks of 32, asymmetric"."""
        where = f"in blocks of {self.block}" if self.block else "per channel"
        return f"int{self.bits} weights {where}, {'symmetric' if self.symmetric else 'asymmetric'}"


@dataclass(frozen=True)
class Codes:
    """A matrix `[out, in]`: codes of that shape, scales and zero points `[out, blocks]`."""

    grid: Grid
    codes: Integers
    scales: Floats
    zeros: Integers

    @property
    def values(self) -> Floats:
        """The weights that they stand for, `[out, in]`."""
        scales, zeros = (self._wide(part) for part in (self.scales, self.zeros))
        return np.asarray((self.codes.astype(np.float32) - zeros) * scales, np.float32)

    @property
    def bytes(self) -> int:
        rows, columns = self.codes.shape
        return self.grid.bytes_of((rows, columns))

    def _wide(self, per_block: NDArray[np.generic]) -> Floats:
        columns = self.codes.shape[1]
        repeated = np.repeat(per_block, self.grid.width(columns), axis=1)[:, :columns]
        return np.asarray(repeated, np.float32)


def rounded(matrix: Floats, grid: Grid) -> Codes:
    """Round to nearest; the range of a block is that of its weights."""
    blocks = _blocks(matrix, grid)
    scales, zeros = _scales(blocks, grid, 1.0)
    return _codes(matrix, grid, scales, zeros)


def searched(matrix: Floats, grid: Grid, importance: Floats | None = None) -> Codes:
    """Round to nearest with the range of each block that has the least squared error, each input counting as much as
    `importance` `[in]` says (the mean square of its samples); then scales are fitted to the codes by least squares."""
    parts = [_searched(matrix[row : row + ROWS], grid, importance) for row in range(0, len(matrix), ROWS)]
    return Codes(
        grid,
        np.concatenate([part.codes for part in parts]),
        np.concatenate([part.scales for part in parts]),
        np.concatenate([part.zeros for part in parts]),
    )


def _searched(matrix: Floats, grid: Grid, importance: Floats | None) -> Codes:
    blocks = _blocks(matrix, grid)
    ones = np.ones(matrix.shape[1], np.float32) if importance is None else np.asarray(importance, np.float32)
    counts = _blocks(ones[None], grid)
    best_scales, best_zeros = _scales(blocks, grid, 1.0)
    best = _error(blocks, counts, grid, best_scales, best_zeros)

    def improve(scales: Floats, zeros: Floats) -> None:
        error = _error(blocks, counts, grid, scales, zeros)
        better = error < best
        best[better], best_scales[better], best_zeros[better] = error[better], scales[better], zeros[better]

    for share in SHARES[1:]:
        improve(*_scales(blocks, grid, share))
    for _ in range(FITS):
        offsets = _rounded(blocks, grid, best_scales, best_zeros) - best_zeros[..., None]
        energy = np.einsum("obw,obw->ob", offsets * counts, offsets)
        fitted = np.einsum("obw,obw->ob", offsets * counts, blocks) / np.where(energy > 0, energy, 1)
        scales = np.where((energy > 0) & (fitted != 0), fitted, best_scales).astype(np.float32)
        improve(grid.representable(scales), best_zeros.copy())
    return _codes(matrix, grid, best_scales, best_zeros)


def _blocks(matrix: Floats, grid: Grid) -> Floats:
    """`[out, blocks, width]`, the last block filled up with zeros."""
    rows, columns = matrix.shape
    width = grid.width(columns)
    missing = -columns % width
    padded = np.pad(matrix, ((0, 0), (0, missing))) if missing else matrix
    return np.ascontiguousarray(padded, np.float32).reshape(rows, -1, width)


def _scales(blocks: Floats, grid: Grid, share: float) -> tuple[Floats, Floats]:
    """Scales and zero points `[out, blocks]` for that share of each block's range.

    A symmetric block's largest weight gets the code 0, the one that has no counterpart: its scale may be negative.
    """
    low, high = np.minimum(blocks.min(axis=2), 0), np.maximum(blocks.max(axis=2), 0)
    if grid.symmetric:
        extreme = np.where(-low > high, low, high)
        scales = -share * extreme / (grid.middle - grid.least)
        zeros = np.full(scales.shape, grid.middle, np.float32)
    else:
        scales = share * (high - low) / grid.largest
        zeros = np.rint(-share * low / np.where(scales > 0, scales, 1))
    scales = np.where(np.abs(scales) < np.finfo(np.float32).tiny, 1, scales)
    return grid.representable(scales.astype(np.float32)), np.clip(zeros, 0, grid.largest).astype(np.float32)


def _rounded(blocks: Floats, grid: Grid, scales: Floats, zeros: Floats) -> Floats:
    codes = np.rint(blocks / scales[..., None]) + zeros[..., None]
    return np.asarray(np.clip(codes, grid.least, grid.largest, out=codes), np.float32)


def _error(blocks: Floats, counts: Floats, grid: Grid, scales: Floats, zeros: Floats) -> Floats:
    """The squared error of each block, `[out, blocks]`."""
    values = (_rounded(blocks, grid, scales, zeros) - zeros[..., None]) * scales[..., None]
    values -= blocks
    return np.asarray(np.einsum("obw,obw->ob", values * counts, values), np.float32)


def _codes(matrix: Floats, grid: Grid, scales: Floats, zeros: Floats) -> Codes:
    codes = _rounded(_blocks(matrix, grid), grid, scales, zeros)
    flat = codes.reshape(len(matrix), -1)[:, : matrix.shape[1]]
    return Codes(grid, flat.astype(np.uint8), scales, zeros.astype(np.uint8))


def packed(codes: Integers, bits: int) -> Integers:
    """Codes of 4 bits two to a byte along the last axis, the first in the low half; those of 8 bits as they are."""
    if bits == 8:
        return codes
    even = codes if codes.shape[-1] % 2 == 0 else np.concatenate([codes, np.zeros_like(codes[..., :1])], axis=-1)
    return np.asarray(even[..., 0::2] | (even[..., 1::2] << 4), np.uint8)
