"""Where an interrupted training goes on: safetensors and plain JSON, written whole or not at all.

`FOLDER/checkpoint-000012/{state.safetensors, state.json}`; a folder without that name is half-written, and never read.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import os_errors
from edgekit.core.files import sync

if TYPE_CHECKING:
    from torch import Tensor, nn

log = logging.getLogger("edgekit")

TENSORS, PLAIN = "state.safetensors", "state.json"
#: the weights of the best epoch so far, kept where training diverges
BEST = "best.safetensors"
#: of the time at most one part in so many is spent on writing
COST = 50

State = tuple[dict[str, Any], dict[str, Any]]


class CheckpointManager:
    """One training's checkpoints; `mark` says what is trained, and one that was written under another is not taken."""

    def __init__(self, folder: Path | None, mark: str, seconds: float) -> None:
        self.folder, self._mark, self._seconds = folder, mark, seconds
        self._wait, self._last = seconds, time.monotonic()

    def due(self) -> bool:
        """Has enough been learnt since the last one to be worth keeping?"""
        return self.folder is not None and time.monotonic() - self._last >= self._wait

    def load(self) -> State | None:
        """The newest whole checkpoint: tensors by name, and plain values. None where there is none of this training."""
        from safetensors.torch import load_file

        for place in reversed(self._written()):
            try:
                plain = json.loads((place / PLAIN).read_text(encoding="utf-8"))
                tensors = load_file(place / TENSORS)
            except Exception as error:  # the one before may be whole
                log.warning("%s is damaged: %s", place, error)
                continue
            if plain.pop("mark", "") == self._mark:
                return dict(tensors), plain
        return None

    def save(self, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> None:
        """Raises NoSpace, NoPermission."""
        from safetensors.torch import save_file

        assert self.folder is not None
        started = time.monotonic()
        before = self._written()
        place = self.folder / f"checkpoint-{max(map(_number, before), default=0) + 1:06}"
        part = place.with_suffix(".part")
        with os_errors("write", part):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            save_file(_apart(tensors), part / TENSORS)
            (part / PLAIN).write_text(json.dumps({"mark": self._mark, **plain}), encoding="utf-8")
            for file in (part / TENSORS, part / PLAIN):
                sync(file)
            part.rename(place)
            sync(self.folder)
        for old in before:
            shutil.rmtree(old, ignore_errors=True)
        self._last = time.monotonic()
        self._wait = max(self._seconds, COST * (self._last - started))

    def keep_best(self, tensors: Mapping[str, Tensor]) -> Path | None:
        """Write weights that another training can start from; returns the file."""
        from safetensors.torch import save_file

        if self.folder is None:
            return None
        with os_errors("write", self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f".{BEST}.part"
            save_file(_apart(tensors), part)
            part.replace(self.folder / BEST)
        return self.folder / BEST

    def clear(self) -> None:
        """Forget what was kept: training begins anew."""
        for place in self._written():
            shutil.rmtree(place, ignore_errors=True)

    def _written(self) -> list[Path]:
        if self.folder is None or not self.folder.is_dir():
            return []
        return sorted(place for place in self.folder.glob("checkpoint-*") if place.suffix != ".part")


def _number(place: Path) -> int:
    return int(place.name.rpartition("-")[2])


def fingerprint(network: nn.Module, what: Mapping[str, Any]) -> str:
    """A hash of everything that decides how a training goes: `what`, and the weights it starts from."""
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode())
    for name, tensor in network.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(_byte()).numpy().data)
    return digest.hexdigest()


def _byte() -> Any:
    import torch

    return torch.uint8


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, each with memory of its own, as safetensors wants them."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
