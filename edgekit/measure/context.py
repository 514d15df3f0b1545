"""The context of a run (everything it needs besides its recipe) and its outcome."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.errors import EdgekitError
from edgekit.core.measurement import Measurement
from edgekit.core.progress import Progress, stage
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.core.task import Scorer, Task
from edgekit.measure import targets
from edgekit.measure.time_limit import Session
from edgekit.measure.verify import Finding, Verifier
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store
from edgekit.sets.class_order import in_order_of

log = logging.getLogger("edgekit")

#: held while results are written, since targets are measured in threads
results_lock = threading.Lock()


@dataclass
class Outcome:
    """What a workflow made and measured, and what failed; `reused` counts artifacts and measurements that were reused.

    `findings` are the checks of conversions, `failures` the errors that did not end the workflow. `notes`: what was
    skipped, dropped or changed in the samples, and warnings about them, one sentence each. `sessions`: how long each
    session of measuring was announced to take, and took.
    """

    artifacts: list[Artifact] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    measurements: list[Measurement] = field(default_factory=list)
    failures: list[EdgekitError] = field(default_factory=list)
    reused: int = 0
    notes: list[str] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)


@dataclass
class RunContext:
    """Everything a run needs besides the recipe: its store, task, targets, plan and gates, and how it reports progress.

    `val` is the set that conversions are checked on (None: they are not); `scorer` computes metrics from outputs and
    labels.
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
    #: why conversions cannot be checked, if `val` is None for lack of samples
    unverified: str = ""

    def set(self, text: str, like: tuple[TensorSpec, ...] = ()) -> SampleSet:
        """Load a SET through the store, with progress; samples that cannot be read are reported once."""
        new = not self.store.has(text, like)
        data = self.store.set(text, like, self.progress)
        if new and data.skipped:
            more = f" and {len(data.skipped) - 1} more" if len(data.skipped) > 1 else ""
            self.note(f"{len(data.skipped)} skipped of {data.name}: {data.skipped[0]}{more}", "skipped")
        whole = re.sub(r"(\?[^:]*)?(:(train|val|test))?$", "", data.name)  # what is true of each split is said once
        for note in data.notes if new else ():
            self.note(f"{whole}: {note}")
        return data

    def set_for(self, text: str, artifact: Artifact) -> SampleSet:
        """A SET as the artifact takes it, its labels as indices of the artifact's classes."""
        return in_order_of(self.set(text, artifact.inputs), artifact.signature.classes)

    def check(self, verifier: Verifier, artifact: Artifact, preserves: str, against: Artifact | None = None) -> Finding:
        """The finding of `Verifier.check`, with progress."""
        with stage(self.progress, f"verifying {artifact.name}"):
            return verifier.check(artifact, preserves, against)

    def note(self, sentence: str, word: str = "note") -> None:
        """Say it, and keep it in the outcome; `word` begins the line (note, warning, skipped)."""
        if sentence not in self.outcome.notes:
            self.outcome.notes.append(sentence)
            self.say(f"  {word:<9} {sentence}")

    @cached_property
    def verifier(self) -> Verifier | None:
        """Checks conversions on the first target that is this machine, else on the host: a device may be offline."""
        if self.val is None:
            return None
        target = next((t for t in self.targets if targets.is_here(t)), None) or targets.load("host")
        return Verifier(self.store, target, self.val, self.scorer, self.gates, self.plan)
