"""What the exporters share: example inputs with a batch that stays dynamic, and quiet."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from edgekit.types import Artifact

if TYPE_CHECKING:
    from torch import Tensor


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
