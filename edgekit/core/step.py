"""Steps: conversions that produce one artifact from others."""

from __future__ import annotations

import logging
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from edgekit.core.artifact import Artifact, Kind
from edgekit.core.progress import Progress
from edgekit.core.samples import SampleSet
from edgekit.core.signature import Signature
from edgekit.core.target import Target
from edgekit.core.task import Task


def references(step: Step, what: Literal["artifact", "network", "task"] = "artifact") -> tuple[str, ...]:
    """The names of a step's fields that name an artifact, a network or a task."""
    hints = typing.get_type_hints(type(step), include_extras=True)
    return tuple(name for name, hint in hints.items() if what in getattr(hint, "__metadata__", ()))


#: A step field that names another artifact of the recipe, or a file; the artifact becomes a parent.
ArtifactRef = Annotated[str, "artifact"]
#: A step field that names a network, by name or as `net.py:Net`; "" is the task's first. Its code enters the id.
NetworkRef = Annotated[str, "network"]
#: A step field that names a task; the task's code enters the id.
TaskRef = Annotated[str, "task"]


class Step:
    """A conversion from artifacts to an artifact; a step is a frozen dataclass whose fields are its options.

    `accepts`: the kinds its parent may have (empty: it starts a chain). `produces`: the kind of its artifact.
    `preserves`: what it promises to preserve (an exporter the outputs, a compressor only the accuracy). `extra`: the
    extra that installs its packages. `tools`: the distributions whose versions enter the artifact's id. `suffixes`:
    endings of the model files that it imports; `reads_files`: it imports others. `methods`: the calibration methods
    that an int8 step offers by itself if it takes no `ranges`.
    """

    accepts: ClassVar[frozenset[Kind]] = frozenset()
    produces: ClassVar[Kind]
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "nothing"
    extra: ClassVar[str] = ""
    tools: ClassVar[tuple[str, ...]] = ()
    suffixes: ClassVar[tuple[str, ...]] = ()
    reads_files: ClassVar[bool] = False
    methods: ClassVar[tuple[str, ...]] = ("min-max",)

    def check(self, task: Task | None) -> Iterator[str]:
        """The problems with the fields, one sentence each."""
        yield from ()

    def resolve(self, target: Target) -> Self:
        """This step with every device-dependent option fixed, so that its id determines the result."""
        return self

    def sets(self, task: Task | None) -> Mapping[str, str]:
        """Role → SET that this step reads; their sha256 enter the artifact's id."""
        return {}

    def files(self) -> tuple[Path, ...]:
        """Further files that the step reads (weights that lie next to a model); their sha256 enter the id.

        Those that an ArtifactRef field names enter it without this, and so does the code behind the step.
        """
        return ()

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Write the model's files to `out`. Roles in `inputs`: "parent", and every ArtifactRef field."""
        raise NotImplementedError


@dataclass(frozen=True)
class StepResult:
    """What a step reports about the artifact it wrote, in addition to its files.

    `tensors` maps the parent's tensor names to this artifact's. `signature`: what an import found out about the model,
    or what a conversion changed (a layout); if empty, the artifact has its parent's, or that of its task.
    """

    scheme: str = ""
    tensors: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)
    signature: Signature = field(default_factory=Signature)


@dataclass(frozen=True)
class Context:
    """What a step may use in addition to its inputs: the task, the sets it requested, progress and log.

    `scratch` is a folder that keeps its files if a long step is interrupted and started again; None if nothing is
    stored.
    """

    task: Task | None
    sets: Mapping[str, SampleSet]
    progress: Progress
    log: logging.Logger
    scratch: Path | None = None
