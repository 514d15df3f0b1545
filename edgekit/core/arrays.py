"""Errors of reading `.npy` and `.npz` files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgekit.core.config import short
from edgekit.core.errors import EdgekitError, InputError, os_errors


@contextmanager
def array_errors(path: Path, next: str) -> Iterator[None]:
    """Turn whatever numpy raises for a damaged file into InputError; `next` is what to do about it.

    numpy parses a header as Python and allocates what it declares, so that almost any error can come of it.
    """
    try:
        with os_errors("read", path):
            yield
    except EdgekitError:
        raise
    except Exception as error:
        raise InputError(f"cannot read {path}", short(error) or "it is damaged", next) from error
