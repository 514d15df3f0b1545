"""Records from JSON objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def from_json(cls: type[T], data: Mapping[str, Any] | None) -> T | None:
    """A flat record from its JSON object; lists become tuples. None stays None."""
    return None if data is None else cls(**{key: tuples(value) for key, value in data.items()})


def tuples(value: Any) -> Any:
    """A list as a tuple, everything else as it is."""
    return tuple(value) if isinstance(value, list) else value
