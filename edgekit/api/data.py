"""Samples as people hold them in Python → a SET: a word that every workflow reads.

What is in memory is written to a file in the run folder that uses it, so that a later command finds it again.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.runs import written

#: in the run folder
FOLDER = "data"
LABEL = "label"


def as_set(data: Any, run: Path, *, label: str = "", inputs: tuple[str, ...] = ()) -> str:
    """The SET of some samples; "" for None.

    `data`: a SET (a path, or a task's split); a DataFrame, whose column `label` is the labels; an array or tensor
    (N, …); a mapping of input name → array, with `label` for labels; a pair (inputs, labels); an iterable of batches
    of any of these (a torch DataLoader). `run`: the folder that it is kept in. `inputs`: the model's input names, for
    arrays without a name. Raises InputError for anything else.
    """
    if data is None:
        return ""
    if isinstance(data, str | Path):
        text = str(data)
        return f"{text}{'&' if '?' in text else '?'}label={quote(label)}" if label else text
    if hasattr(data, "to_csv") and hasattr(data, "columns"):
        return _table(data, run, label or LABEL)
    arrays = _arrays(data, inputs)
    if not arrays or not all(map(len, arrays.values())):
        raise InputError("there are no samples", f"{type(data).__name__} holds none")
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError("the arrays differ in their number of samples", said)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return str(_kept(run, buffer.getvalue(), ".npz", b"".join(_bytes(arrays))))


def _table(data: Any, run: Path, label: str) -> str:
    columns = list(data.columns)
    if any(not isinstance(name, str) for name in columns):
        raise InputError("a column's name is not text", repr(columns[:5]), 'data.columns = [f"c{i}" for i in …]')
    text = data.to_csv(index=False).encode()
    path = _kept(run, text, ".csv", text)
    return f"{path}?label={quote(label)}" if label in columns and label != LABEL else str(path)


def _arrays(data: Any, inputs: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    if isinstance(data, Mapping):
        return {str(name): _array(value) for name, value in data.items()}
    if isinstance(data, tuple):
        if len(data) == 1:  # a DataLoader's, without labels
            return _arrays(data[0], inputs)
        if len(data) != 2:
            raise InputError(f"a tuple of {len(data)} is no samples", "", "pass (inputs, labels), or a mapping by name")
        return {**_arrays(data[0], inputs), LABEL: _array(data[1])}
    if hasattr(data, "shape") or isinstance(data, list):
        return {inputs[0] if len(inputs) == 1 else "input": _array(data)}
    if isinstance(data, Iterable):
        batches = [_arrays(tuple(batch) if isinstance(batch, list) else batch, inputs) for batch in data]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in (batches[0] if batches else ())}
    what = f"samples cannot be {type(data).__name__}"
    raise InputError(what, "", "pass a path, a DataFrame, an array, (inputs, labels), or a DataLoader")


def _array(value: Any) -> NDArray[Any]:
    if hasattr(value, "detach"):  # a tensor, wherever it is
        value = value.detach().cpu().numpy()
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype == object or array.ndim == 0:
        raise InputError(
            f"{type(value).__name__} is no array of samples", "its rows differ in shape, or it is a scalar"
        )
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _bytes(arrays: Mapping[str, NDArray[Any]]) -> Iterable[bytes]:
    for name, array in arrays.items():
        yield f"{name} {array.dtype} {array.shape}".encode()
        yield np.ascontiguousarray(array).tobytes()


def _kept(run: Path, content: bytes, suffix: str, identity: bytes) -> Path:
    """The file in the run folder, written unless it is there; the name is from the content."""
    name = f"{FOLDER}/{hashlib.sha256(identity).hexdigest()[:12]}{suffix}"
    if not written.is_own(run, name):
        (run / FOLDER).mkdir(parents=True, exist_ok=True)
        written.write(run, name, content)
    return run / name


def slug(text: str) -> str:
    """A name for a run folder."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-").lower() or "model"
