"""What the exporters share: example inputs with a batch that stays dynamic, and quiet."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import CannotConvert, EdgekitError
from edgekit.types import Artifact

if TYPE_CHECKING:
    from torch import Tensor, nn


def example(model: Artifact) -> tuple[tuple[Tensor, ...], tuple[dict[int, Any], ...]]:
    """Zeros as the model takes them, and torch.export's `dynamic_shapes` that leave their first axis open.

    Two samples, since an example batch of one would be frozen into the graph.
    """
    import torch

    tensors = tuple(
        torch.zeros([2, *(size or 1 for size in spec.shape[1:])], dtype=getattr(torch, spec.dtype))
        for spec in model.inputs
    )
    batch = torch.export.Dim("batch", min=1)
    return tensors, tuple({0: batch} for _ in tensors)


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
        graph = torch.export.export(network, tensors).graph
    except Exception:  # the converter's own complaint is the one to show
        return ""
    for node in graph.nodes:
        if node.op == "call_function" and word in str(node.target):
            modules = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values() if path]
            lines = re.findall(r'File "(.+?)", line (\d+)', node.meta.get("stack_trace") or "")
            where = f", in module {modules[-1]!r}" if modules else ""
            return where + (f" ({Path(lines[-1][0]).name}, line {lines[-1][1]})" if lines else "")
    return ""


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


@contextlib.contextmanager
def quiet(log: logging.Logger) -> Iterator[None]:
    """The exporter's prints and warnings go to the log file."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        registration = logging.getLogger("torch.onnx._internal.exporter._registration")
        level = registration.level
        registration.setLevel(logging.ERROR)
        try:
            yield
        finally:
            registration.setLevel(level)
    for line in [*printed.getvalue().splitlines(), *(str(w.message) for w in caught)]:
        log.debug("exporter: %s", line)
