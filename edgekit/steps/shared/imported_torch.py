"""The base class of the imports of torch networks, and the check that a network is the same after loading."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from edgekit import networks
from edgekit.core.artifact import Kind, ModelFacts
from edgekit.core.errors import InputError
from edgekit.core.step import Context, Step, StepResult
from edgekit.core.task import Task
from edgekit.core.temporary import temporary_folder
from edgekit.formats.torch import Torch
from edgekit.networks import signatures
from edgekit.networks.weights import read_weights
from edgekit.steps.shared.signed import given_files, given_problems, known

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgekit.networks.interface import Interface

T = TypeVar("T")
#: folder, what its `model.json` says → the network
Load = Callable[[Path, Mapping[str, Any]], "nn.Module"]

FLOAT32_NOTE = (
    "its float16 or bfloat16 weights and inputs are float32 here, as int8 starts from; --fp16 makes a float16 file"
)


@dataclass(frozen=True)
class ImportTorchStep(Step):
    """`path`: the model's file, or a reference to code; `signature`: a signature file, or its JSON."""

    format: ClassVar[str] = "torch"
    #: endings of the files that this step imports
    suffixes: ClassVar[tuple[str, ...]] = ()
    produces: ClassVar[Kind] = Kind("torch")

    path: str = ""
    signature: str = field(default="", kw_only=True)

    @classmethod
    def of(cls, path: str) -> Self:
        """The step that imports this model."""
        return cls(path=path)

    def check(self, task: Task | None) -> Iterator[str]:
        if not self.path:
            yield "path is missing"
        yield from given_problems(self.signature)

    def files(self) -> tuple[Path, ...]:
        model = (Path(self.path),) if Path(self.path).is_file() else ()
        return (*model, *given_files(self.signature))

    def signed(self, result: StepResult, network: nn.Module, interface: Interface, ctx: Context) -> StepResult:
        """The result with the signature that was given, or that the network carries."""
        carried = signatures.of_network(network, interface.inputs, interface.outputs)
        signature, details = known(self.signature, ctx.task, carried, interface.inputs, interface.outputs)
        return dataclasses.replace(result, signature=signature, details={**result.details, **details})

    def describe(self) -> ModelFacts:
        """The facts of the artifact it would make, with the layers that run on its example inputs.

        Raises InputError if the file is not such a model.
        """
        from edgekit.networks import layer_counts

        with temporary_folder() as folder:
            self.apply({}, folder, Context(None, {}, _quiet, logging.getLogger("edgekit")))
            facts, example = Torch.describe(folder / Torch.file), read_weights(folder / networks.EXAMPLE)
            inputs = [example[spec.name] for spec in facts.inputs]
            inputs = [
                t.narrow(0, 0, 1) if None in s.shape[:1] else t for s, t in zip(facts.inputs, inputs, strict=True)
            ]
            return dataclasses.replace(facts, operators=layer_counts.layers(networks.load(folder), inputs))


def _quiet(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    yield from items


def finish(out: Path, source: str, network: nn.Module, example: Mapping[str, Tensor], load: Load) -> StepResult:
    """Write the example inputs, and check that the written network, read by its `load`, gives the same outputs.

    Raises InputError if its outputs differ after loading: random numbers, or a state that is not in its weights.
    """
    import torch
    from safetensors.torch import save_file

    from edgekit.networks.interface import close

    save_file({name: tensor.contiguous().clone() for name, tensor in example.items()}, out / networks.EXAMPLE)
    with torch.inference_mode():
        answers = [_answers(one, example) for one in (network, load(out, networks.reference(out)))]
    for first, second in zip(*answers, strict=True):
        if not close(first, second, 1e-3, 1e-3):
            why = "its outputs differ after loading: it has random numbers, or values that are not in its weights"
            raise InputError(f"{source} is not the same twice", why, "register them as buffers, or fix their seed")
    shapes = {name: list(tensor.shape) for name, tensor in example.items()}
    integers = {name: tensor for name, tensor in example.items() if not tensor.is_floating_point()}
    ranges = {name: [int(tensor.min()), int(tensor.max())] for name, tensor in integers.items()}
    ranges |= {name: [0, rows - 1] for name, rows in _table_rows(network, integers, example).items()}
    details = {"source": source, "example": shapes, "ranges": ranges, "statistics": _statistics(example)}
    return StepResult("as imported", details=details)


def noted(result: StepResult, notes: Sequence[str]) -> StepResult:
    """The result with notes for the user."""
    return dataclasses.replace(result, details={**result.details, "notes": [*notes]}) if notes else result


def _statistics(example: Mapping[str, Tensor]) -> dict[str, dict[str, float]]:
    """Input name → mean, std, min and max of the example's finite floats."""
    statistics = {}
    for name, tensor in example.items():
        values = tensor.double()[tensor.isfinite()] if tensor.is_floating_point() else tensor.new_zeros(0)
        if values.numel():
            numbers = {"mean": values.mean(), "std": values.std(correction=0), "min": values.min(), "max": values.max()}
            statistics[name] = {key: float(value) for key, value in numbers.items()}
    return statistics


def _table_rows(network: nn.Module, integers: Mapping[str, Tensor], example: Mapping[str, Tensor]) -> dict[str, int]:
    """Input name → the number of rows of the smallest embedding that the example's integers are looked up in."""
    import torch
    from torch import nn

    rows: dict[str, int] = {}

    def seen(table: Any, arguments: Any) -> None:
        for name, tensor in integers.items():
            if arguments and isinstance(arguments[0], torch.Tensor) and torch.equal(arguments[0], tensor):
                rows[name] = min(rows.get(name, table.num_embeddings), table.num_embeddings)

    tables = [module for module in network.modules() if isinstance(module, nn.Embedding)] if integers else []
    hooks = [table.register_forward_pre_hook(seen) for table in tables]
    try:
        if hooks:
            with torch.inference_mode():
                network(*example.values())
    finally:
        for hook in hooks:
            hook.remove()
    return rows


def _answers(network: nn.Module, example: Mapping[str, Tensor]) -> list[Tensor]:
    from edgekit.networks.outputs import named_outputs

    return list(named_outputs(network(*example.values())).values())
