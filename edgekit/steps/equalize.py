"""torch → torch: BatchNorm folded, and channels brought to one scale, so that one range per tensor serves them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgekit import compression, networks
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert
from edgekit.core.step import Context, StepResult
from edgekit.core.task import Task
from edgekit.steps.shared.calibrated import CalibratedStep

#: what an equalized network must agree to with the one it was made from
SAME_DB = 60.0
NEXT = "leave this step out"


@dataclass(frozen=True)
class Equalize(CalibratedStep):
    """Cross-layer equalization (https://arxiv.org/abs/1906.04721): the same function, easier to quantize.

    Scales come from the largest activations, the weights, or both, whichever answers best in simulated int8 over the
    calibration samples. `alpha`: how much of the activations' differences is evened out, 0 to 1.
    `calibration`: a SET; "" takes `samples` samples of the task's training split.
    """

    accepts: ClassVar = kinds("torch")
    produces: ClassVar[Kind] = Kind("torch")
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "outputs"
    extra: ClassVar[str] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    samples: int = 64
    alpha: float = 0.5

    def check(self, task: Task | None) -> Iterator[str]:
        yield from super().check(task)
        if not 0 < self.alpha <= 1:
            yield "alpha must be above 0, and 1 at most"

    def sources(self) -> tuple[Path, ...]:
        return (*super().sources(), *sources("program", "weights", "simulation", "equalization"))

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises CannotConvert where there is nothing to equalize, InputError where the samples do not fit."""
        import torch

        from edgekit.compression import equalization, program, simulation
        from edgekit.networks.interface import named_outputs

        parent = inputs["parent"]
        feeds = list(program.tensors(self.feeds(parent, ctx)))
        network = networks.load(parent.path)
        with torch.no_grad():
            references = [list(named_outputs(network(*feed)).values()) for feed in feeds]
        loaded = program.load(parent, ctx.log)
        found = equalization.equalize(loaded, feeds, self.alpha, ctx.progress)
        if not found.groups:
            why = "no tensor between layers has channels that could be scaled: all meet operators that do not commute"
            raise CannotConvert(f"there is nothing to equalize in {parent.name}", why, NEXT)
        answers = [found.program.answers(feed) for feed in feeds]
        db = program.sqnr(simulation.joined(references), simulation.joined(answers))
        if db < SAME_DB:
            why = f"scaled, it agrees with {parent.name} to {db:.0f} dB only"
            raise CannotConvert(f"{parent.name} cannot be equalized", why, NEXT)
        program.write(found.program, parent, out, ctx.log)
        gain = f"{found.before_db:.1f} → {found.after_db:.1f} dB in simulated int8"
        scheme = f"float32, {found.groups} groups of channels equalized by {found.criterion} ({gain})"
        if found.criterion == "none":
            scheme = f"float32, not equalized: of {found.groups} groups no scaling helps in simulated int8"
        details = {key: parent.details[key] for key in ("example", "ranges") if key in parent.details}
        names = {spec.name: spec.name for spec in (*parent.inputs, *parent.outputs)}
        simulated = {"groups": found.groups, "folded": loaded.folded, "criterion": found.criterion, "dB": found.tried}
        return StepResult(scheme, names, {**details, "equalized": simulated})


def sources(*modules: str) -> tuple[Path, ...]:
    """The files of `edgekit/quantization` that decide what a step makes."""
    folder = Path(compression.__file__).parent
    return tuple(folder / f"{name}.py" for name in modules)
