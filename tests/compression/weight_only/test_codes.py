from __future__ import annotations

import numpy as np
import pytest

from edgekit.compression.weight_only import awq
from edgekit.compression.weight_only.codes import Codes, Grid, packed, rounded, searched
from edgekit.compression.weight_only.gptq import compensated
from edgekit.compression.weight_only.methods import Matrix, choose, codes_of, with_more_bits
from edgekit.compression.weight_only.moments import Moments

RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_t(4, (24, 96)).astype(np.float32)
#: correlated inputs, some of them large
INPUTS = (RNG.normal(size=(400, 12)) @ RNG.normal(size=(12, 96)) * np.exp(RNG.normal(size=96))).astype(np.float32)


def moments(inputs: np.ndarray = INPUTS) -> Moments:
    one = Moments(inputs.shape[1])
    for part in np.array_split(inputs, 5):
        one.add(part)
    return one


def output_error(codes: Codes) -> float:
    return float(np.sum((INPUTS @ (codes.values - WEIGHTS).T) ** 2) / np.sum((INPUTS @ WEIGHTS.T) ** 2))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [0, 16, 32, 40, 64, 128])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_weight_is_at_most_half_a_step_away(bits: int, block: int, symmetric: bool) -> None:
    codes = rounded(WEIGHTS, Grid(bits, block, symmetric))
    width = min(block or 96, 96)
    steps = np.repeat(np.abs(codes.scales), width, axis=1)[:, :96]
    error = np.abs(codes.values - WEIGHTS)
    # the end of a symmetric range opposite to the largest weight is a step further in; a zero point is rounded
    assert (error <= (1.001 if symmetric else 0.501 + 0.5) * steps).all() and (error <= 0.501 * steps).mean() > 0.95
    assert codes.codes.max() < 2**bits and codes.scales.shape == (24, -(-96 // width))


def test_the_best_range_is_never_worse() -> None:
    for grid in (Grid(4, 32), Grid(4, 32, True), Grid(8, 0, True)):
        plain, better = rounded(WEIGHTS, grid), searched(WEIGHTS, grid)
        assert np.sum((better.values - WEIGHTS) ** 2) <= np.sum((plain.values - WEIGHTS) ** 2)


def test_weights_that_are_all_zero_or_equal() -> None:
    for value in (0.0, 3.0, -2.0, 1e-30):
        matrix = np.full((2, 32), value, np.float32)
        for grid in (Grid(4, 16), Grid(4, 16, True)):
            for codes in (rounded(matrix, grid), searched(matrix, grid)):
                assert np.isfinite(codes.values).all() and np.allclose(codes.values, matrix, atol=1e-6, rtol=1e-5)


def test_what_is_known_of_the_inputs_brings_the_outputs_nearer() -> None:
    known, grid = moments(), Grid(4, 32)
    errors = {method: output_error(codes_of(WEIGHTS, grid, method, known, None)) for method in ("rtn", "scale", "gptq")}  # type: ignore[arg-type]
    assert errors["gptq"] < 0.5 * errors["scale"] < errors["rtn"]
    assert awq.error(WEIGHTS, rounded(WEIGHTS, grid), known) * len(INPUTS) == pytest.approx(
        errors["rtn"] * np.sum((INPUTS @ WEIGHTS.T) ** 2), rel=1e-3
    )


def test_scaled_inputs_bring_the_outputs_nearer() -> None:
    known, grid = moments(), Grid(4, 0)
    factor = awq.scaled([WEIGHTS], [grid], known)
    assert factor is not None
    scaled = codes_of(WEIGHTS, grid, "awq", known, factor)
    plain = codes_of(WEIGHTS, grid, "scale", known, None)
    assert awq.error(WEIGHTS, scaled, known, factor) < 0.95 * awq.error(WEIGHTS, plain, known)


def test_a_curvature_that_has_no_inverse() -> None:
    start = rounded(WEIGHTS, Grid(4, 32))
    zero = compensated(WEIGHTS, start, np.zeros((96, 96), np.float32))
    assert np.abs(zero.values - WEIGHTS).max() < 2 * np.abs(start.values - WEIGHTS).max()
    broken = compensated(WEIGHTS, start, np.full((96, 96), np.nan, np.float32))
    assert (broken.codes == start.codes).all()


def test_half_bytes() -> None:
    codes = np.arange(10, dtype=np.uint8).reshape(2, 5)
    assert packed(codes, 4).tolist() == [[0x10, 0x32, 0x04], [0x65, 0x87, 0x09]]
    assert packed(codes, 8) is codes


def test_the_most_sensitive_get_more_bits() -> None:
    even = RNG.uniform(-1, 1, (24, 96)).astype(np.float32)
    matrices = [
        Matrix(name, name, name, lambda values=values: values, (24, 96))  # type: ignore[misc]
        for name, values in (("equal", np.full_like(even, 0.5)), ("tailed", WEIGHTS), ("even", even))
    ]
    grids = {matrix.key: Grid(4, 32, True) for matrix in matrices}
    low, eight = choose(matrices, grids, "rtn", {}), Grid(8, 32, True)
    higher = dict.fromkeys(grids, eight)
    one = with_more_bits(low, matrices, higher, "rtn", {}, count=1)
    assert one.raised == ("tailed",) and one.codes["tailed"].grid.bits == 8 and one.codes["even"].grid.bits == 4
    cost = eight.bytes_of((24, 96)) - grids["even"].bytes_of((24, 96))
    assert with_more_bits(low, matrices, higher, "rtn", {}, spare=2 * cost).raised == ("tailed", "even")
    assert with_more_bits(low, matrices, higher, "rtn", {}, spare=cost - 1).raised == ()
    assert len(with_more_bits(low, matrices, higher, "rtn", {}, count=9).raised) == 3
