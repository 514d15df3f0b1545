"""nothing → onnx: import a .onnx file, with its external data files."""

from __future__ import annotations

import copy
import dataclasses
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from edgekit.core.artifact import Artifact, ModelFacts
from edgekit.core.errors import os_errors
from edgekit.core.step import Context, StepResult
from edgekit.formats.onnx import Onnx, external_files, read
from edgekit.formats.shared.onnx_wire import external_data, tensors
from edgekit.steps.shared.imported import ImportStep
from edgekit.steps.shared.signed import given

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto


@dataclass(frozen=True)
class ImportOnnx(ImportStep):
    """`path`: a .onnx file; `precision`: what it is quantized to already, "" for float.

    External data files are copied too, renamed to `model.data0` and so on. The model's own functions are inlined:
    OpenVINO and the quantizers do not read them. torchvision's detectors (`--signature torchvision`), whose files take
    one image (3, H, W) and return lists, get a batch axis of one.
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

    def adapted(self, place: Path, facts: ModelFacts) -> ModelFacts:
        torchvision = any(record.family == "torchvision" for record in given(self.signature).outputs)
        shapes = [spec.shape for spec in facts.inputs]
        lists = [spec.name for spec in facts.outputs if len(spec.shape) == 1 or spec.shape[1:] == (4,)]
        one_image = len(shapes) == 1 and (len(shapes[0]) == 3 or shapes[0][:1] in ((1,), (None,)))
        if not torchvision or not one_image or len(lists) < 3:
            return facts
        _add_batch_axis(place, len(shapes[0]) == 3, lists)
        return Onnx.describe(place)


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


def _add_batch_axis(path: Path, to_input: bool, lists: Collection[str]) -> None:
    """Give the outputs `lists` of the file, and its input, a first axis of one; it is part of their new names. Other
    outputs, masks and keypoints, are left out."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(str(path), load_external_data=False)
    graph = model.graph
    stored = {tensor.name for tensor in graph.initializer}  # an old file names them among its inputs
    used = stored | {name for node in graph.node for name in (*node.input, *node.output)}
    used |= {value.name for value in (*graph.input, *graph.output)}

    def free(name: str) -> str:
        while name in used:
            name += "_"
        used.add(name)
        return name

    version = max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    first: list[NodeProto] = []
    last: list[NodeProto] = []
    by_input = version >= 13  # since then, the axes are an input
    axis = free("batch_axis")
    graph.initializer.append(numpy_helper.from_array(np.array([0]), axis))
    inputs = [value for value in graph.input if value.name not in stored] if to_input else []
    outputs = [value for value in graph.output if value.name in lists]
    for values, nodes in ((inputs, first), (outputs, last)):
        for value in values:
            whole, value.name = value.name, free(f"{value.name}_batch")
            operator, ends = ("Squeeze", (value.name, whole)) if nodes is first else ("Unsqueeze", (whole, value.name))
            node = helper.make_node(operator, [ends[0], *[axis] * by_input], [ends[1]])
            if not by_input:
                node.attribute.append(helper.make_attribute("axes", [0]))
            nodes.append(node)
            shape = value.type.tensor_type.shape
            dims = [onnx.TensorShapeProto.Dimension(dim_value=1), *shape.dim]
            shape.ClearField("dim")
            shape.dim.extend(dims)
    kept, nodes = copy.deepcopy(outputs), [*first, *graph.node, *last]
    for name in ("node", "output"):
        graph.ClearField(name)
    graph.node.extend(nodes)
    graph.output.extend(kept)
    path.write_bytes(model.SerializeToString())


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
