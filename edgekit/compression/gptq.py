"""GPTQ: int8 weights whose rounding errors are compensated by the weights rounded after them.

Frantar et al. 2022, https://arxiv.org/abs/2210.17323, after Hassibi and Stork's optimal brain surgeon. Each layer is
calibrated with its int8 inputs: activations are fake-quantized, and all layers before it are quantized. It partly
compensates the errors of these inputs, as in GPTAQ (Li et al. 2025, https://arxiv.org/abs/2504.02692). The largest
weight of each output channel keeps the largest level, so every backend derives the same scale and the same weights.
For x86 without VNNI the codes are those of bounded weights (see `bounded_weights`), which the int8 steps for it keep.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from edgekit.compression.bounded_weights import LARGEST_SUM, bound, neighbours
from edgekit.compression.program import BatchedInterpreter, Program
from edgekit.compression.simulation import LARGEST, Range, fake_quantize, nearest, scales
from edgekit.compression.weighted_layers import Layer
from edgekit.core.progress import Progress

#: sampled positions per sample
POSITIONS = 1_024
#: damping, as a share of the mean curvature: regularizes directions that few samples determine
DAMPING = 0.01
#: columns updated one by one before all later columns are updated at once
BLOCK = 128
#: layers with a larger Hessian (268 MB in float32) are rounded to nearest
MAX_ROWS = 8_192
#: one sample in HELD_OUT validates the rounding found on the others
HELD_OUT = 4


#: the share of the weight change that compensates the inputs' errors on the calibration samples, and its damping as a
#: share of the mean curvature: half of the change measured better on unseen samples than all of it
SHARE, SHARE_DAMPING = 0.5, 1.0


@dataclass(frozen=True)
class LayerResult:
    """The result for a layer. `method`: "asymmetric" also compensates its inputs' errors, "gptq" only its weights'.

    Errors are those of its output on held-out samples against the float network's, as shares of the output's energy,
    before the biases of `shifted` channels are corrected.
    """

    layer: str
    method: str
    nearest_error: float
    error: float
    shifted: int = 0


@dataclass(frozen=True)
class Grid:
    """The codes that a layer's weights `[groups, out, in]` may get, and the weights rounded to them.

    `scale` `[groups, out, 1]`; `pinned`: codes that are fixed, else 0; `partners`: for each set of neighbours the index
    of each weight's neighbour `[in]`, or -1.
    """

    nearest: Tensor
    scale: Tensor
    pinned: Tensor
    partners: tuple[Tensor, ...] = ()

    @classmethod
    def of(cls, matrix: Tensor, inputs: tuple[int, ...] | None = None) -> Grid:
        """Those of a channel's largest weight, or of bounded weights of the shape `inputs`.

        The largest weight is pinned, so that every backend derives the same scale.
        """
        if inputs is None:
            rounded, scale, partners = nearest(matrix), scales(matrix), []
        else:
            bounded, per_channel = bound(matrix.reshape(-1, *inputs).numpy())
            rounded = torch.from_numpy(bounded).reshape(matrix.shape)
            scale = torch.from_numpy(per_channel).reshape(*matrix.shape[:2], 1)
            partners = [_partners(torch.from_numpy(pairs), matrix.shape[-1]) for pairs in neighbours(*inputs)]
        largest = rounded.abs().argmax(-1, keepdim=True)
        codes = (rounded / scale).round()
        pinned = torch.zeros_like(codes).scatter_(2, largest, codes.gather(2, largest))
        return cls(rounded, scale, pinned, tuple(partners))

    def limits(self, codes: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """The least and the largest code, `[groups, out]`, for the weight at `place` `[groups]`, given other codes."""
        groups = torch.arange(len(place))
        high = codes.new_full(codes.shape[:2], LARGEST)
        low = -high
        for partner in self.partners:
            other = partner[place]
            code = codes[groups, :, other] * (other >= 0)[:, None]
            high = torch.minimum(high, LARGEST_SUM - code.clamp(min=0))
            low = torch.maximum(low, -LARGEST_SUM - code.clamp(max=0))
        return low, high


def _partners(pairs: Tensor, size: int) -> Tensor:
    """Each weight's neighbour of these pairs `[pairs, 2]`, or -1."""
    found = torch.full((size,), -1)
    found[pairs[:, 0]], found[pairs[:, 1]] = pairs[:, 1], pairs[:, 0]
    return found


@dataclass(frozen=True)
class Moments:
    """Moments of int8 inputs X and float inputs X + E over positions: XXᵀ and EXᵀ `[groups, in, in]`, and |W E|².

    `sums`: of X and of E, `[groups, in, 1]`; `positions`: their number.
    """

    curvature: Tensor
    drift: Tensor
    floor: float
    sums: tuple[Tensor, Tensor]
    positions: int

    def missing(self, matrix: Tensor, rounded: Tensor) -> Tensor:
        """The sum of W (X + E) - Q X over all positions, `[groups, out]`."""
        total, drift = self.sums
        return ((matrix - rounded) @ total + matrix @ drift)[..., 0]

    def error(self, matrix: Tensor, rounded: Tensor) -> float:
        """|W (X + E) - Q X|², for float weights W and quantized weights Q."""
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
    bounded: bool = False,
) -> list[LayerResult]:
    """Quantize the weights of every layer of `program`, in order; `ranges` are those of the activations.

    `correct_biases` subtracts each channel's remaining mean error from its bias, if that helps on held-out samples
    (Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.2; there for weights rounded to nearest).

    Memory: each sample's live activations, in float and in int8, and one layer's moments.
    """
    generator = torch.Generator().manual_seed(seed)
    int8, floats = (
        BatchedInterpreter(program.module, feeds, _fake_quantizing(ranges)),
        BatchedInterpreter(program.module, feeds),
    )
    layers, report = program.layers(), []
    for layer in progress(layers, "rounding weights", len(layers)):
        int8.until(layer.node)
        floats.until(layer.node)
        best, shift, result = choose(
            layer, list(zip(int8[layer.input], floats[layer.input], strict=True)), generator, bounded
        )
        floats.step()  # with the float weights, which are replaced next
        layer.assign(best)
        if correct_biases and layer.bias is not None:
            layer.values(layer.bias).detach().add_(shift)
            result = replace(result, shifted=int(shift.count_nonzero()))
        log.info("gptq: %s", result)
        report.append(result)
    return report


@torch.no_grad()
def choose(
    layer: Layer, values: Sequence[tuple[Tensor, Tensor]], generator: torch.Generator, bounded: bool = False
) -> tuple[Tensor, Tensor, LayerResult]:
    """The layer's quantized weights, by the best method on held-out samples of (int8 input, float input).

    The second value is the correction of its bias, `[out]`: 0 for a channel if it does not help on held-out samples.
    """
    matrix = layer.matrix()
    inputs = layer.inputs if bounded and not layer.depthwise else None
    candidates = {"nearest": Grid.of(matrix, inputs).nearest}
    if matrix.shape[-1] > MAX_ROWS:
        return (
            candidates["nearest"],
            matrix.new_zeros(matrix.shape[0] * matrix.shape[1]),
            LayerResult(layer.name, "nearest", 0, 0),
        )
    held_out = [value for index, value in enumerate(values) if index % HELD_OUT == HELD_OUT - 1]
    seen = [value for index, value in enumerate(values) if index % HELD_OUT != HELD_OUT - 1]
    fitted = moments(layer, matrix, seen, generator)
    validation = moments(layer, matrix, held_out, generator) if held_out else fitted
    factor = factorized(fitted.curvature, _precision(matrix))
    candidates["gptq"] = gptq(matrix, fitted.curvature, inputs, factor)
    candidates["asymmetric"] = gptq(corrected(matrix, fitted), fitted.curvature, inputs, factor)
    energy = max(output_energy(matrix, validation.curvature), 1e-30)
    errors = {name: validation.error(matrix, rounded) / energy for name, rounded in candidates.items()}
    best = min(errors, key=lambda name: errors[name])
    shift = fitted.missing(matrix, candidates[best]) / fitted.positions
    gain = 2 * shift * validation.missing(matrix, candidates[best]) - validation.positions * shift.square()
    shift = torch.where(gain > 0, shift, 0).flatten()
    return candidates[best], shift, LayerResult(layer.name, best, errors["nearest"], errors[best])


def moments(
    layer: Layer, matrix: Tensor, values: Sequence[tuple[Tensor, Tensor]], generator: torch.Generator
) -> Moments:
    """Moments over up to POSITIONS positions of each sample, the same ones in both inputs."""
    groups, _, size = matrix.shape
    curvature, drift = (torch.zeros(groups, size, size) for _ in range(2))
    sums = torch.zeros(groups, size, 1), torch.zeros(groups, size, 1)
    floor, positions = 0.0, 0
    for value, reference in values:
        state = generator.get_state()
        columns = layer.im2col(value, POSITIONS, generator)
        generator.set_state(state)
        error = layer.im2col(reference, POSITIONS, generator) - columns
        curvature += columns @ columns.transpose(1, 2)
        drift += error @ columns.transpose(1, 2)
        floor += float((matrix @ error).square().sum())
        for total, part in zip(sums, (columns, error), strict=True):
            total += part.sum(2, keepdim=True)
        positions += columns.shape[2]
    return Moments(curvature, drift, floor, sums, positions)


def corrected(matrix: Tensor, statistics: Moments) -> Tensor:
    """The weights moved towards those that map the int8 inputs to the float outputs, by damped least squares."""
    damped = statistics.curvature.to(_precision(matrix)).clone()
    mean = damped.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1e-12)
    damped.diagonal(dim1=1, dim2=2).add_(SHARE_DAMPING * mean[:, None])
    lower, failed = torch.linalg.cholesky_ex(damped)
    if failed.any():
        return matrix
    target = (matrix @ statistics.drift).to(damped.dtype).transpose(1, 2)
    return matrix + SHARE * torch.cholesky_solve(target, lower).transpose(1, 2).to(matrix.dtype)


def output_energy(matrix: Tensor, curvature: Tensor) -> float:
    """The sum of squares of `matrix @ X`, for the X of `curvature` XXᵀ."""
    return float(((matrix @ curvature) * matrix).sum())


def factorized(curvature: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """The inputs by descending curvature `[groups, in]`, and in that order the factor of its inverse, if it has one."""
    order = curvature.diagonal(dim1=1, dim2=2).argsort(descending=True)
    return order, _inverse(curvature, order, dtype)


def gptq(
    matrix: Tensor,
    curvature: Tensor,
    inputs: tuple[int, ...] | None = None,
    factor: tuple[Tensor, Tensor | None] | None = None,
) -> Tensor:
    """`matrix` `[groups, out, in]`, quantized per channel, minimising the output error under `curvature`.

    `inputs`: the shape `(in / groups, *taps)` of a channel's weights, if they are to be bounded. `factor`: that of
    `factorized`, if it is known.

    Inputs are processed by descending curvature: the least important come last, when no weight is left to compensate.
    If the curvature cannot be inverted, each weight is rounded to nearest.
    """
    order, upper = factor or factorized(curvature, _precision(matrix))
    weights = matrix.gather(2, order[:, None].expand_as(matrix)).to(_precision(matrix))
    grid = Grid.of(matrix, inputs)
    if upper is None:
        return grid.nearest
    scale = grid.scale.to(weights.dtype)
    codes = _codes(weights, upper, scale[..., 0], grid, order)
    return (codes * scale).to(matrix.dtype)


def _codes(weights: Tensor, upper: Tensor, scale: Tensor, grid: Grid, order: Tensor) -> Tensor:
    """Integer codes `[groups, out, in]`; `weights` and `upper`, the Cholesky factor of the inverse, are in `order`."""
    codes = grid.pinned.to(weights.dtype)
    size = weights.shape[-1]
    for first in range(0, size, BLOCK):
        last = min(first + BLOCK, size)
        errors = torch.zeros_like(weights[..., first:last])
        for index in range(first, last):
            column = weights[..., index]
            place = order[:, index]
            pinned = grid.pinned[torch.arange(len(order)), :, place]
            low, high = grid.limits(codes, place)
            code = torch.maximum(torch.minimum((column / scale).round(), high), low)
            code = torch.where(pinned != 0, pinned.to(code.dtype), code)
            error = (column - code * scale) / upper[:, index, index, None]
            weights[..., index:last] -= error[..., None] * upper[:, None, index, index:last]
            codes[torch.arange(len(order)), :, place], errors[..., index - first] = code, error
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
    """float64 if it is cheap."""
    return torch.float64 if matrix.shape[-1] <= 2_048 else torch.float32


def _fake_quantizing(ranges: Mapping[str, Range]) -> Any:
    def change(node: Node, value: Any) -> Any:
        return fake_quantize(value, ranges[node.name]) if node.name in ranges else value

    return change
