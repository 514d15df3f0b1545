"""Shared by the exporters: example inputs, tracing with dynamic axes, and conversion errors."""

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
    """Example inputs for tracing: input name → tensor, and input name → dynamic axis → the name of its length."""

    tensors: Mapping[str, Tensor]
    axes: Mapping[str, Mapping[int, str]]

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        return tuple(self.tensors.values())

    def single_sample(self) -> tuple[tuple[Tensor, ...], dict[str, dict[str, int]]]:
        """One sample for formats without dynamic axes, and the lengths that are thereby fixed."""
        inputs, fixed = [], {}
        for name, tensor in self.tensors.items():
            axes = self.axes.get(name, {})
            batch = next((axis for axis, length in axes.items() if length == "batch"), 0)
            inputs.append(tensor.narrow(batch, 0, 1).contiguous() if batch in axes else tensor)
            if lengths := {str(axis): tensor.shape[axis] for axis in axes if axis != batch}:
                fixed[name] = lengths
        return tuple(inputs), fixed


def example(model: Artifact) -> Example:
    """The network's example inputs, else zeros, with dynamic axes of length two or more.

    torch.export would specialize an axis of length one.
    """
    import torch

    reference = networks.reference(model.path)
    stored = _stored_example(model)
    axes = {
        name: {int(axis): length for axis, length in lengths.items()}
        for name, lengths in reference.get("axes", {}).items()
    }
    tensors = {}
    for spec in model.file_inputs:
        shape = reference.get("example", {}).get(spec.name) or [1] * len(spec.shape)
        zeros = torch.zeros([size or n for size, n in zip(spec.shape, shape, strict=True)], dtype=_dtype(spec))
        tensor = stored.get(spec.name, zeros)
        for axis in (axis for axis, size in enumerate(spec.shape) if size is None):
            axes.setdefault(spec.name, {}).setdefault(
                axis, "batch" if axis == spec.batch_axis else f"{spec.name}_{axis}"
            )
            if tensor.shape[axis] < 2:
                tensor = torch.cat([tensor, tensor], axis)
        tensors[spec.name] = tensor
    return Example(tensors, axes)


def _stored_example(model: Artifact) -> dict[str, Tensor]:
    path = model.path / networks.EXAMPLE
    return weights.read_weights(path) if path.is_file() else {}


def _dtype(spec: TensorSpec) -> Any:
    import torch

    return getattr(torch, spec.dtype)


def trace(network: nn.Module, inputs: Example, log: logging.Logger) -> ExportedProgram:
    """The network traced by torch.export with dynamic axes.

    If the network's code fixes an axis or ties it to another, torch.export infers the axes.
    """
    import torch

    names = {length for axes in inputs.axes.values() for length in axes.values()}
    try:
        dims = {name: torch.export.Dim(name, min=1) for name in names}
        dims |= {name: torch.export.Dim(name, min=0) for name in names & {networks.PAST}}
        return torch.export.export(network, inputs.inputs, dynamic_shapes=_shapes(network, inputs, dims))
    except Exception as error:  # torch.export raises many types; errors unrelated to shapes recur below
        log.debug("dynamic axes: %s", error)
    dims = dict.fromkeys(names, torch.export.Dim.AUTO)
    return torch.export.export(network, inputs.inputs, dynamic_shapes=_shapes(network, inputs, dims))


def _shapes(network: nn.Module, inputs: Example, dims: Mapping[str, Any]) -> tuple[Any, ...]:
    """torch.export's `dynamic_shapes`; variadic inputs are one argument."""
    shapes = tuple(
        {axis: dims[length] for axis, length in inputs.axes.get(name, {}).items()} or None for name in inputs.tensors
    )
    kinds = [parameter.kind for parameter in inspect.signature(network.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds:
        return shapes
    named = kinds.index(inspect.Parameter.VAR_POSITIONAL)
    return (*shapes[:named], shapes[named:])


@contextlib.contextmanager
def converting(name: str, format: str, network: nn.Module, tensors: tuple[Tensor, ...]) -> Iterator[None]:
    """Raises CannotConvert for any error of the converter, naming the operator and its place in the network."""
    try:
        yield
    except (EdgekitError, OSError, MemoryError):
        raise
    except Exception as error:  # torch.export, onnxscript, jax, MLIR and OpenVINO raise many types
        operator = _operator(error)
        why = f"it does not support {operator}" if operator else _first_line(error)
        location = _locate(network, tensors, operator) if operator else ""
        next = "replace that operator in the network, or use another format"
        raise CannotConvert(f"cannot convert {name} to {format}", why + location, next) from error


def _operator(error: BaseException | None) -> str:
    """The operator named by the converter's error or its cause, such as "aten.fft_fft"."""
    while error is not None:
        match = re.search(r"\b(?:aten|prims|quantized|torchvision|torch_\w+)(?:\.|::)(\w+)", str(error))
        match = match or re.search(r"(?<=failed to legalize operation ')[\w.]+", str(error))
        if match:
            return match.group(0).replace("::", ".")
        error = error.__cause__
    return ""


def _locate(network: nn.Module, tensors: tuple[Tensor, ...], operator: str) -> str:
    """Module and source line of the first such operator in the traced program; "" if it is not found."""
    import torch

    name_part = operator.rpartition(".")[2]
    try:
        program = torch.export.export(network, tensors)
        nodes = [
            *program.graph.nodes,
            *program.run_decompositions().graph.nodes,
        ]  # a converter may name either
    except Exception:  # the converter's error is reported
        return ""
    for node in nodes:
        if node.op == "call_function" and name_part in str(node.target):
            modules = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
            lines = re.findall(r'File "(.+?)", line (\d+)', node.meta.get("stack_trace") or "")
            where = f", in module {modules[-1].removeprefix('network.')!r}" if modules else ""
            return where + (f" ({Path(lines[-1][0]).name}, line {lines[-1][1]})" if lines else "")
    return ""


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
