"""Activation-aware scaling: inputs that carry much get finer steps, by a factor that the model divides them by.

Lin et al. 2023, https://arxiv.org/abs/2306.00978. The factors are powers of the inputs' mean magnitudes; matrices that
read the same tensor share them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgekit.compression.weight_only.codes import Codes, Floats, Grid, searched
from edgekit.compression.weight_only.moments import Moments

#: the exponents that are tried
POWERS = (0.0, 0.15, 0.3, 0.45, 0.6)
#: the least gain in squared error for which a model gets one more operator
WORTH = 0.95


def scaled(matrices: Sequence[Floats], grids: Sequence[Grid], moments: Moments) -> Floats | None:
    """The factors `[in]` that matrices `[out, in]` of one input are to be multiplied by before they are rounded, and
    their input divided by; None if none is worth it."""
    errors, factors = [], []
    for power in POWERS:
        factor = factors_of(moments, power)
        codes = [searched(m * factor, g, moments.importance / factor**2) for m, g in zip(matrices, grids, strict=True)]
        errors.append(sum(error(m, c, moments, factor) for m, c in zip(matrices, codes, strict=True)))
        factors.append(factor)
    best = int(np.argmin(errors))
    return factors[best] if errors[best] < WORTH * errors[0] else None


def factors_of(moments: Moments, power: float) -> Floats:
    """The mean magnitudes to that power, their geometric mean 1."""
    magnitude = np.maximum(moments.magnitude, 1e-4 * max(float(moments.magnitude.max()), 1e-12))
    logarithms = power * np.log(magnitude)
    return np.asarray(np.exp(logarithms - logarithms.mean()), np.float32)


def error(matrix: Floats, codes: Codes, moments: Moments, factor: Floats | np.float32 | float = 1.0) -> float:
    """The mean squared error of a matrix's outputs, summed over them; of the codes of matrix x factor."""
    change = matrix - codes.values / factor
    curvature = moments.curvature
    if curvature is None:
        return float(np.einsum("oi,oi,i->", change, change, moments.importance))
    return float(np.einsum("oi,oi->", change @ curvature, change))
