"""torch → torch: BatchNorm folded, and channels scaled alike, so that one range per tensor fits them all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgekit import networks
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert
from edgekit.core.step import Context, StepResult
from edgekit.core.task import Task
from edgekit.steps.shared.calibrated import CalibratedStep

#: the least SQNR of an equalized network against the original
SAME_DB = 60.0
NEXT = "leave this step out"


@dataclass(frozen=True)
class Equalize(CalibratedStep):
    """Cross-layer equalization (https://arxiv.org/abs/1906.04721): the same function, easier to quantize.

    Scales come from the largest activations, the weights, or both, whichever is most accurate in simulated int8 on the
    calibration samples. `alpha`: the share of the activations' differences that is equalized, 0 to 1.
    `calibration`: a SET; "" takes `samples` samples of the task's training split.
    """

    accepts: ClassVar = kinds("torch")
    produces: ClassVar[Kind] = Kind("torch")
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "outputs"
    extra: ClassVar[str] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    samples: int = 32
    alpha: float = 0.5

    def check(self, task: Task | None) -> Iterator[str]:
        yield from super().check(task)
        if not 0 < self.alpha <= 1:
            yield "alpha must be above 0, and 1 at most"

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises CannotConvert where there is nothing to equalize, InputError where the samples do not fit."""
        import torch

        from edgekit.compression import equalization, program, simulation
        from edgekit.networks.outputs import named_outputs

        parent = inputs["parent"]
        feeds = list(program.tensors(self.feeds(parent, ctx)))
        network = networks.load(parent.path)
        with torch.no_grad():
            references = [list(named_outputs(network(*feed)).values()) for feed in feeds]
        loaded = program.load(parent, ctx.log)
        result = equalization.equalize(loaded, feeds, self.alpha, ctx.progress)
        if not result.groups:
            why = "no tensor between layers has channels that could be scaled: all meet operators that do not commute"
            raise CannotConvert(f"there is nothing to equalize in {parent.name}", why, NEXT)
        outputs = [result.program.answers(feed) for feed in feeds]
        db = program.sqnr(simulation.joined(references), simulation.joined(outputs))
        if db < SAME_DB:
            why = f"scaled, it reaches only {db:.0f} dB against {parent.name}"
            raise CannotConvert(f"{parent.name} cannot be equalized", why, NEXT)
        program.write(result.program, parent, out, ctx.log)
        gain = f"{result.before_db:.1f} → {result.after_db:.1f} dB in simulated int8"
        scheme = f"float32, {result.groups} groups of channels equalized by {result.criterion} ({gain})"
        if result.criterion == "none":
            scheme = f"float32, not equalized: of {result.groups} groups no scaling helps in simulated int8"
        details = {key: parent.details[key] for key in ("example", "ranges") if key in parent.details}
        simulated = {
            "groups": result.groups,
            "folded": loaded.folded,
            "criterion": result.criterion,
            "dB": result.tried,
        }
        return StepResult(scheme, parent.identity_map(), {**details, "equalized": simulated})
