"""The base class of the int8 steps after QAT: the trained ranges are assigned to the file's tensors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from edgekit.compression.calibration.feeds import batch_size, fitting
from edgekit.compression.calibration.ranges import Ranges
from edgekit.core import registry
from edgekit.core.artifact import Artifact, kinds
from edgekit.core.errors import CannotConvert
from edgekit.core.step import Context, Step, StepResult
from edgekit.core.temporary import temporary_folder
from edgekit.formats.ranges import BINS, Histogram, Statistics
from edgekit.steps.shared.calibrated import CalibratedStep, StaticInt8Step
from edgekit.steps.shared.unstored import unstored

#: how far two tensors' extremes may differ, as a share of their span, and their distributions
SAME_ENDS, SAME_SHARE = 1e-3, 0.02


@dataclass(frozen=True)
class TrainedInt8Step(CalibratedStep):
    """torch[ranges] → FORMAT[int8]: the format's own int8 step, with the ranges of quantization-aware training.

    Tensors of the file and of the program match if they have the same values over the calibration samples. Tensors that
    the format fuses away, or leaves in float, need no range; tensors that training did not quantize are calibrated.
    `calibration`: a SET; "" takes `samples` samples of the task's training split.
    """

    accepts: ClassVar = kinds("torch[ranges]")

    samples: int = 64

    @abstractmethod
    def steps(self) -> tuple[Step, StaticInt8Step]:
        """The exporter to this format, and the int8 step for its output."""

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises CannotConvert if most trained ranges have no tensor in the file; else as the two steps do."""
        from edgekit.compression import calibration, qat
        from edgekit.compression.qat import RANGES

        parent = inputs["parent"]
        trained = qat.load_ranges(parent.path / RANGES)
        exporter, int8 = self.steps()
        with temporary_folder() as folder:
            model = unstored(exporter, inputs, folder, ctx)
            path = model.path / str(registry.load("formats", model.kind.format).file)
            origin = calibration.origin(model, path)
            feeds, batch = self.feeds(model, ctx), batch_size(fitting(ctx.sets["calibration"], model), model)
            theirs = calibration.observe(model.kind.format, path, feeds, ctx, batch=batch, origin=origin)
            same = _same(theirs, self._ours(parent, trained, ctx))
            if 2 * len(same) < len(trained):
                what = f"the ranges of {parent.name} cannot be kept in {model.kind.format}"
                why = f"its file has tensors for {len(same)} of {len(trained)}"
                raise CannotConvert(what, why, f"use {model.kind.format}_int8 instead")
            _pinned(theirs, trained, same).save(path.parent / RANGES)
            step = replace(int8, ranges=str(path.parent / RANGES), method="min-max")
            notes = step.apply({"parent": replace(model, name=parent.name)}, out, ctx)
        how = notes.scheme.partition(", ")[0]
        return StepResult(f"{how}, {len(same)} of {len(trained)} trained ranges", parent.identity_map(), notes.details)

    def _ours(self, parent: Artifact, trained: Ranges, ctx: Context) -> Mapping[str, Histogram]:
        """Histograms of the program's tensors. Raises CannotConvert if the ranges are not this program's."""
        from edgekit.compression import program, simulation

        loaded = program.load(parent, ctx.log)
        histograms = simulation.observe(loaded.module, program.tensors(self.feeds(parent, ctx)))
        if lost := set(trained) - set(histograms):
            why = f"the program has no {min(lost)!r}"
            raise CannotConvert(f"the trained ranges of {parent.name} are of another program", why, "train it again")
        return {name: histograms[name] for name in trained}


def _same(theirs: Statistics, ours: Mapping[str, Histogram]) -> dict[str, list[str]]:
    """Tensor of the program → the tensors of the file with its values, if any."""
    matches = {
        name: [other for other, histogram in theirs.items() if alike(mine, histogram)] for name, mine in ours.items()
    }
    return {name: others for name, others in matches.items() if others}


def _pinned(theirs: Statistics, trained: Ranges, same: Mapping[str, list[str]]) -> Statistics:
    """The file's statistics, with the extremes of matched tensors replaced by their trained ranges."""
    pinned_statistics = dict(theirs)
    for name, others in same.items():
        for other in others:
            pinned_statistics[other] = pinned = Histogram()
            pinned.minimum, pinned.maximum = trained[name]
            pinned.count, pinned.counts = theirs[other].count, theirs[other].counts
    return Statistics(pinned_statistics, theirs.samples, theirs.origin)


def alike(first: Histogram, second: Histogram) -> bool:
    """Do both have the same values, in any order, up to rounding and to values that strides skip?

    By the extremes, and by the Kolmogorov-Smirnov distance of the two distributions.
    """
    if first.count != second.count:
        return False
    span = max(first.maximum - first.minimum, 1e-12)
    ends = max(abs(first.minimum - second.minimum), abs(first.maximum - second.maximum))
    return ends <= SAME_ENDS * span and float(np.abs(_shares(first) - _shares(second)).max()) <= SAME_SHARE


def _shares(histogram: Histogram) -> NDArray[np.float64]:
    """The cumulative distribution: the share of values in each bin or below it, in ascending order of the values."""
    ascending = np.concatenate([histogram.counts[BINS // 2 :][::-1], histogram.counts[: BINS // 2]])
    shares: NDArray[np.float64] = np.cumsum(ascending) / max(int(ascending.sum()), 1)
    return shares
