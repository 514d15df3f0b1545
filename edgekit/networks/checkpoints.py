"""Reads state dicts from files without unpickling code: .safetensors, sharded or not, and torch's checkpoints.

A checkpoint may hold more than the weights; which part is read is said in a note.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.core import sandbox
from edgekit.core.errors import InputError, os_errors
from edgekit.core.files import check_unpacked
from edgekit.core.json import read as read_json
from edgekit.core.progress import Progress

INDEX = ".index.json"
#: entries with averaged weights (exponential moving average), which are the better ones
EMA_KEYS = ("ema", "model_ema", "ema_model", "ema_state_dict", "state_dict_ema", "model_ema_state_dict", "params_ema")
#: entries with the weights
KEYS = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights", "params", "module")
#: how deep the weights are looked for
DEPTH = 4


@dataclass(frozen=True)
class Checkpoint:
    """The tensors by name, and in `notes` what was chosen or left out on the way to them."""

    tensors: Mapping[str, Any]
    notes: tuple[str, ...] = ()


def read(path: Path) -> Checkpoint:
    """Raises InputError for a file without weights, or one that could run code; it is never executed.

    It is read in a child first, with limits (see `core/sandbox.py`): what fits there is then read here.
    """
    with os_errors("read", path):
        limits = sandbox.Limits.reading(sandbox.size_of(_parts(path)))

    def trial(progress: Progress) -> None:
        _read(path)

    sandbox.call(trial, str(path), limits, warm=("safetensors", "torch"))
    return _read(path)


def _parts(path: Path) -> Iterable[Path]:
    """The file, or all files of the folder that it is or lies in, if it is an index."""
    folder = path if path.is_dir() else path.parent
    return folder.iterdir() if path.is_dir() or path.name.endswith(INDEX) else [path]


def _read(path: Path) -> Checkpoint:
    if path.is_dir():
        path = _in_folder(path)
    if path.name.endswith(INDEX):
        return _sharded(path)
    with os_errors("read", path), path.open("rb") as file:
        file.read(1)
    return Checkpoint(_safetensors(path)) if path.suffix == ".safetensors" else _state_dict(_loaded(path), path)


def _in_folder(folder: Path) -> Path:
    for name in ("model.safetensors.index.json", "model.safetensors", "pytorch_model.bin"):
        if (folder / name).is_file():
            return folder / name
    what = f"the folder {folder} holds no model.safetensors"
    raise InputError(what, "nor its index, nor pytorch_model.bin", "name the file with the weights")


def _sharded(index: Path) -> Checkpoint:
    """The tensors of all files that an index names, which lie beside it."""
    table = read_json(index, "download the model again")
    try:
        names = sorted(set(table["weight_map"].values()))
        if not names or not all(isinstance(name, str) and Path(name).name == name for name in names):
            raise ValueError
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        why = 'its "weight_map" must name files in the same folder'
        raise InputError(f"{index} is not an index of weights", why, "download the model again") from error
    tensors: dict[str, Any] = {}
    for name in names:
        tensors |= _read(index.with_name(name)).tensors
    return Checkpoint(tensors)


def _safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise InputError(f"cannot read {path}", f"not a safetensors file: {error}", "save it again") from error


def _loaded(path: Path) -> Any:
    import torch

    if _is_torchscript(path):
        what, why = f"{path} is TorchScript", "it holds compiled code beside its weights"
        command = _command(path, "torch.jit.load({file!r}, 'cpu').state_dict()")
        raise InputError(what, why, f"save its weights alone, if you trust its author: {command}")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here, and every one of them means the same
        loaded = (
            "(lambda c: c.state_dict() if hasattr(c, 'state_dict') else c)("
            "(lambda c: c.get('state_dict', c.get('model', c)) if isinstance(c, dict) else c)("
            "torch.load({file!r}, 'cpu', weights_only=False)))"
        )
        raise InputError(
            f"{path} is not a checkpoint of plain weights",
            "it is damaged, or a pickle that could run code; it was not executed",
            f"ask its author for .safetensors; or, if you trust the author, convert it: {_command(path, loaded)}",
        ) from error


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        check_unpacked(path, archive, "save it again")
        return any(name.rpartition("/")[2] == "constants.pkl" for name in archive.namelist())


def _command(path: Path, weights: str) -> str:
    out = path.with_name(f"{path.stem}-weights.pt")
    return f'python -c "import torch; torch.save({weights.format(file=str(path))}, {str(out)!r})"'


def _state_dict(loaded: Any, path: Path) -> Checkpoint:
    checkpoint = _found(loaded, DEPTH)
    if checkpoint is None:
        keys = f"; its entries: {', '.join(map(str, list(loaded)[:8]))}" if isinstance(loaded, Mapping) else ""
        why = f"it must hold tensors by name{keys}"
        raise InputError(f"{path} holds no state dict", why, "save model.state_dict()")
    return checkpoint


def _found(entries: Any, depth: int) -> Checkpoint | None:
    """The state dict in the entries of a checkpoint, averaged weights first."""
    if not isinstance(entries, Mapping) or not depth:
        return None
    inner = {key: value for key, value in entries.items() if isinstance(value, Mapping)}
    known = [key for key in (*EMA_KEYS, *KEYS) if key in inner]
    for key in known or (list(inner) if not _tensors(entries) else []):
        checkpoint = _found(inner[key], depth - 1)
        if checkpoint is None:
            continue
        note = f"its entry {key!r} is read"
        if key in EMA_KEYS:
            note += ": averaged weights (EMA)"
        return replace(checkpoint, notes=(note, *checkpoint.notes))
    tensors = _tensors(entries)
    return Checkpoint(tensors) if tensors else None


def _tensors(entries: Mapping[Any, Any]) -> dict[str, Any]:
    import torch

    return {name: t for name, t in entries.items() if isinstance(name, str) and isinstance(t, torch.Tensor)}
