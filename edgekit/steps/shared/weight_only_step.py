"""Base class of the steps that store the weights of products and embeddings in 8 or 4 bits; activations stay float."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np

from edgekit.compression.weight_only.codes import Codes, Floats, Grid
from edgekit.compression.weight_only.methods import (
    FROM_SAMPLES,
    Chosen,
    Matrix,
    Method,
    choose,
    with_more_bits,
)
from edgekit.compression.weight_only.moments import Run, gathered
from edgekit.core.artifact import Artifact
from edgekit.core.errors import CannotConvert, InputError
from edgekit.core.mute import muted
from edgekit.core.step import Context, StepResult
from edgekit.core.task import Task
from edgekit.steps.shared.calibrated import CalibratedStep, model_file

#: matrices of fewer weights stay float: scales and operators would take as many bytes
SMALL = 1024
#: and those with fewer inputs, the smallest block of ONNX Runtime
LEAST_INPUTS = 16

Bits = Literal["", "8", "4", "float"]


class Weights(Protocol):
    """A model whose weights are replaced: each format's module has one."""

    #: why some weights stay float, and what else the user should know, one sentence each
    notes: list[str]
    #: ONNX Runtime's; 0: products are computed in float
    level: int

    def fitted(self, grid: Grid, columns: int) -> Grid:
        """The grid of a matrix with so many inputs, of a block that the format can have."""

    def matrices(self) -> list[Matrix]:
        """The products and embeddings with constant float weights of SMALL values or more."""

    def run(self, names: Sequence[str]) -> Run:
        """The model, prepared to return these tensors."""

    def store(self, matrices: Sequence[Matrix], codes: Mapping[str, Codes], factors: Mapping[str, Floats]) -> None:
        """Replace the weights, in place; inputs with factors are divided by them before they are multiplied."""

    def save(self, folder: Path) -> None: ...


@dataclass(frozen=True)
class WeightOnlyStep(CalibratedStep):
    """`block`: how many weights in a row share a scale, 0 for all; -1: 32 for 4 bits, 128 for 8. Rows of a table in 8
    bits have one each. `symmetric`: without zero points; "": for 8 bits. `embeddings`, `head` (the last product before
    an output): their bits, or float; "" is 8. What both share has the bits of the head.

    `weight_method`: see `compression/weight_only/methods.py`. awq and gptq take `samples` samples of `calibration`
    (a SET; "" is the task's training split) through the float model. `raised`: so many of the products that suffer most
    get 8 bits; `max_mb`: as many as the file's size in MB (10^6 bytes) allows.
    """

    bits: ClassVar[int]

    samples: int = 128
    block: int = -1
    symmetric: Literal["", "yes", "no"] = ""
    embeddings: Bits = ""
    head: Bits = ""
    weight_method: Method = "auto"
    raised: int = 0
    max_mb: float = 0.0

    def weights(self, path: Path, parent: Artifact) -> Weights:
        """The parent's model file, ready for its weights to be replaced."""
        raise NotImplementedError

    def check(self, task: Task | None) -> Iterator[str]:
        if self.samples < 1:
            yield "samples must be at least 1"
        if self.block not in (-1, 0) and (self.block < 16 or self.block & (self.block - 1)):
            yield f"block is {self.block}, and must be 0 (per channel) or a power of two from 16: 32, 64, 128"
        if self.weight_method in FROM_SAMPLES and not self.sets(task):
            yield f"{self.weight_method} needs calibration samples: name a set in calibration"
        if self.raised < 0 or self.max_mb < 0:
            yield "raised and max_mb must not be negative"
        if self.raised and self.max_mb:
            yield "give either raised or max_mb"
        if (self.raised or self.max_mb) and self.bits == 8:
            yield "raised and max_mb are for 4 bits: they raise some of the weights to 8"

    def sets(self, task: Task | None) -> Mapping[str, str]:
        return {} if self.weight_method == "rtn" else super().sets(task)

    def grid(self, bits: int) -> Grid:
        default = 32 if bits == 4 else 128
        block = default if self.block < 0 else self.block
        return Grid(bits, block, self.symmetric == "yes" or (bits == 8 and not self.symmetric))

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises CannotConvert where there is nothing to store in so few bits, or the size cannot be kept."""
        parent = inputs["parent"]
        with muted(ctx.log, native=True):
            weights = self.weights(model_file(parent), parent)
        every = weights.matrices()
        grids = self._grids(every, weights)
        matrices = [matrix for matrix in every if matrix.key in grids]
        products = [matrix for matrix in matrices if matrix.role != "table"]
        if not matrices or (not products and not any(g.bits == self.bits for g in grids.values())):
            what = f"nothing of {parent.name} was quantized"
            why = f"it has no products or embeddings with float weights of {SMALL:,} values or more"
            raise CannotConvert(what, f"{why}; convolutions stay float", "quantize those, too: edgekit quantize --int8")
        method = self._method(ctx)
        moments = {}
        if method != "rtn" and "calibration" in ctx.sets:
            sizes = {matrix.input: matrix.shape[1] for matrix in products}
            moments = gathered(sizes, weights.run, lambda: self.feeds(parent, ctx))
        chosen = lowest = choose(matrices, grids, method, moments, ctx.progress)
        size = self._write(weights, matrices, chosen, out, ctx)
        if self.max_mb and size > self.max_mb * 1e6:
            why = f"with {self.bits} bits wherever they are asked for it takes {size / 1e6:.2f} MB"
            what = f"{parent.name} cannot be made as small as {self.max_mb:g} MB"
            raise CannotConvert(what, why, "allow more, or lower --embeddings and --head to 4")
        if self.raised or self.max_mb:
            eight = dataclasses.replace(self.grid(8), symmetric=self.grid(self.bits).symmetric)
            higher = {matrix.key: weights.fitted(eight, matrix.shape[1]) for matrix in products}
            spare = self.max_mb * 1e6 - size
            chosen = with_more_bits(chosen, matrices, higher, method, moments, self.raised, spare)
            while self._write(self.weights(model_file(parent), parent), matrices, chosen, out, ctx) > (
                self.max_mb * 1e6 or np.inf
            ):
                chosen = chosen.lowered(matrices, lowest)
        details = self._details(method, matrices, chosen, weights)
        return StepResult(self._scheme(method, matrices, chosen, ctx), parent.identity_map(), details)

    @staticmethod
    def _write(weights: Weights, matrices: Sequence[Matrix], chosen: Chosen, out: Path, ctx: Context) -> int:
        """The size of the files that it writes, in bytes."""
        with muted(ctx.log, native=True):
            weights.store(matrices, chosen.codes, chosen.factors)
            weights.save(out)
        return sum(file.stat().st_size for file in out.iterdir())

    def _method(self, ctx: Context) -> Method:
        if self.weight_method != "auto":
            return self.weight_method
        return "gptq" if "calibration" in ctx.sets else "scale"

    def _grids(self, matrices: Sequence[Matrix], weights: Weights) -> dict[str, Grid]:
        """The grid of each constant that is to be stored in few bits. Raises InputError if a constant is read as a
        table and as the head, and both were given different bits."""
        wanted = {"table": self.embeddings or "8", "head": self.head or "8", "product": str(self.bits)}
        bits: dict[str, str] = {}
        for matrix in sorted(matrices, key=lambda matrix: ("product", "table", "head").index(matrix.role)):
            before = bits.get(matrix.key)
            if before not in (None, wanted[matrix.role]) and self.embeddings and self.head:
                what = f"{matrix.name} reads the embedding, and cannot have other bits than it"
                raise InputError(what, "they are one constant (a tied head)", "give --embeddings and --head the same")
            if before is not None and matrix.role == "head" and not self.head and self.embeddings:
                continue
            bits[matrix.key] = wanted[matrix.role]
        columns = {matrix.key: matrix.shape[1] for matrix in matrices}
        roles: dict[str, set[str]] = {}
        for matrix in matrices:
            roles.setdefault(matrix.key, set()).add(matrix.role)
        grids = {key: self.grid(int(word)) for key, word in bits.items() if word != "float"}
        # a row of a table is not summed up: one scale is enough for 8 bits
        per_row = {key: g for key, g in grids.items() if roles[key] == {"table"} and g.bits == 8}
        grids |= {key: dataclasses.replace(grid, block=0) for key, grid in per_row.items()}
        fitted = {key: weights.fitted(grid, columns[key]) for key, grid in grids.items()}
        other = sorted({columns[key] for key, grid in grids.items() if _differs(grid, fitted[key], columns[key])})
        if other:
            sizes = ", ".join(map(str, other))
            weights.notes.append(
                f"the block does not divide rows of {sizes} weights: theirs are smaller, or per channel"
            )
        return fitted

    def _scheme(self, method: Method, matrices: Sequence[Matrix], chosen: Chosen, ctx: Context) -> str:
        parts = [self._main_grid(matrices, chosen).described(), method]
        if method != "rtn" and "calibration" in ctx.sets:
            parts[-1] += f" on {self.count(ctx)} samples"
        others = {m.role: chosen.codes[m.key].grid.bits for m in matrices if m.role != "product"}
        names = {"table": "embeddings", "head": "the head"}
        parts += [f"{names[role]} in int{bits}" for role, bits in others.items() if bits != self.bits]
        if chosen.raised:
            parts.append(f"{len(chosen.raised)} of {sum(m.role == 'product' for m in matrices)} in int8")
        return ", ".join(parts)

    def _main_grid(self, matrices: Sequence[Matrix], chosen: Chosen) -> Grid:
        """What most products have, or what was asked for."""
        grids = [chosen.codes[m.key].grid for m in matrices if m.role == "product"]
        own = Counter(grid for grid in grids if grid.bits == self.bits)
        return own.most_common(1)[0][0] if own else self.grid(self.bits)

    def _details(self, method: Method, matrices: Sequence[Matrix], chosen: Chosen, weights: Weights) -> dict[str, Any]:
        grid = self._main_grid(matrices, chosen)
        facts = {
            "bits": self.bits,
            "block": grid.block,
            "symmetric": grid.symmetric,
            "method": method,
            "matrices": sum(matrix.role == "product" for matrix in matrices),
            "raised": list(chosen.raised),
            "scaled_inputs": len(chosen.factors),
            "accuracy_level": weights.level,
        }
        return {"weight_only": facts, **({"notes": list(weights.notes)} if weights.notes else {})}


def _differs(grid: Grid, fitted: Grid, columns: int) -> bool:
    """Does the format have another block where one was asked for that is shorter than the row?"""
    return fitted.block != grid.block and grid.block < columns
