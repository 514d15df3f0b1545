"""nothing → onnx: import a .onnx file, with its external data files."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from edgekit.core.artifact import Artifact
from edgekit.core.errors import os_errors
from edgekit.core.step import Context, StepResult
from edgekit.formats.onnx import external_files, read
from edgekit.formats.shared.onnx_wire import external_data, tensors
from edgekit.steps.shared.imported import ImportStep

if TYPE_CHECKING:
    from onnx import GraphProto


@dataclass(frozen=True)
class ImportOnnx(ImportStep):
    """`path`: a .onnx file; `precision`: what it is quantized to already, "" for float.

    External data files are copied too, renamed to `model.data0` and so on. The model's own functions are inlined:
    OpenVINO and the quantizers do not read them.
    """

    format: ClassVar[str] = "onnx"
    suffixes: ClassVar[tuple[str, ...]] = (".onnx",)
    extra: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("onnx",)

    def files(self) -> tuple[Path, ...]:
        path = Path(self.path)
        with os_errors("read", path):
            status = path.stat()
        names = _locations(self, (status.st_mtime_ns, status.st_size, status.st_ino))
        return (*(path.parent / name for name in names), *super().files())

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        notes = super().apply(inputs, out, ctx)
        path = Path(self.path)
        _inline(out / "model.onnx", ctx)
        if files := external_files(path, read(path)):
            _rewrite(out / "model.onnx", {name: f"model.data{index}" for index, name in enumerate(files)})
            for index, file in enumerate(files.values()):
                shutil.copyfile(file, out / f"model.data{index}")
        ranges = {name: [0, rows - 1] for name, rows in table_rows(read(path).graph).items()}
        return dataclasses.replace(notes, details={**notes.details, "ranges": ranges})


@lru_cache(maxsize=64)
def _locations(step: ImportOnnx, state: tuple[int, ...]) -> tuple[str, ...]:
    """The names of the external data files of a model file in this state."""
    path = Path(step.path)
    return tuple(map(str, step.read(lambda: list(external_files(path, read(path))))))


def table_rows(graph: GraphProto) -> dict[str, int]:
    """Input name → the number of rows of the smallest table that its values are looked up in (token ids)."""
    tables = {tensor.name: tensor.dims[0] for tensor in graph.initializer if len(tensor.dims) == 2}
    origin = {value.name: value.name for value in graph.input if value.name not in tables}
    rows: dict[str, int] = {}
    for node in graph.node:
        if node.op_type == "Cast" and node.input[0] in origin:
            origin[node.output[0]] = origin[node.input[0]]
        on_rows = not any(attribute.name == "axis" and attribute.i for attribute in node.attribute)
        if node.op_type == "Gather" and on_rows and node.input[0] in tables and node.input[1] in origin:
            name, count = origin[node.input[1]], tables[node.input[0]]
            rows[name] = min(rows.get(name, count), count)
    return rows


def _inline(path: Path, ctx: Context) -> None:
    import onnx
    from onnx import inliner

    model = onnx.load(str(path), load_external_data=False)
    if not model.functions:
        return
    names = ", ".join(sorted({function.name for function in model.functions})[:5])
    path.write_bytes(inliner.inline_local_functions(model).SerializeToString())
    ctx.log.info("the functions of %s are inlined: %s", path.name, names)


def _rewrite(path: Path, names: Mapping[str, str]) -> None:
    """Rename the external data files that the model refers to."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    for tensor in tensors(model):
        if external_data(tensor):
            for entry in tensor.external_data:
                entry.value = names[entry.value] if entry.key == "location" else entry.value
    path.write_bytes(model.SerializeToString())
