"""Samples as people hold them in Python → a SET: a word that every workflow reads.

What is in memory is written to a file in the run folder that uses it, so that a later command finds it again.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from edgekit.api.options import Samples
from edgekit.core.errors import InputError, suggest
from edgekit.runs import written

#: in the run folder
FOLDER = "data"
LABEL = "label"
NEXT = "pass a path, a DataFrame, an array (N, …), (inputs, labels), or a DataLoader"


def as_set(data: Samples | None, run: Path, *, label: str = "", inputs: tuple[str, ...] = ()) -> str:
    """The SET of some samples; "" for None.

    `data`: a SET (a path, or a task's split); a DataFrame, whose column `label` is the labels; an array or tensor
    (N, …); a mapping of input name → array, with `label` for labels; a pair (inputs, labels); a dataset of torch; an
    iterable of batches of any of these (a DataLoader). `run`: the folder that it is kept in. `inputs`: the model's
    input names, for arrays without a name. Raises InputError for anything else.
    """
    if data is None:
        return ""
    if label and not isinstance(label, str):
        raise InputError("label is not a column's name", "", "pass labels with their inputs: (inputs, labels)")
    if isinstance(data, str | os.PathLike):
        text = os.fspath(data)
        return f"{text}{'&' if '?' in text else '?'}label={quote(label)}" if label else text
    if _is_table(data):
        return _table(data, run, label)
    if isinstance(data, tuple) and len(data) == 2 and _is_table(data[0]) and _holds_text(data[0]):
        return _table(_joined(*data), run, "")
    values = arrays(data, inputs)
    if not values or not all(map(len, values.values())):
        raise InputError("there are no samples", f"{type(data).__name__} holds none", NEXT)
    lengths = {name: len(array) for name, array in values.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise InputError("the arrays differ in their number of samples", said, "pass as many labels as inputs")
    for name, array in values.items():
        _refuse_nan(name, array)
    buffer = io.BytesIO()
    np.savez(buffer, **values)  # type: ignore[arg-type]
    return str(_kept(run, buffer.getvalue(), ".npz", b"".join(_bytes(values))))


def check_labelled(data: Any, label: str) -> None:
    """Raises InputError for what is in memory and can hold no labels: inputs alone, a table without their column."""
    if _is_table(data) and not label and LABEL not in data.columns:
        columns = ", ".join(map(str, list(data.columns)[:10]))
        raise InputError("the DataFrame has no labels", f"its columns are {columns}", 'name their column: label="…"')
    if hasattr(data, "shape") and not _is_table(data):
        raise InputError(f"the {type(data).__name__} has no labels", "training needs labels", "pass (inputs, labels)")


def _is_table(data: Any) -> bool:
    return hasattr(data, "to_csv") and hasattr(data, "columns")


def _holds_text(table: Any) -> bool:
    return any(getattr(dtype, "kind", "O") not in "biuf" for dtype in table.dtypes)


def _table(data: Any, run: Path, label: str) -> str:
    columns = list(data.columns)
    if any(not isinstance(name, str) for name in columns):
        raise InputError("a column's name is not text", repr(columns[:5]), 'data.columns = [f"c{i}" for i in …]')
    if label and label not in columns:
        raise InputError(f"the DataFrame has no column {label!r}", "", suggest(label, tuple(columns)))
    if not len(data):
        raise InputError("there are no samples", "the DataFrame has no rows", NEXT)
    text = data.to_csv(index=False).encode()
    path = _kept(run, text, ".csv", text)
    return f"{path}?label={quote(label)}" if label and label != LABEL else str(path)


def _joined(table: Any, labels: Any) -> Any:
    """The table with its labels as a column."""
    column = _labels(labels)
    if LABEL in table.columns:
        raise InputError(f"the DataFrame has a column {LABEL!r}, too", "", "leave it out, or the labels beside it")
    if column.shape != (len(table),):
        why = f"the DataFrame has {len(table)} rows, the labels {list(column.shape)}"
        raise InputError("the arrays differ in their number of samples", why, "pass as many labels as rows")
    return table.assign(**{LABEL: column})


def arrays(data: Any, inputs: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    """Input name → array (N, …), and "label" → labels if there are some, of what is in memory. Raises InputError."""
    if _is_table(data):
        try:
            data = data.to_numpy(np.float32)
        except ValueError as error:
            raise InputError("the DataFrame holds text", str(error), "pass its numeric columns") from error
    if isinstance(data, Mapping):
        return {str(name): _array(value) for name, value in data.items()}
    if isinstance(data, tuple) or _is_pair(data):
        if len(data) == 1:  # a DataLoader's, without labels
            return arrays(data[0], inputs)
        if len(data) != 2:
            raise InputError(f"a tuple of {len(data)} is no samples", "", "pass (inputs, labels), or a mapping by name")
        return {**arrays(data[0], inputs), LABEL: _labels(data[1])}
    if hasattr(data, "shape") or isinstance(data, list):
        return {inputs[0] if len(inputs) == 1 else "input": _array(data)}
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, Iterable):
        dataset = data
        data = (_one(dataset[index]) for index in range(len(dataset)))
    if isinstance(data, Iterable) and not isinstance(data, bytes):
        batches = [arrays(tuple(batch) if isinstance(batch, list) else batch, inputs) for batch in data]
        return {name: _joined_batches(name, batches) for name in (batches[0] if batches else ())}
    raise InputError(f"samples cannot be {type(data).__name__}", "", NEXT)


def _joined_batches(name: str, batches: Sequence[Mapping[str, NDArray[Any]]]) -> NDArray[Any]:
    """One array of all samples. Raises InputError if a batch does not have it, or its samples differ in shape."""
    if names := next((list(batch) for batch in batches if set(batch) != set(batches[0])), None):
        why = f"one has {', '.join(names)}, the first {', '.join(batches[0])}"
        raise InputError("the samples differ in their names", why, "give each sample the same ones")
    first = batches[0][name].shape[1:]
    if other := [shape for batch in batches if (shape := batch[name].shape[1:]) != first]:
        why = f"one has shape {list(other[0])}, the first {list(first)}"
        raise InputError(
            f"the samples of {name!r} differ in shape", why, "bring them to one shape: resize, crop or pad"
        )
    return np.concatenate([batch[name] for batch in batches])


def _is_pair(data: Any) -> bool:
    """Is the list [inputs, labels]? Two samples would have one shape."""
    if not isinstance(data, list) or len(data) != 2 or not all(hasattr(value, "shape") for value in data):
        return False
    return len(data[0].shape) != len(data[1].shape)


def _one(sample: Any) -> Any:
    """A dataset's sample as a batch of one."""
    if isinstance(sample, Mapping):
        return {name: _array([_cpu(value)]) for name, value in sample.items()}
    return tuple(_array([_cpu(value)]) for value in (sample if isinstance(sample, tuple | list) else (sample,)))


def _cpu(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def _array(value: Any) -> NDArray[Any]:
    try:
        array = np.asarray([_cpu(item) for item in value] if isinstance(value, list) else _cpu(value))
    except ValueError:  # rows of different lengths
        array = np.asarray(None)
    if array.dtype == object and array.ndim and all(isinstance(item, str) for item in array.flat):
        array = array.astype(str)
    if array.dtype == object or array.ndim == 0:
        why = "its rows differ in shape, or it is not of numbers"
        raise InputError(f"{type(value).__name__} is no array of samples", why, NEXT)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def _labels(value: Any) -> NDArray[Any]:
    """A column (N, 1), as a DataFrame of one, is (N,)."""
    array = _array(value)
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array


def _refuse_nan(name: str, array: NDArray[Any]) -> None:
    if array.dtype.kind == "f" and not (finite := np.isfinite(array.reshape(len(array), -1)).all(axis=1)).all():
        what = f"sample {int(np.argmin(finite))} of {name!r} holds NaN or infinity"
        raise InputError(what, f"{(~finite).sum():,} of {len(array):,} samples do", "remove or replace them")


def _bytes(arrays: Mapping[str, NDArray[Any]]) -> Iterable[bytes]:
    for name, array in arrays.items():
        yield f"{name} {array.dtype} {array.shape}".encode()
        yield np.ascontiguousarray(array).tobytes()


def _kept(run: Path, content: bytes, suffix: str, identity: bytes) -> Path:
    """The file in the run folder, written unless it is there; the name is from the content.

    Its path is absolute, so that a later call finds it from another working directory, if a SET can name that.
    """
    name = f"{FOLDER}/{hashlib.sha256(identity).hexdigest()[:12]}{suffix}"
    if not written.is_own(run, name):
        (run / FOLDER).mkdir(parents=True, exist_ok=True)
        written.write(run, name, content)
    path = (run / name).absolute()
    return run / name if re.search(r"[?:&=%]", str(path)) else path


def slug(text: str) -> str:
    """A name for a run folder."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-").lower() or "model"
