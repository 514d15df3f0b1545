"""GPTQ: weights are rounded to int8 levels so that the others compensate the error of each.

Frantar et al. 2022, https://arxiv.org/abs/2210.17323, after Hassibi and Stork's optimal brain surgeon. Each layer sees
the inputs it will have in int8: activations rounded, everything before it rounded already. What these do to its outputs
it makes good in part, as in GPTAQ (Li et al. 2025, https://arxiv.org/abs/2504.02692). The largest weight of each output
channel stays at the end of the grid, so every backend finds the same step from it, and the same weights.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.compression.program import BatchedInterpreter, Program
from edgekit.compression.simulation import LARGEST, Range, fake_quantize, nearest, scales
from edgekit.compression.weighted_layers import Layer
from edgekit.core.progress import Progress

#: places of each sample that are looked at
PLACES = 1_024
#: share of the mean curvature that is added to all: what few samples did not show is not taken for free
DAMPING = 0.01
#: columns updated one by one before the rest are, all at once
BLOCK = 128
#: a Hessian of more rows than this (268 MB in float32) is not made
MAX_ROWS = 8_192
#: one sample in so many validates the rounding that is fitted on the others
HELD_OUT = 4


#: of the change to the weights that would undo the inputs' errors on the calibration samples, this much is made, and
#: this share of the mean curvature damps it: half the way measured better than all of it on samples not seen
SHARE, SHARE_DAMPING = 0.5, 1.0


@dataclass(frozen=True)
class Rounded:
    """What became of a layer: "asymmetric" also makes good its inputs' errors, "gptq" only its own weights'.

    Errors are of its output on held-out samples against the float network's, as shares of the output's energy, before
    the biases of `shifted` channels were corrected.
    """

    layer: str
    method: str
    nearest_error: float
    error: float
    shifted: int = 0


@dataclass(frozen=True)
class Moments:
    """Of inputs in int8, X, and in float, X + E, over some places: XXᵀ and EXᵀ `[groups, in, in]`, and |W E|².

    `sums`: of X and of E, `[groups, in, 1]`; `places`: over how many.
    """

    curvature: Tensor
    drift: Tensor
    floor: float
    sums: tuple[Tensor, Tensor]
    places: int

    def missing(self, matrix: Tensor, rounded: Tensor) -> Tensor:
        """The sum of W (X + E) - Q X over all places, `[groups, out]`."""
        total, drift = self.sums
        return ((matrix - rounded) @ total + matrix @ drift)[..., 0]

    def error(self, matrix: Tensor, rounded: Tensor) -> float:
        """|W (X + E) - Q X|², for float weights W and rounded ones Q."""
        change = matrix - rounded
        return output_energy(change, self.curvature) + 2 * float(((matrix @ self.drift) * change).sum()) + self.floor


def quantize(
    program: Program,
    feeds: Sequence[Sequence[Tensor]],
    ranges: Mapping[str, Range],
    seed: int,
    progress: Progress,
    log: logging.Logger,
    correct_biases: bool = False,
) -> list[Rounded]:
    """Round the weights of every layer of `program`, in order; `ranges` are those that activations are quantized in.

    `correct_biases` takes what is left of each channel's mean error out of its bias, where held-out samples agree that
    it is one (Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.2; there for weights rounded to nearest).

    Memory: what is alive of each sample between two nodes, in float and in int8, and one layer's moments.
    """
    generator = torch.Generator().manual_seed(seed)
    int8, floats = (
        BatchedInterpreter(program.module, feeds, _rounding(ranges)),
        BatchedInterpreter(program.module, feeds),
    )
    layers, report = program.layers(), []
    for layer in progress(layers, "rounding weights", len(layers)):
        int8.until(layer.node)
        floats.until(layer.node)
        best, shift, layer_report = choose(
            layer, list(zip(int8[layer.input], floats[layer.input], strict=True)), generator
        )
        floats.step()  # with the float weights, which are replaced now
        layer.assign(best)
        if correct_biases and layer.bias is not None:
            layer.values(layer.bias).detach().add_(shift)
            layer_report = replace(layer_report, shifted=int(shift.count_nonzero()))
        log.info("gptq: %s", layer_report)
        report.append(layer_report)
    return report


@torch.no_grad()
def choose(
    layer: Layer, values: Sequence[tuple[Tensor, Tensor]], generator: torch.Generator
) -> tuple[Tensor, Tensor, Rounded]:
    """The layer's weights on their grid, by whatever does best on held-out samples of (int8 input, float input).

    The second is what its bias lacks then, `[out]`: 0 for a channel where it would not help on the held-out samples.
    """
    matrix = layer.matrix()
    tried = {"nearest": nearest(matrix)}
    if matrix.shape[-1] > MAX_ROWS:
        return (
            tried["nearest"],
            matrix.new_zeros(matrix.shape[0] * matrix.shape[1]),
            Rounded(layer.name, "nearest", 0, 0),
        )
    held_out = [value for index, value in enumerate(values) if index % HELD_OUT == HELD_OUT - 1]
    seen = [value for index, value in enumerate(values) if index % HELD_OUT != HELD_OUT - 1]
    learnt = moments(layer, matrix, seen, generator)
    judge = moments(layer, matrix, held_out, generator) if held_out else learnt
    tried["gptq"] = gptq(matrix, learnt.curvature)
    tried["asymmetric"] = gptq(corrected(matrix, learnt), learnt.curvature)
    energy = max(output_energy(matrix, judge.curvature), 1e-30)
    errors = {name: judge.error(matrix, rounded) / energy for name, rounded in tried.items()}
    best = min(errors, key=lambda name: errors[name])
    shift = learnt.missing(matrix, tried[best]) / learnt.places
    gain = 2 * shift * judge.missing(matrix, tried[best]) - judge.places * shift.square()
    shift = torch.where(gain > 0, shift, 0).flatten()
    return tried[best], shift, Rounded(layer.name, best, errors["nearest"], errors[best])


def moments(
    layer: Layer, matrix: Tensor, values: Sequence[tuple[Tensor, Tensor]], generator: torch.Generator
) -> Moments:
    """Summed over up to PLACES places of each sample, the same in both inputs."""
    groups, _, size = matrix.shape
    curvature, drift = (torch.zeros(groups, size, size) for _ in range(2))
    sums = torch.zeros(groups, size, 1), torch.zeros(groups, size, 1)
    floor, places = 0.0, 0
    for value, wanted in values:
        state = generator.get_state()
        columns = layer.columns(value, PLACES, generator)
        generator.set_state(state)
        error = layer.columns(wanted, PLACES, generator) - columns
        curvature += columns @ columns.transpose(1, 2)
        drift += error @ columns.transpose(1, 2)
        floor += float((matrix @ error).square().sum())
        for total, part in zip(sums, (columns, error), strict=True):
            total += part.sum(2, keepdim=True)
        places += columns.shape[2]
    return Moments(curvature, drift, floor, sums, places)


def corrected(matrix: Tensor, moments: Moments) -> Tensor:
    """The weights moved towards those that give the float outputs from the int8 inputs, by damped least squares."""
    damped = moments.curvature.to(_precision(matrix)).clone()
    mean = damped.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    damped.diagonal(dim1=1, dim2=2).add_(SHARE_DAMPING * mean[:, None])
    lower, failed = torch.linalg.cholesky_ex(damped)
    if failed.any():
        return matrix
    correction = (matrix @ moments.drift).to(damped.dtype).transpose(1, 2)
    return matrix + SHARE * torch.cholesky_solve(correction, lower).transpose(1, 2).to(matrix.dtype)


def output_energy(matrix: Tensor, curvature: Tensor) -> float:
    """The sum of squares of `matrix @ X`, for the X of `curvature` XXᵀ."""
    return float(((matrix @ curvature) * matrix).sum())


def gptq(matrix: Tensor, curvature: Tensor) -> Tensor:
    """`matrix` `[groups, out, in]` on its grids, minimising the error of its products under `curvature`.

    Inputs go by falling curvature: those that matter least come last, where nothing is left to make an error good.
    Where the curvature cannot be inverted, each weight is rounded to nearest.
    """
    order = curvature.diagonal(dim1=1, dim2=2).argsort(descending=True)  # [groups, in]
    weights = matrix.gather(2, order[:, None].expand_as(matrix)).to(_precision(matrix))
    upper = _inverse(curvature, order, weights.dtype)
    if upper is None:
        return nearest(matrix)
    scale = scales(matrix).to(weights.dtype)
    largest = weights.abs().argmax(-1, keepdim=True)
    pinned = torch.zeros_like(weights).scatter_(2, largest, weights.gather(2, largest).sign() * LARGEST)
    codes = _codes(weights, upper, scale[..., 0], pinned)
    back = torch.empty_like(codes).scatter_(2, order[:, None].expand_as(codes), codes)
    return (back * scale).to(matrix.dtype)


def _codes(weights: Tensor, upper: Tensor, scale: Tensor, pinned: Tensor) -> Tensor:
    """Integers `[groups, out, in]`; `upper` is the Cholesky factor of the inverse, `pinned` a code or 0."""
    codes = torch.empty_like(weights)
    size = weights.shape[-1]
    for first in range(0, size, BLOCK):
        last = min(first + BLOCK, size)
        errors = torch.zeros_like(weights[..., first:last])
        for index in range(first, last):
            column = weights[..., index]
            code = (column / scale).round().clamp(-LARGEST, LARGEST)
            code = torch.where(pinned[..., index] != 0, pinned[..., index], code)
            error = (column - code * scale) / upper[:, index, index, None]
            weights[..., index:last] -= error[..., None] * upper[:, None, index, index:last]
            codes[..., index], errors[..., index - first] = code, error
        weights[..., last:] -= errors @ upper[:, first:last, last:]
    return codes


def _inverse(curvature: Tensor, order: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The upper Cholesky factor of the damped curvature's inverse, rows and columns in that order; None if singular."""
    rows = curvature.gather(1, order[:, :, None].expand_as(curvature))
    sorted = rows.gather(2, order[:, None].expand_as(curvature)).to(dtype)
    mean = sorted.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    for damping in (DAMPING, 10 * DAMPING, 100 * DAMPING):
        damped = sorted.clone()
        damped.diagonal(dim1=1, dim2=2).add_(damping * mean[:, None])
        lower, failed = torch.linalg.cholesky_ex(damped)
        if failed.any():
            continue
        upper: Tensor
        upper, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
        if not failed.any() and torch.isfinite(upper).all():
            return upper
    return None


def _precision(matrix: Tensor) -> torch.dtype:
    """float64 where it costs little."""
    return torch.float64 if matrix.shape[-1] <= 2_048 else torch.float32


def _rounding(ranges: Mapping[str, Range]) -> Any:
    def change(node: Node, value: Any) -> Any:
        return fake_quantize(value, ranges[node.name]) if node.name in ranges else value

    return change
