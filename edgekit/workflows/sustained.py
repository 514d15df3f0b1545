"""The chart of a sustained load, stored with the artifact that was measured."""

from __future__ import annotations

from collections.abc import Iterable

from edgekit.core.measurement import Measurement
from edgekit.report.sustained import picture, summary
from edgekit.runs import written
from edgekit.runs.store import Store
from edgekit.workflows.setup import Say


def write_pictures(store: Store, measurements: Iterable[Measurement], say: Say) -> None:
    """Write `sustained-TARGET-RUNTIME.svg` to the folder of each artifact with a sustained load, and say a summary."""
    for m in measurements:
        if sustained := m.facts.get("sustained"):
            name = f"{m.artifact}/sustained-{m.target}-{m.runtime}.svg"
            written.write(store.path, name, picture(sustained, f"{m.artifact} on {m.target}, {m.runtime}"))
            say(f"  sustained {m.artifact} on {m.target} in {m.runtime}: {summary(sustained)}; {store.path / name}")
