"""Progress reporting for long loops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from edgekit.core.json import T


class Progress(Protocol):
    def __call__(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]: ...


def quiet(items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
    """Progress that shows nothing."""
    yield from items
