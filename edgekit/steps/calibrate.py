"""onnx, tflite or openvino → ranges: histograms of each activation, from one pass of samples through the model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from edgekit.core import registry
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import Missing
from edgekit.core.progress import quiet
from edgekit.core.step import Context, StepResult
from edgekit.sets import take
from edgekit.steps.shared.calibrated import RANGES, SAMPLE, CalibratedStep


@dataclass(frozen=True)
class Calibrate(CalibratedStep):
    """Running histograms, in memory that does not grow with the samples; several int8 steps may share them.

    It needs the packages of its parent's format. `calibration`: a SET; "" takes `samples` samples of the task's
    training split.
    """

    accepts: ClassVar = kinds(*(name for name, format in registry.members("formats") if format.observer))
    produces: ClassVar[Kind] = Kind("ranges")
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "nothing"

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises InputError for samples that do not fit or are not finite, Missing where the runtime is."""
        parent = inputs["parent"]
        runtime = registry.runtime(registry.load("formats", parent.kind.format).observed_in)
        package, brings = runtime.package, registry.distribution("runtimes", runtime.name)
        try:
            statistics = self.observed(parent, ctx)
        except ImportError as error:
            raise Missing.install(f"calibrating {parent.name}", package, runtime.extra, brings) from error
        statistics.save(out / RANGES)
        one = replace(ctx, sets={"calibration": take(ctx.sets["calibration"], 1)}, progress=quiet)
        np.savez(out / SAMPLE, **next(iter(self.feeds(parent, one))))
        scheme = f"{len(statistics)} tensors over {statistics.samples} samples"
        return StepResult(scheme=scheme, details={"runtime": f"{package} {version(package)}"})
