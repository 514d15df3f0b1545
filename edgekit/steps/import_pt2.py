"""nothing → torch: import a program of torch.export; refused if loading it could run code."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.step import Context, StepResult
from edgekit.core.user_code import run_user_code
from edgekit.networks import pt2, weights, write
from edgekit.steps.shared.imported_torch import ImportTorchStep, finish, noted

if TYPE_CHECKING:
    from torch import Tensor
    from torch.export import ExportedProgram

    from edgekit.networks.interface import Interface


@dataclass(frozen=True)
class ImportPt2(ImportTorchStep):
    """`path`: a .pt2 archive that torch.export.save wrote; its dynamic axes stay dynamic."""

    suffixes: ClassVar[tuple[str, ...]] = (".pt2",)
    extra: ClassVar[str] = "torch"
    tools: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises InputError if the archive is damaged, could run code, or its inputs or outputs are not all tensors."""
        from edgekit.networks.interface import example_shapes

        exported = pt2.program(Path(self.path))
        shutil.copyfile(self.path, out / pt2.FILE)
        example, keywords = _example(exported, self.path)
        network = pt2.network(exported, keywords)
        interface = _interface(exported, network, example, self.path)
        entries = {**interface.to_json(), "example": example_shapes(example), "call": keywords}
        write(out, "pt2", {**entries, "tensors": weights.tensors_of(network)})
        done = noted(finish(out, Path(self.path).name, network, example, pt2.load), interface.notes)
        return self.signed(done, network, interface, ctx)


def _example(exported: ExportedProgram, path: str) -> tuple[dict[str, Tensor], list[str]]:
    """Input name → the input it was exported with, zeros if the archive has none; and the names of keyword inputs."""
    import torch

    positional, named = exported.call_spec.in_spec.children()
    leaves = [*positional.children(), *named.children()]
    names = exported.graph_signature.user_inputs
    if not all(spec.is_leaf() for spec in leaves) or not all(isinstance(name, str) for name in names):
        why = "it takes lists, numbers, or the like"
        raise InputError(f"{path} takes more than tensors", why, "export it with tensors as its only inputs")
    if not names:
        raise InputError(f"{path} takes no tensors", next="export it with at least one input")
    if exported.example_inputs:
        values = [*exported.example_inputs[0], *exported.example_inputs[1].values()]
    else:
        metas = [_nodes(exported)[name].meta["val"] for name in names]
        values = [torch.zeros([_hint(size) for size in meta.shape], dtype=meta.dtype) for meta in metas]
    if not all(isinstance(value, torch.Tensor) for value in values):
        raise InputError(f"{path} takes more than tensors", next="export it with tensors as its only inputs")
    return dict(zip(names, values, strict=True)), list(named.context or [])


def _interface(exported: ExportedProgram, network: Any, example: Mapping[str, Tensor], path: str) -> Interface:
    """The program's interface; its dynamic axes are those it was exported with."""
    import torch

    from edgekit.networks.interface import BATCH, Interface, spec_of
    from edgekit.networks.outputs import left_out, named_outputs

    nodes = _nodes(exported)
    with torch.inference_mode():
        wrong = f"{path} cannot be run on the inputs it was exported with"
        nested = run_user_code(path, wrong, lambda: network.nested_outputs(*example.values()))
    network.kept, notes = left_out(nested)
    outputs = named_outputs(nested, network.kept)
    metas = [nodes[name].meta["val"] for name in exported.graph_signature.user_outputs if name in nodes]
    metas = metas if network.kept is None else [metas[index] for index in network.kept]
    axes: dict[str, dict[int, str]] = {}
    for name in example:
        for axis, size in enumerate(nodes[name].meta["val"].shape):
            if not isinstance(size, int):
                axes.setdefault(name, {})[axis] = BATCH if axis == 0 else re.sub(r"\W", "_", f"length_{size}")
    moving = [{axis for axis, size in enumerate(meta.shape) if not isinstance(size, int)} for meta in metas]
    return Interface(
        tuple(spec_of(name, tensor, axes.get(name, {})) for name, tensor in example.items()),
        tuple(spec_of(name, tensor, open) for (name, tensor), open in zip(outputs.items(), moving, strict=True)),
        axes,
        network.kept,
        notes,
    )


def _nodes(exported: ExportedProgram) -> dict[str, Any]:
    return {node.name: node for node in exported.graph.nodes}


def _hint(size: Any) -> int:
    """The size that a dynamic axis had when the program was exported."""
    return int(size) if isinstance(size, int) else int(size.node.hint or 2)
