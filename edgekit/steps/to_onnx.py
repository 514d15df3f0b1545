"""torch → onnx, through torch.export; dynamic axes stay dynamic."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert
from edgekit.core.mute import muted
from edgekit.core.step import Context, StepResult
from edgekit.core.task import Task
from edgekit.networks.tracing import Example, converting, trace
from edgekit.steps.shared import onnx_means
from edgekit.steps.shared.traced import TracedStep

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch.onnx import ONNXProgram

#: what torch.onnx and onnxscript write
MIN_OPSET, MAX_OPSET = 18, 23


@dataclass(frozen=True)
class ToOnnx(TracedStep):
    """`opset`: the ONNX operator set; 18 is the first that the exporter writes."""

    accepts: ClassVar = kinds("torch")
    produces: ClassVar[Kind] = Kind("onnx")
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "outputs"
    extra: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx", "onnxscript")

    opset: int = 20

    def check(self, task: Task | None) -> Iterator[str]:
        yield from super().check(task)
        if not MIN_OPSET <= self.opset <= MAX_OPSET:
            yield f"opset must be from {MIN_OPSET} to {MAX_OPSET}, which torch's exporter writes"

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        import torch

        parent = inputs["parent"]
        network, tracing_example = self.traced(parent)
        with muted(ctx.log), converting(parent.name, "onnx", network, tracing_example.inputs):
            program = torch.onnx.export(
                trace(network, tracing_example, ctx.log),
                dynamo=True,
                opset_version=self.opset,
                input_names=[spec.name for spec in parent.file_inputs],
                output_names=[spec.name for spec in parent.file_outputs],
                verbose=False,
            )
        assert program is not None
        _free_names(program)
        model = program.model_proto
        strip(model)
        onnx_means.pool(model)
        (out / "model.onnx").write_bytes(model.SerializeToString())
        check_runs(out / "model.onnx", parent, tracing_example)
        return StepResult("float32", parent.identity_map(), signature=self.edge_signature(parent))


def _free_names(program: ONNXProgram) -> None:
    """Give the exporter's inner values other names than the inputs and outputs have: it names them after operators."""
    graph = program.model.graph
    ends = {*graph.inputs, *graph.outputs}
    taken = {value.name for value in ends}
    inner = [value for node in program.model.graph.all_nodes() for value in node.outputs if value not in ends]
    used = taken | {value.name for value in inner}
    for value in inner:
        if value.name in taken:
            value.name = next(name for index in itertools.count() if (name := f"{value.name}_{index}") not in used)
            used.add(value.name)


def check_runs(path: Path, parent: Artifact, example: Example) -> None:
    """Raises CannotConvert where ONNX Runtime, if it is installed, refuses the model that the exporter wrote."""
    try:
        import onnxruntime
    except ImportError:
        return
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    feed = {name: tensor.numpy() for name, tensor in example.tensors.items()}
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        taken = {value.name for value in session.get_inputs()}
        session.run(None, {name: value for name, value in feed.items() if name in taken})
    except Exception as error:  # ONNX Runtime's types are not exported
        why = f"ONNX Runtime cannot run what torch.onnx wrote: {_complaint(str(error))}"
        next = "replace that operator in the network, or use another format"
        raise CannotConvert(f"cannot convert {parent.name} to onnx", why, next) from error


def _complaint(text: str) -> str:
    """ONNX Runtime's message without its own error codes and source places."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    message = " ".join(lines) or "it gives no reason"
    return re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : |/\S+\.(cc|h):\d+ \S+ ?", "", message)[:300]


def strip(model: ModelProto) -> None:
    """Drop the exporter's notes on the source: a deployed model has no use for file paths and stack traces."""
    for holder in _holders(model):
        del holder.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""


def _holders(model: ModelProto) -> Iterator[Any]:
    graph = model.graph
    yield from (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info)
