"""TensorBoard: what each epoch found, where its folder was named."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgekit.core.errors import Missing, os_errors

Show = Callable[[Mapping[str, Any], float], None]


@contextmanager
def opened(folder: Path | None, done: int, rank: int) -> Iterator[Show]:
    """Gives what writes an epoch's entry and learning rate; the log of epochs after `done` is written anew.

    Raises Missing, NoPermission.
    """
    if folder is None or rank:
        yield lambda entry, rate: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise Missing.install("--tensorboard", "tensorboard", "tensorboard") from error
    with os_errors("write", folder):
        writer: Any = SummaryWriter(str(folder), purge_step=done + 1)

    def show(entry: Mapping[str, Any], rate: float) -> None:
        for name, value in {**entry, "lr": rate}.items():
            if name != "epoch":
                writer.add_scalar(name, value, entry["epoch"])
        writer.flush()

    try:
        yield show
    finally:
        writer.close()
