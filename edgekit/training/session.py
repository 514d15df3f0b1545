"""What changes how a training goes, but not what it makes, and so is in no artifact's id."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path

from edgekit.core.errors import InputError


@dataclass(frozen=True)
class Session:
    """`tensorboard`: the folder of its logs, None for none. `resume`: go on from a checkpoint where there is one.
    `workers`: processes that decode, -1 for as many as help. `checkpoint_seconds`: what an interruption may cost.
    """

    tensorboard: Path | None = None
    resume: bool = True
    workers: int = -1
    checkpoint_seconds: float = 30.0


_current: ContextVar[Session | None] = ContextVar("session", default=None)


def current() -> Session:
    """What was set around this training, else what the environment says."""
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
    """One training of several: its log is in a folder of its own."""
    now = current()
    with using(replace(now, tensorboard=now.tensorboard / name) if now.tensorboard else now):
        yield


def _number(name: str, otherwise: float) -> float:
    text = os.environ.get(name, "")
    try:
        value = float(text) if text else otherwise
    except ValueError as error:
        raise InputError(f"{name} is {text!r}", "a number is wanted", "mend it, or leave it out") from error
    if value < 0 and text:
        raise InputError(f"{name} is {text}", "it must not be negative", "mend it, or leave it out")
    return value
