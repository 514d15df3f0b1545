"""The base class of the import steps: a model file is read, checked, and copied into the run unchanged."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal, Self

from edgekit.core import registry
from edgekit.core.artifact import Artifact, Kind, ModelFacts
from edgekit.core.step import ArtifactRef, Context, Step, StepResult
from edgekit.core.task import Task


@dataclass(frozen=True)
class ImportStep(Step):
    """`path`: the model's file; `precision`: what it is quantized to already, "" for float."""

    format: ClassVar[str]
    #: endings of further files of the model, in the same folder
    beside: ClassVar[tuple[str, ...]] = ()

    path: ArtifactRef = ""
    precision: Literal["", "int8", "fp16", "dynamic"] = ""

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
        elif Path(self.path).is_file() and self.describe().traits != self.produces.traits:
            precision = ", ".join(sorted(self.describe().traits)) or "float"
            yield f"{self.path} is {precision}, not {self.precision or 'float'}: set precision"

    def files(self) -> tuple[Path, ...]:
        return tuple(Path(self.path).with_suffix(suffix) for suffix in self.beside)

    def describe(self) -> ModelFacts:
        facts: ModelFacts = registry.load("formats", self.format).describe(Path(self.path))
        return facts

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        source, place = Path(self.path), out / registry.load("formats", self.format).file
        self.describe()
        shutil.copyfile(source, place)
        for suffix in self.beside:
            shutil.copyfile(source.with_suffix(suffix), place.with_suffix(suffix))
        return StepResult(scheme="as imported", details={"source": source.name})
