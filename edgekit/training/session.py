"""Training options that do not affect the resulting weights, and are therefore in no artifact's id."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.core.errors import InputError


@dataclass(frozen=True)
class Session:
    """`tensorboard`: the folder for its logs, None for none. `resume`: continue from a checkpoint, if any.
    `workers`: processes that decode, -1 for an automatic number. `checkpoint_seconds`: the time between checkpoints.
    `say`: takes each line that the training says, None: it says nothing.
    """

    tensorboard: Path | None = None
    resume: bool = True
    workers: int = -1
    checkpoint_seconds: float = 30.0
    say: Callable[[str], None] | None = None


_current: ContextVar[Session | None] = ContextVar("session", default=None)


def current() -> Session:
    """The session set with `using`, else the one from environment variables."""
    return _current.get() or from_environment()


def from_environment() -> Session:
    """`EDGEKIT_TENSORBOARD`, `EDGEKIT_WORKERS` and `EDGEKIT_CHECKPOINT_SECONDS`. Raises InputError."""
    board = os.environ.get("EDGEKIT_TENSORBOARD", "")
    workers, seconds = _number("EDGEKIT_WORKERS", -1), _number("EDGEKIT_CHECKPOINT_SECONDS", 30.0)
    return Session(Path(board) if board else None, True, int(workers), seconds)


@contextmanager
def using(session: Session) -> Iterator[None]:
    token = _current.set(session)
    try:
        yield
    finally:
        _current.reset(token)


@contextmanager
def part(name: str) -> Iterator[None]:
    """One of several trainings: its log goes to a subfolder, and it says nothing of its epochs."""
    session = current()
    folder = session.tensorboard / name if session.tensorboard else None
    with using(replace(session, tensorboard=folder, say=None)):
        yield


def _number(name: str, default: float) -> float:
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else default
    except ValueError as error:
        raise InputError(
            f"{name} is {text!r}", "it must be a number", f"set {name} to a number, or unset it"
        ) from error
    if value < 0 and text:
        raise InputError(f"{name} is {text}", "it must not be negative", f"set 0 or more, or unset {name}")
    return value
