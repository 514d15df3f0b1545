"""Steps: conversions from artifacts to an artifact."""

from __future__ import annotations

import logging
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from edgekit.core import registry
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.progress import Progress
from edgekit.core.samples import SampleSet
from edgekit.core.target import Target
from edgekit.core.task import Task


def step_name(step: Step) -> str:
    """The registry key of a step: the name of its file."""
    for name in registry.names("steps"):
        if registry.class_name(name) == type(step).__name__:
            return name
    return type(step).__name__


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
    """An arrow from artifacts to an artifact; a step is a frozen dataclass whose fields are its options.

    `takes` the kinds its parent may have (empty: it starts a chain), `gives` the kind it makes, `keeps` what it
    promises to preserve (an exporter the outputs, a compressor only the accuracy), `needs` the extra it is in,
    `tools` the distributions whose versions enter the artifact's id.
    """

    accepts: ClassVar[frozenset[Kind]] = frozenset()
    produces: ClassVar[Kind]
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "nothing"
    extra: ClassVar[str] = ""
    tools: ClassVar[tuple[str, ...]] = ()

    def check(self, task: Task | None) -> Iterator[str]:
        """What is wrong with the fields, a sentence each."""
        yield from ()

    def resolve(self, target: Target) -> Self:
        """This step with everything that depends on the device fixed, so that its id says what will be made."""
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
        """Write the model's files into `out`. Roles in `inputs`: "parent", and every ArtifactRef field."""
        raise NotImplementedError


@dataclass(frozen=True)
class StepResult:
    """What a step says of the artifact it wrote, beyond what its files show.

    `tensors` maps the parent's tensor names to this artifact's.
    """

    scheme: str = ""
    tensors: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Context:
    """What a step may use beside its inputs: the task, the sets it asked for, progress and log.

    What a long step writes into `scratch` is there again when it was interrupted and is started anew.
    """

    task: Task | None
    sets: Mapping[str, SampleSet]
    progress: Progress
    log: logging.Logger
    scratch: Path | None = None
