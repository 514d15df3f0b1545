"""GPTQ in blocks: what rounding one weight costs, the weights that are rounded after it make up for.

Frantar et al. 2022, https://arxiv.org/abs/2210.17323: inputs in the order of their curvature, scales fixed before.
The int8 steps' GPTQ (`compression/gptq.py`) runs in torch, on convolutions too, and pins the codes that backends derive
scales from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.compression.weight_only.codes import Codes, Floats, Integers

#: damping of the curvature, as a share of its mean
DAMPING = (0.01, 0.1, 1.0)
#: columns that are updated one by one before all later ones are
COLUMNS = 128
#: outputs that are rounded at a time: they do not depend on each other
ROWS = 16_384


def compensated(matrix: Floats, start: Codes, curvature: Floats) -> Codes:
    """The codes of a matrix `[out, in]` with the scales of `start`; `curvature` `[in, in]`: the mean of XᵀX.

    Those of `start` if the curvature cannot be inverted.
    """
    order = np.argsort(-np.diagonal(curvature), kind="stable")
    factor = _factor(curvature[np.ix_(order, order)].astype(np.float64))
    if factor is None:
        return start
    codes = np.empty(matrix.shape, np.uint8)
    for row in range(0, len(matrix), ROWS):
        rows = slice(row, row + ROWS)
        part = Codes(start.grid, start.codes[rows], start.scales[rows], start.zeros[rows])
        codes[rows] = _rounded(matrix[rows], part, factor.astype(np.float32), order)
    return Codes(start.grid, codes, start.scales, start.zeros)


def _rounded(matrix: Floats, start: Codes, factor: Floats, order: NDArray[np.intp]) -> Integers:
    """`factor`: that of the inverse curvature, in the `order` of inputs."""
    grid, columns = start.grid, matrix.shape[1]
    block_of = order // grid.width(columns)
    weights = matrix[:, order].astype(np.float32)
    scales, zeros = start.scales[:, block_of], start.zeros[:, block_of].astype(np.float32)
    codes = np.empty(matrix.shape, np.uint8)
    for first in range(0, columns, COLUMNS):
        last = min(first + COLUMNS, columns)
        errors = np.empty((len(matrix), last - first), np.float32)
        for index in range(first, last):
            column, scale, zero = weights[:, index], scales[:, index], zeros[:, index]
            code = np.clip(np.rint(column / scale) + zero, grid.least, grid.largest)
            error = (column - (code - zero) * scale) / factor[index, index]
            weights[:, index + 1 : last] -= error[:, None] * factor[None, index, index + 1 : last]
            codes[:, order[index]], errors[:, index - first] = code, error
        weights[:, last:] -= errors @ factor[first:last, last:]
    return codes


def _factor(curvature: Floats) -> Floats | None:
    """The upper Cholesky factor of the inverse of the damped curvature; None if it has none."""
    mean = max(float(np.mean(np.diagonal(curvature))), 1e-12)
    for share in DAMPING:
        damped = curvature + share * mean * np.eye(len(curvature))
        try:
            upper = np.linalg.cholesky(np.linalg.inv(damped)).T
        except np.linalg.LinAlgError:
            continue
        if np.isfinite(upper).all():
            return upper
    return None
