"""One pass of calibration samples through a model in its own runtime, with every activation looked at.

A format names the module that knows how (`Format.observer`): its `observe` opens the model so that each run gives all
float activations by name, and hands that to `gather`. One sample at a time; what is kept does not grow with their
number.
"""

from __future__ import annotations

import hashlib
import importlib
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError, InputError
from edgekit.core.step import Context
from edgekit.formats.ranges import Statistics

#: input name → array of one sample, or of as many as the model's batch is fixed to
Feed = Mapping[str, NDArray[Any]]
#: seconds between two savings of what was gathered so far
EVERY = 5.0


def observe(
    format: str, path: Path, feeds: Iterable[Feed], ctx: Context, *, origin: str = "", partial: Path | None = None
) -> Statistics:
    """The statistics of the model file `path`.

    `partial`: a file in which a pass that is cut short leaves what it has; a later pass of the same `origin` goes on
    from there, and the file is gone at the end. Raises InputError for samples that the model cannot be run on, and
    where a value is NaN or infinite, and for a format that does not support it.
    """
    named = registry.load("formats", format).observer
    if not named:
        raise InputError(f"the activations of {format} models cannot be observed", "no runtime shows theirs")
    module = importlib.import_module(named)
    statistics: Statistics = module.observe(path, feeds, ctx, origin=origin, partial=partial)
    return statistics


def origin(model: Artifact, path: Path) -> str:
    """What ties statistics to a model: the sha256 of the file that was run."""
    return model.files.get(path.name) or hashlib.sha256(path.read_bytes()).hexdigest()


def gather(
    run: Callable[[Feed], Mapping[str, NDArray[Any]]],
    feeds: Iterable[Feed],
    *,
    origin: str = "",
    partial: Path | None = None,
) -> Statistics:
    """What `run` gives for each feed, counted. See `observe`."""
    statistics = _begun(partial, origin)
    saved = time.monotonic()
    for feed in _after(feeds, statistics.samples):
        size = _samples(feed)
        try:
            tensors = run(feed)
        except (EdgekitError, OSError, MemoryError):
            raise
        except Exception as error:  # every runtime has its own
            raise _refusal(error, feed, statistics.samples) from error
        statistics.add(tensors, size)
        if partial and time.monotonic() - saved > EVERY:
            partial.parent.mkdir(parents=True, exist_ok=True)
            statistics.save(partial)
            saved = time.monotonic()
    if not statistics.samples:
        raise InputError("there are no calibration samples", "the set is empty", "name a set that holds some")
    if partial:
        partial.unlink(missing_ok=True)
    return statistics


def _begun(partial: Path | None, origin: str) -> Statistics:
    """What an earlier pass left, where it is whole and of the same origin."""
    if partial and partial.is_file():
        try:
            statistics = Statistics.load(partial)
        except InputError:
            return Statistics(origin=origin)
        if statistics.origin == origin:
            return statistics
    return Statistics(origin=origin)


def _after(feeds: Iterable[Feed], samples: int) -> Iterable[Feed]:
    """The feeds that come after so many samples."""
    feeds, seen = iter(feeds), 0
    while seen < samples and (feed := next(feeds, None)) is not None:
        seen += _samples(feed)
    return feeds


def _samples(feed: Feed) -> int:
    return next((len(value) for value in feed.values() if value.ndim), 1)


def _refusal(error: Exception, feed: Feed, sample: int) -> InputError:
    """Integers are most often at fault: an index for which a table has no row."""
    why = " ".join(str(error).split())[:300] or type(error).__name__
    ends = [f"{name!r} holds {a.min()} to {a.max()}" for name, a in feed.items() if a.dtype.kind in "iu" and a.size]
    what = f"the model cannot be run on calibration sample {sample}"
    return InputError(what, "; ".join([why, *ends]), "look at the sample: does the model take such values?")
