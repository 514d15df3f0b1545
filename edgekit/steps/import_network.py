"""nothing → torch: a network defined in the user's code, `net.py:make` or `package.module:make`.

It runs that code. A timm or Hugging Face model is such a function of three lines:

    def make():
        model = timm.create_model("mobilenetv3_small_100", pretrained=True)
        return model, torch.zeros(1, 3, 224, 224)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit import tasks
from edgekit.core import errors, registry, user_code
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.step import ArtifactRef, Context, NetworkRef, StepResult, TaskRef
from edgekit.core.task import Task
from edgekit.networks import named, weights
from edgekit.networks.factory import FactoryResult, make, required_arguments
from edgekit.steps.shared.imported_torch import FLOAT32_NOTE, ImportTorchStep, finish, noted
from edgekit.steps.shared.signed import given_files
from edgekit.training.calls import as_input

if TYPE_CHECKING:
    from edgekit.networks.factory import FactoryResult


@dataclass(frozen=True)
class ImportNetwork(ImportTorchStep):
    """`path`: a function without arguments that returns (module, example_inputs) or (…, dynamic_axes).

    example_inputs: a tensor, several, or a dict of them by the names of forward's keywords. dynamic_axes: input name →
    {axis: "length"} for dynamic axes besides the batch. Or `path` names a network as recipes do (`cnn`), built for
    `task`.
    `weights`: a .safetensors file or its index, or a checkpoint that torch loads with `weights_only=True`, to fill it
    with. `shape`: of the example input of a network that comes without one, such as "1x3x224x224".
    """

    extra: ClassVar[str] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    path: NetworkRef = ""
    weights: ArtifactRef = ""
    task: TaskRef = ""
    shape: str = ""

    def check(self, task: Task | None) -> Iterator[str]:
        yield from super().check(task)
        if self.shape and not re.fullmatch(r"[1-9]\d*(x[1-9]\d*)*", self.shape):
            yield f"the shape {self.shape!r} must be written as 1x3x224x224"
        if self.path in registry.names("models") and not self.task:
            yield f"{self.path} needs a task for its arguments"
        elif self.path and self.path not in registry.names("models") and not user_code.is_reference(self.path):
            near = errors.suggest(self.path, registry.names("models"))
            yield f"{self.path!r} is neither a reference like net.py:make nor a known network ({near})"

    def files(self) -> tuple[Path, ...]:
        return given_files(self.signature)

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises InputError if the code fails, or its inputs or outputs are not supported."""
        from edgekit.networks.half import runs_in_float32, to_float32
        from edgekit.networks.interface import Positional, example_shapes, named_inputs, probe

        result, arguments = self._build(ctx)
        read = weights.load_weights(result.network, Path(self.weights)) if self.weights else []
        result.network.eval()
        if in_float32 := runs_in_float32(result.network, result.example):
            result = result._replace(network=result.network.float(), example=to_float32(result.example))
        example = named_inputs(result.network, result.example)
        keywords = list(example) if isinstance(result.example, Mapping) else []
        network = Positional(result.network, keywords).eval()
        interface = probe(network, example, result.axes, self.path)
        specs = {**interface.to_json(), "example": example_shapes(example), "call": keywords}
        specs |= {"float32": True} if in_float32 else {}
        named.save(result.network, self.path, arguments, specs, out, example)
        notes = [FLOAT32_NOTE] if in_float32 else []
        notes += [*(f"weights: {note}" for note in read), *interface.notes]
        done = noted(finish(out, self.path, network, example, named.load), notes)
        return self.signed(done, result.network, interface, ctx)

    def _build(self, ctx: Context) -> tuple[FactoryResult, Mapping[str, Any]]:
        if user_code.is_reference(self.path):
            ctx.log.warning("%s is your own code: edgekit executes it", self.path)
        if not self.task or (
            user_code.is_reference(self.path) and not required_arguments(registry.load("models", self.path))
        ):
            return make(self.path, [int(size) for size in self.shape.split("x")] if self.shape else ()), {}
        task = tasks.load(self.task)
        arguments = task.arguments(self.path)
        if not self.weights:
            why = "an import needs a trained network"
            raise InputError(f"{self.path} comes without weights", why, "pass --weights FILE, or use edgekit train")
        example = [as_input(array[:2]) for array in task.load("val").inputs.values()]
        return FactoryResult(named.build(self.path, arguments), example, {}), arguments
