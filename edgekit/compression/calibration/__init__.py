"""Calibration: run samples through a model in its own runtime, and observe every activation.

A format names its module (`Format.observer`), whose `observe` prepares the model so that each run returns all float
activations by name, and passes that to `gather`. Samples are processed one at a time; memory does not grow with their
number.
"""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError, InputError
from edgekit.core.step import Context
from edgekit.formats.ranges import Statistics

#: input name → array of one sample, or of the model's fixed batch
Feed = Mapping[str, NDArray[Any]]
#: seconds between two saves of partial statistics
SAVE_SECONDS = 5.0


def observe(
    format: str,
    path: Path,
    feeds: Iterable[Feed],
    ctx: Context,
    *,
    batch: int = 1,
    origin: str = "",
    partial: Path | None = None,
) -> Statistics:
    """The statistics of the model file `path`. `batch`: the number of samples in each feed.

    `partial`: a file for the statistics of an interrupted pass; a later pass of the same `origin` resumes from it, and
    deletes it at the end. Raises InputError for samples that the model cannot be run on, if a value is NaN or infinite,
    and for a format whose activations cannot be observed.
    """
    named = registry.load("formats", format).observer
    if not named:
        raise InputError(f"the activations of {format} models cannot be observed", "no runtime shows theirs")
    module = importlib.import_module(named)
    statistics: Statistics = module.observe(path, feeds, ctx, batch=batch, origin=origin, partial=partial)
    return statistics


def origin(model: Artifact, path: Path) -> str:
    """The identity of the model that statistics belong to: the sha256 of its file."""
    return model.files.get(path.name) or hashlib.sha256(path.read_bytes()).hexdigest()


def gather(
    run: Callable[[Feed], Mapping[str, NDArray[Any]]],
    feeds: Iterable[Feed],
    *,
    batch: int = 1,
    origin: str = "",
    partial: Path | None = None,
) -> Statistics:
    """The statistics of the tensors that `run` returns for each feed. See `observe`."""
    statistics = _begun(partial, origin)
    saved = time.monotonic()
    for feed in islice(feeds, statistics.samples // batch, None):
        try:
            tensors = run(feed)
        except (EdgekitError, OSError, MemoryError):
            raise
        except Exception as error:  # every runtime has its own
            raise _sample_error(error, feed, statistics.samples) from error
        statistics.add(tensors, batch)
        if partial and time.monotonic() - saved > SAVE_SECONDS:
            partial.parent.mkdir(parents=True, exist_ok=True)
            statistics.save(partial)
            saved = time.monotonic()
    if not statistics.samples:
        raise InputError("there are no calibration samples", "the set is empty", "name a set with samples")
    if partial:
        partial.unlink(missing_ok=True)
    return statistics


def _begun(partial: Path | None, origin: str) -> Statistics:
    """The statistics of an interrupted pass, if they are intact and of the same origin; else empty ones."""
    if partial and partial.is_file():
        try:
            statistics = Statistics.load(partial)
        except InputError:
            return Statistics(origin=origin)
        if statistics.origin == origin:
            return statistics
    return Statistics(origin=origin)


def _sample_error(error: Exception, feed: Feed, sample: int) -> InputError:
    """The error for a failed run, with the integer inputs' ranges: most often an index is out of range."""
    why = " ".join(str(error).split())[:300] or type(error).__name__
    ends = [f"{name!r} holds {a.min()} to {a.max()}" for name, a in feed.items() if a.dtype.kind in "iu" and a.size]
    what = f"the model cannot be run on calibration sample {sample}"
    return InputError(what, "; ".join([why, *ends]), "check the sample: does the model accept such values?")
