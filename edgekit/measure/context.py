"""What a run works with beside its recipe, and its outcome."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.errors import EdgekitError
from edgekit.core.measurement import Measurement
from edgekit.core.progress import Progress
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.core.task import Scorer, Task
from edgekit.measure import targets
from edgekit.measure.verify import Finding, Verifier
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store

log = logging.getLogger("edgekit")

#: held while results are written: targets are measured in threads
recording = threading.Lock()


@dataclass
class Outcome:
    """What a workflow made and measured, and what failed; `reused` counts what was there already.

    `findings` are the checks of conversions, `failures` the errors that did not end the workflow.
    """

    artifacts: list[Artifact] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    failures: list[EdgekitError] = field(default_factory=list)
    reused: int = 0


@dataclass
class RunContext:
    """Everything a run needs beside the recipe: where, for which task, on which targets, and whom to tell.

    `val` is the set that arrows are checked on (None: they are not), `scorer` turns outputs and labels into values.
    """

    store: Store
    task: Task | None
    targets: Sequence[Target]
    plan: Plan
    gates: Gates
    val: SampleSet | None
    scorer: Scorer | None
    progress: Progress
    say: Callable[[str], None]
    outcome: Outcome = field(default_factory=Outcome)

    def set(self, text: str, like: tuple[TensorSpec, ...] = ()) -> SampleSet:
        """A SET through the store, with progress; samples that could not be read are said once."""
        new = not self.store.has(text, like)
        found = self.store.set(text, like, self.progress)
        if new and found.skipped:
            more = f" and {len(found.skipped) - 1} more" if len(found.skipped) > 1 else ""
            self.say(f"  skipped   of {found.name}: {found.skipped[0]}{more}")
        for note in found.notes if new else ():
            self.say(f"  note      {found.name}: {note}")
        return found

    @cached_property
    def verifier(self) -> Verifier | None:
        """Checks arrows on the first target that is this machine, else on the host: devices come and go."""
        if self.val is None:
            return None
        where = next((t for t in self.targets if targets.is_here(t)), None) or targets.load("host")
        return Verifier(self.store, where, self.val, self.scorer, self.gates, self.plan)
