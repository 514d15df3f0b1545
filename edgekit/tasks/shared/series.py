"""Series in sktime's `.ts` format (https://www.sktime.net/en/stable/api_reference/file_specifications/ts.html)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError


def parse_ts(text: str, name: str) -> tuple[list[NDArray[np.float32]], list[str], tuple[str, ...]]:
    """Series (time, channels), their labels, and all classes. Raises InputError, naming the line."""
    series: list[NDArray[np.float32]] = []
    labels: list[str] = []
    classes: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        line = line.strip()
        if line.lower().startswith("@classlabel"):
            classes = tuple(line.split()[2:])
        if not line or line[0] in "#@":
            continue
        *channels, label = line.split(":")
        try:
            columns = [np.array([float(v) if v != "?" else np.nan for v in c.split(",")], np.float32) for c in channels]
            series.append(np.stack(columns, axis=1))
        except ValueError as error:
            raise InputError(
                f"cannot read {name}, line {number}", str(error), "a line holds numbers, commas and colons"
            ) from error
        if label not in classes:
            raise InputError(
                f"{name}, line {number}: unknown class {label!r}", next=f"@classLabel has {', '.join(classes)}"
            )
        labels.append(label)
    if not series:
        raise InputError(f"{name} holds no series", next="check that it is in the .ts format")
    return series, labels, classes


def equal_length(series: list[NDArray[np.float32]], length: int) -> NDArray[np.float32]:
    """(N, length, channels): short series are padded with their last value, long ones cut, gaps filled forward."""
    padded = np.empty((len(series), length, series[0].shape[1]), np.float32)
    for index, values in enumerate(series):
        filled = values.copy()
        for row in range(len(filled)):
            previous = filled[row - 1] if row else 0.0
            filled[row] = np.where(np.isnan(filled[row]), previous, filled[row])
        padded[index] = np.concatenate([filled, np.repeat(filled[-1:], max(0, length - len(filled)), axis=0)])[:length]
    return padded
