"""`compare`: the measurements of runs and results files, side by side."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.core.measurement import Measurement
from edgekit.workflows.compare import rows


def compare(sources: Sequence[str] = (), *, set: str = "") -> list[Measurement]:
    """The measurements of run folders and results files, in order; `set` chooses a test set by how its sha256 begins.

    Raises InputError where there are none, and where they are over different test sets.
    """
    return [m for _, m in rows.collect(sources, set)]
