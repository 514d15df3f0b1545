"""`compare`: the measurements of runs and results files in one table."""

from __future__ import annotations

from collections.abc import Sequence

from edgekit.core.measurement import Measurement
from edgekit.workflows.compare import rows


def compare(sources: Sequence[str] = (), *, set: str = "", metric: str = "") -> list[Measurement]:
    """The measurements of run folders and results files, in order.

    `set`: the start of a test set's sha256, `metric`: the name of a metric, to choose one of several.

    Raises InputError if there are none, or if they are over different test sets or in different metrics.
    """
    return [m for _, m in rows.collect(sources, set, metric)]
