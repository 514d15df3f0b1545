"""The base class of the import steps: a model file is read, checked, and copied into the run unchanged."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from edgekit.core import registry, sandbox
from edgekit.core.artifact import Artifact, Kind, ModelFacts
from edgekit.core.errors import os_errors
from edgekit.core.step import ArtifactRef, Context, Step, StepResult
from edgekit.core.task import Task
from edgekit.steps.shared.signed import given_files, given_problems, known


@dataclass(frozen=True)
class ImportStep(Step):
    """`path`: the model's file; `precision`: what it is quantized to already, "" for float; `signature`: a signature
    file, or its JSON."""

    format: ClassVar[str]
    #: endings of further files of the model, in the same folder
    beside: ClassVar[tuple[str, ...]] = ()

    path: ArtifactRef = ""
    precision: Literal["", "int8", "fp16", "dynamic"] = ""
    signature: str = field(default="", kw_only=True)

    @classmethod
    def of(cls, path: str) -> Self:
        """The step that imports this file. Raises InputError where it is not such a model."""
        step = cls(path=path)
        precision = Kind(cls.format, step.describe().traits).precision
        return dataclasses.replace(step, precision=precision)  # type: ignore[arg-type]

    @property
    def produces(self) -> Kind:  # type: ignore[override]
        return Kind(self.format, frozenset({self.precision} - {""}))

    def check(self, task: Task | None) -> Iterator[str]:
        if not self.path:
            yield "path is missing"
        elif Path(self.path).is_file() and (traits := self.describe().traits) != self.produces.traits:
            precision = ", ".join(sorted(traits)) or "float"
            yield f"{self.path} is {precision}, not {self.precision or 'float'}: set precision"
        yield from given_problems(self.signature)

    def files(self) -> tuple[Path, ...]:
        beside = (Path(self.path).with_suffix(suffix) for suffix in self.beside)
        return (*beside, *given_files(self.signature))

    def describe(self) -> ModelFacts:
        format, path = registry.load("formats", self.format), Path(self.path)
        beside = [path.with_suffix(suffix) for suffix in self.beside]
        return ModelFacts.from_json(self.read(lambda: format.describe(path).to_json(), beside))

    def read(self, work: Callable[[], Any], beside: Sequence[Path] = ()) -> Any:
        """What `work` reads from the file, as JSON values; in a child (see `core/sandbox.py`)."""
        with os_errors("read", self.path):
            size = sandbox.size_of([Path(self.path), *beside])
        limits = sandbox.Limits.reading(size)
        return sandbox.call(lambda progress: work(), self.path, limits, warm=self.tools)

    def adapted(self, place: Path, facts: ModelFacts) -> ModelFacts:
        """The facts of the copied file, after it was changed where the signature says so. By default, it stays."""
        return facts

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        format = registry.load("formats", self.format)
        source, place = Path(self.path), out / format.file
        facts = self.describe()
        shutil.copyfile(source, place)
        for suffix in self.beside:
            shutil.copyfile(source.with_suffix(suffix), place.with_suffix(suffix))
        facts = self.adapted(place, facts)
        carried = format.signature(source, facts.inputs, facts.outputs)
        signature, details = known(self.signature, ctx.task, carried, facts.inputs, facts.outputs)
        return StepResult("as imported", details={"source": source.name, **details}, signature=signature)
