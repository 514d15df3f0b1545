"""torch → torch: adapters of peft's added to the weights of the network that they were trained on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit import networks
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert
from edgekit.core.step import Context, Step, StepResult
from edgekit.core.task import Task
from edgekit.networks import hugging_face, named, peft_files, tracing
from edgekit.networks.weights import read_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

#: what of a parent's record stays true
KEPT = ("source", "network", "example", "ranges", "statistics", "context")
#: entries of model.json that are written again
WRITTEN = ("loader", "model", "arguments", "code_sha256", "tensors")


@dataclass(frozen=True)
class Merge(Step):
    """`adapter`: a folder with peft's adapter_config.json and adapter_model.safetensors, LoRA or DoRA."""

    accepts: ClassVar = kinds("torch")
    produces: ClassVar[Kind] = Kind("torch")
    extra: ClassVar[str] = "lora"
    tools: ClassVar[tuple[str, ...]] = ("torch", "safetensors", "peft")

    adapter: str = ""

    def check(self, task: Task | None) -> Iterator[str]:
        if not self.adapter:
            yield "adapter is missing: the folder that peft wrote"

    def files(self) -> tuple[Path, ...]:
        parts = (Path(self.adapter) / name for name in (peft_files.CONFIG, peft_files.WEIGHTS))
        return tuple(part for part in parts if part.is_file())

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises InputError for an adapter that does not fit, CannotConvert for an import of another kind, Missing."""
        import torch

        from edgekit.networks.outputs import named_outputs
        from edgekit.training import lora

        parent, adapter = inputs["parent"], peft_files.read(Path(self.adapter))
        reference = networks.reference(parent.path)
        loader = reference.get("loader", "named")
        if loader not in ("named", "hugging_face"):
            why = f"it was imported as a {loader} model, whose layers have no names"
            raise CannotConvert(f"{parent.name} takes no adapters", why, "import the code that builds it: net.py:make")
        called, feed = networks.load(parent.path), tracing.example(parent).inputs
        adapted = peft_files.attach(_inner(called), adapter)

        def outputs() -> dict[str, Tensor]:
            with torch.inference_mode(), lora.plain_attention():
                return {name: tensor.double() for name, tensor in named_outputs(called(*feed)).items()}

        _write(lora.merged(adapted.eval(), outputs), parent, reference, out)
        return StepResult(
            details={key: parent.details[key] for key in KEPT if key in parent.details}, tensors=parent.identity_map()
        )


def _inner(network: nn.Module) -> nn.Module:
    """The network whose tensors the artifact's file holds, without what calls it."""
    from edgekit.networks.decoders import Decoder
    from edgekit.networks.interface import Positional
    from edgekit.networks.transformers_ import Outputs, Pooled

    while isinstance(network, Positional | Outputs | Decoder | Pooled):
        network = network.inner if isinstance(network, Pooled) else network.network
    return network


def _write(network: nn.Module, parent: Artifact, reference: Mapping[str, Any], out: Path) -> None:
    if reference.get("loader") == "hugging_face":
        for name in parent.files:
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(parent.path / name, out / name)
        hugging_face.write(network, out)
        return
    example = parent.path / networks.EXAMPLE
    if example.is_file():
        shutil.copyfile(example, out / networks.EXAMPLE)
    specs = {key: value for key, value in reference.items() if key not in WRITTEN}
    tensors = read_weights(example) if example.is_file() else None
    named.save(network, reference["model"], reference["arguments"], specs, out, tensors)
