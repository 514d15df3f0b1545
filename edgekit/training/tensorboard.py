"""Writes each epoch's values to a TensorBoard log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit.core.errors import Missing, os_errors

WriteEpoch = Callable[[Mapping[str, Any]], None]


@contextmanager
def epoch_writer(folder: Path | None, done_epochs: int, rank: int) -> Iterator[WriteEpoch]:
    """Gives a function that logs an epoch's entry; entries after `done_epochs` are overwritten.

    Raises Missing, NoPermission.
    """
    if folder is None or rank:
        yield lambda entry: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise Missing.install("--tensorboard", "tensorboard", "tensorboard") from error
    with os_errors("write", folder):
        writer: Any = SummaryWriter(str(folder), purge_step=done_epochs + 1)

    def write_epoch(entry: Mapping[str, Any]) -> None:
        for name, value in entry.items():
            if name != "epoch":
                writer.add_scalar(name, value, entry["epoch"])
        writer.flush()

    try:
        yield write_epoch
    finally:
        writer.close()
