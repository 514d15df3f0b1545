"""Checkpoints of a training: safetensors and JSON, written atomically.

`FOLDER/checkpoint-000012/{state.safetensors, state.json}`; an incomplete one ends in `.part`, and is never read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import os_errors
from edgekit.core.files import new_part, sync
from edgekit.core.json import read

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger("edgekit")

TENSORS, PLAIN = "state.safetensors", "state.json"
NAME = re.compile(r"checkpoint-\d{6,}")
#: the weights of the best epoch so far, written when training diverges
BEST = "best.safetensors"
#: at most this fraction of the time (1/N) is spent on writing
TIME_SHARE = 50

State = tuple[dict[str, Any], dict[str, Any]]


class CheckpointManager:
    """One training's checkpoints; one with another `fingerprint` is not loaded."""

    def __init__(self, folder: Path | None, fingerprint: str, seconds: float) -> None:
        self.folder, self._fingerprint, self._seconds = folder, fingerprint, seconds
        self._interval, self._last_time = seconds, time.monotonic()

    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return self.folder is not None and time.monotonic() - self._last_time >= self._interval

    def load(self) -> State | None:
        """The newest complete checkpoint of this training, if any: tensors by name, and JSON values."""
        from safetensors.torch import load_file

        for folder in reversed(self._complete()):
            try:
                plain = read(folder / PLAIN)
                tensors = load_file(folder / TENSORS)
            except Exception as error:  # the previous one may be complete
                log.warning("%s is damaged: %s", folder, error)
                continue
            if plain.pop("fingerprint", "") == self._fingerprint:
                return dict(tensors), plain
        return None

    def save(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Raises NoSpace, NoPermission."""
        from safetensors.torch import save_file

        assert self.folder is not None
        started = time.monotonic()
        earlier = self._complete()
        taken = [_number(path) for path in self.folder.glob("checkpoint-*") if NAME.fullmatch(path.name)]
        folder = self.folder / f"checkpoint-{max(taken, default=0) + 1:06}"
        part = folder.with_suffix(".part")
        with os_errors("write", part):
            _remove(part)
            part.mkdir(parents=True)
            save_file(_copied(tensors), part / TENSORS)
            (part / PLAIN).write_text(json.dumps({"fingerprint": self._fingerprint, **plain}), encoding="utf-8")
            for file in (part / TENSORS, part / PLAIN):
                sync(file)
            part.rename(folder)
            sync(self.folder)
        for old in earlier:
            _remove(old)
        self._last_time = time.monotonic()
        self._interval = max(self._seconds, TIME_SHARE * (self._last_time - started))

    def keep_best(self, tensors: Mapping[str, Tensor]) -> Path | None:
        """Write weights that another training can start from, and return the file."""
        from safetensors.torch import save_file

        if self.folder is None:
            return None
        with os_errors("write", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            part = new_part(self.folder / BEST)
            save_file(_copied(tensors), part)
            part.replace(self.folder / BEST)
        return self.folder / BEST

    def clear(self) -> None:
        """Delete all checkpoints."""
        for folder in self._complete():
            _remove(folder)

    def _complete(self) -> list[Path]:
        if self.folder is None or not self.folder.is_dir():
            return []
        found = (path for path in self.folder.glob("checkpoint-*") if NAME.fullmatch(path.name))
        return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def _remove(folder: Path) -> None:
    """Delete a checkpoint's two files, and its folder if that is then empty."""
    with suppress(OSError):
        for name in (TENSORS, PLAIN):
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()


def _number(folder: Path) -> int:
    return int(folder.name.rpartition("-")[2])


def fingerprint(network: nn.Module, recorded: Mapping[str, Any]) -> str:
    """A hash of `recorded`, the options that affect a training, and of its initial weights."""
    digest = hashlib.sha256(json.dumps(recorded, sort_keys=True).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(_uint8()).numpy().data)
    return digest.hexdigest()


def _uint8() -> Any:
    import torch

    return torch.uint8


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU that share no memory, as safetensors requires."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
