"""What the exporters share: example inputs, a trace whose open axes stay open, and quiet."""

from __future__ import annotations

import contextlib
import inspect
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import networks
from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.errors import CannotConvert, EdgekitError
from edgekit.networks import weights

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.export import ExportedProgram


@dataclass(frozen=True)
class Example:
    """What the exporters trace with: input name → tensor, and input name → axis → the name of its open length."""

    tensors: Mapping[str, Tensor]
    axes: Mapping[str, Mapping[int, str]]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(self.tensors.values())

    def alone(self) -> tuple[tuple[Tensor, ...], dict[str, dict[str, int]]]:
        """One sample, every axis fixed, for formats without open ones; and the lengths that were fixed thereby."""
        inputs, fixed = [], {}
        for name, tensor in self.tensors.items():
            axes = self.axes.get(name, {})
            inputs.append(tensor[:1].contiguous() if 0 in axes else tensor)
            if lengths := {str(axis): tensor.shape[axis] for axis in axes if axis}:
                fixed[name] = lengths
        return tuple(inputs), fixed


def example(model: Artifact) -> Example:
    """The inputs that the network came with, else zeros; at least two long where an axis is open.

    An axis of length one would be frozen into the graph.
    """
    import torch

    known = networks.reference(model.path)
    kept = _kept(model)
    axes = {
        name: {int(axis): length for axis, length in found.items()} for name, found in known.get("axes", {}).items()
    }
    tensors = {}
    for spec in model.inputs:
        shape = known.get("example", {}).get(spec.name) or [1] * len(spec.shape)
        zeros = torch.zeros([size or n for size, n in zip(spec.shape, shape, strict=True)], dtype=_dtype(spec))
        tensor = kept.get(spec.name, zeros)
        for axis in (axis for axis, size in enumerate(spec.shape) if size is None):
            axes.setdefault(spec.name, {}).setdefault(axis, "batch" if axis == 0 else f"{spec.name}_{axis}")
            if tensor.shape[axis] < 2:
                tensor = torch.cat([tensor, tensor], axis)
        tensors[spec.name] = tensor
    return Example(tensors, axes)


def _kept(model: Artifact) -> dict[str, Tensor]:
    path = model.path / networks.EXAMPLE
    return weights.read_weights(path) if path.is_file() else {}


def _dtype(spec: TensorSpec) -> Any:
    import torch

    return getattr(torch, spec.dtype)


def traced(network: nn.Module, found: Example, log: logging.Logger) -> ExportedProgram:
    """The network as torch.export sees it, the open axes kept open.

    An axis that the network's own code fixes, or ties to another, is left to torch.export to find out.
    """
    import torch

    names = {length for axes in found.axes.values() for length in axes.values()}
    try:
        dims = {name: torch.export.Dim(name, min=1) for name in names}
        return torch.export.export(network, found.inputs, dynamic_shapes=_shapes(network, found, dims))
    except Exception as error:  # torch.export has many kinds; where it is no matter of shapes, it comes again
        log.debug("open axes: %s", error)
    dims = dict.fromkeys(names, torch.export.Dim.AUTO)
    return torch.export.export(network, found.inputs, dynamic_shapes=_shapes(network, found, dims))


def _shapes(network: nn.Module, found: Example, dims: Mapping[str, Any]) -> tuple[Any, ...]:
    """torch.export's `dynamic_shapes`; what `*tensors` takes is one argument of its own."""
    shapes = tuple(
        {axis: dims[length] for axis, length in found.axes.get(name, {}).items()} or None for name in found.tensors
    )
    parameters = inspect.signature(network.forward).parameters.values()
    return (shapes,) if any(p.kind is p.VAR_POSITIONAL for p in parameters) else shapes


@contextlib.contextmanager
def converting(name: str, format: str, network: nn.Module, tensors: tuple[Tensor, ...]) -> Iterator[None]:
    """Raises CannotConvert in place of whatever the converter raises, naming the operator and where it stands."""
    try:
        yield
    except (EdgekitError, OSError, MemoryError):
        raise
    except Exception as error:  # torch.export, onnxscript, jax, MLIR and OpenVINO each have their own
        operator = _operator(error)
        why = f"it has no way for {operator}" if operator else _first_line(error)
        place = _place(network, tensors, operator) if operator else ""
        next = "write that part of the network with other operators, or use another format"
        raise CannotConvert(f"cannot convert {name} to {format}", why + place, next) from error


def _operator(error: BaseException | None) -> str:
    """The operator that the converter's complaint, or its cause, names: "aten.fft_fft"."""
    while error is not None:
        found = re.search(r"\b(?:aten|prims|quantized|torchvision|torch_\w+)(?:\.|::)(\w+)", str(error))
        if found:
            return found.group(0).replace("::", ".")
        error = error.__cause__
    return ""


def _place(network: nn.Module, tensors: tuple[Tensor, ...], operator: str) -> str:
    """The module and source line of the first such operator, as torch.export saw it; "" where it cannot be found."""
    import torch

    word = operator.rpartition(".")[2]
    try:
        program = torch.export.export(network, tensors)
        nodes = [*program.graph.nodes, *program.run_decompositions().graph.nodes]  # a converter may name either kind
    except Exception:  # the converter's own complaint is the one to show
        return ""
    for node in nodes:
        if node.op == "call_function" and word in str(node.target):
            modules = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
            lines = re.findall(r'File "(.+?)", line (\d+)', node.meta.get("stack_trace") or "")
            where = f", in module {modules[-1].removeprefix('network.')!r}" if modules else ""
            return where + (f" ({Path(lines[-1][0]).name}, line {lines[-1][1]})" if lines else "")
    return ""


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
