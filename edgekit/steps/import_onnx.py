"""nothing → onnx: a model from elsewhere, copied into the run as it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgekit.formats.onnx import Onnx
from edgekit.types import Artifact, ArtifactRef, Context, Kind, Notes, Step, Task


@dataclass(frozen=True)
class ImportOnnx(Step):
    """`path`: a .onnx file that holds all its weights."""

    gives: ClassVar[Kind] = Kind("onnx")
    needs: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx",)

    path: ArtifactRef = ""

    def check(self, task: Task | None) -> Iterator[str]:
        if not self.path:
            yield "path is missing"

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Notes:
        facts = Onnx.describe(Path(self.path))
        shutil.copyfile(self.path, out / "model.onnx")
        return Notes(scheme="as imported", details={"source": self.path, "traits": sorted(facts.traits)})
