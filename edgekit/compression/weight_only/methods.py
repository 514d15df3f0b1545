"""Which integers a model's weights become: the method, and which matrices get more bits.

rtn      round to nearest
scale    the range of each block with the least squared error, weighted by the inputs where samples are given
awq      scale, after the inputs that carry much were given finer steps: one more operator per input
gptq     scale, then GPTQ
auto     gptq where samples are given, else scale
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from edgekit.compression.weight_only import awq, gptq
from edgekit.compression.weight_only.codes import Codes, Floats, Grid, rounded, searched
from edgekit.compression.weight_only.moments import Moments
from edgekit.core.progress import Progress, quiet

Method = Literal["auto", "rtn", "scale", "awq", "gptq"]
#: methods that need samples
FROM_SAMPLES = ("awq", "gptq")


@dataclass(frozen=True)
class Matrix:
    """One operator's weights, `values` `[out, in]`.

    `key`: the constant; operators with the same key share it. `input`: the tensor that it multiplies, "" for a table
    of embeddings. `role`: a "head" is the last product before an output.
    """

    name: str
    key: str
    input: str
    values: Callable[[], Floats]
    shape: tuple[int, int]
    role: Literal["product", "head", "table"] = "product"


@dataclass
class Chosen:
    """`codes`: of each constant; `factors`: of each input that is to be divided by them; `raised`: the operators that
    got more bits, the most sensitive first."""

    codes: dict[str, Codes] = field(default_factory=dict)
    factors: dict[str, Floats] = field(default_factory=dict)
    raised: tuple[str, ...] = ()

    def lowered(self, matrices: Sequence[Matrix], before: Chosen) -> Chosen:
        """With the last one raised as it was before."""
        key = next(matrix.key for matrix in matrices if matrix.name == self.raised[-1])
        return Chosen({**self.codes, key: before.codes[key]}, self.factors, self.raised[:-1])


def codes_of(values: Floats, grid: Grid, method: Method, moments: Moments | None, factor: Floats | None) -> Codes:
    """The codes of one matrix, or of matrix x factor."""
    if method == "rtn":
        return rounded(values, grid)
    if moments is None:
        return searched(values, grid)
    scale = np.float32(1) if factor is None else factor
    start = searched(values * scale, grid, moments.importance / scale**2)
    if method != "gptq" or moments.curvature is None:
        return start
    return gptq.compensated(values, start, moments.curvature)


def sensitivity(values: Floats, codes: Codes, moments: Moments | None, factor: Floats | None) -> float:
    """The energy of the error of a matrix's outputs as a share of that of its outputs; of its weights without
    samples."""
    scale = np.float32(1) if factor is None else factor
    if moments is None:
        return float(np.sum((values - codes.values) ** 2) / max(float(np.sum(values**2)), 1e-30))
    nothing = Codes(codes.grid, np.zeros_like(codes.codes), codes.scales, np.zeros_like(codes.zeros))
    return awq.error(values, codes, moments, scale) / max(awq.error(values, nothing, moments), 1e-30)


def choose(
    matrices: Sequence[Matrix],
    grids: Mapping[str, Grid],
    method: Method,
    moments: Mapping[str, Moments],
    progress: Progress = quiet,
) -> Chosen:
    """The codes of every constant, by the grid of its key; a tied head's by the samples of the head."""
    chosen = Chosen(factors=_factors(matrices, grids, moments) if method == "awq" else {})
    products_first = sorted(matrices, key=lambda matrix: matrix.role == "table")
    for matrix in progress(products_first, "rounding", len(matrices)):
        if matrix.key not in chosen.codes:
            known, factor = moments.get(matrix.input), chosen.factors.get(matrix.input)
            chosen.codes[matrix.key] = codes_of(matrix.values(), grids[matrix.key], method, known, factor)
    return chosen


def with_more_bits(
    chosen: Chosen,
    matrices: Sequence[Matrix],
    higher: Mapping[str, Grid],
    method: Method,
    moments: Mapping[str, Moments],
    count: int = 0,
    spare: float = 0.0,
) -> Chosen:
    """The `count` products whose outputs suffer most, or those with the largest error per byte that fit into `spare`
    more bytes, by the grids `higher`."""
    errors: dict[str, tuple[float, int, Matrix]] = {}
    for matrix in (m for m in matrices if m.role == "product" and m.key not in errors):
        before, known = chosen.codes[matrix.key], moments.get(matrix.input)
        error = sensitivity(matrix.values(), before, known, chosen.factors.get(matrix.input))
        errors[matrix.key] = error, higher[matrix.key].bytes_of(matrix.shape) - before.bytes, matrix
    taken = [matrix for _, _, matrix in sorted(errors.values(), key=lambda one: -one[0])[:count]]
    for _, cost, matrix in sorted(errors.values(), key=lambda one: -one[0] / max(1, one[1])) if not count else ():
        if cost <= spare:
            spare -= cost
            taken.append(matrix)
    codes = dict(chosen.codes)
    for matrix in taken:
        known, factor = moments.get(matrix.input), chosen.factors.get(matrix.input)
        codes[matrix.key] = codes_of(matrix.values(), higher[matrix.key], method, known, factor)
    return Chosen(codes, chosen.factors, tuple(matrix.name for matrix in taken))


def _factors(
    matrices: Sequence[Matrix], grids: Mapping[str, Grid], moments: Mapping[str, Moments]
) -> dict[str, Floats]:
    """Of each input that only products read; a shared constant, which others read too, is left out."""
    keys = [matrix.key for matrix in matrices]
    factors = {}
    for name, known in moments.items():
        group = [matrix for matrix in matrices if matrix.input == name]
        if any(keys.count(matrix.key) > 1 for matrix in group):
            continue
        values = [matrix.values() for matrix in group]
        factor = awq.scaled(values, [grids[matrix.key] for matrix in group], known)
        if factor is not None:
            factors[name] = factor
    return factors
