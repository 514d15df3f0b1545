"""torch → openvino, through torch.export, dynamic axes stay dynamic; onnx → openvino, which OpenVINO reads itself."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgekit.core.artifact import Artifact, Kind, TensorSpec, kinds
from edgekit.core.errors import CannotConvert, InputError
from edgekit.core.mute import muted
from edgekit.core.step import Context, StepResult
from edgekit.networks.tracing import Example, converting, trace
from edgekit.runtimes.openvino import no_telemetry
from edgekit.steps.shared.traced import TracedStep

if TYPE_CHECKING:
    from openvino import Model, Output
    from torch import nn
    from torch.export import ExportedProgram

HALF_NOTE = (
    "part of it computes in float16, which OpenVINO computes in float32 on CPUs: "
    "values beyond 65,504 become infinite in the source, and not here"
)


@dataclass(frozen=True)
class ToOpenvino(TracedStep):
    """OpenVINO's own converter. Weights stay float32: it would store them as float16 by default."""

    accepts: ClassVar = kinds("torch", "onnx", "onnx[fp16]")
    produces: ClassVar[Kind] = Kind("openvino")
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "outputs"
    extra: ClassVar[str] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("torch", "openvino")

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises CannotConvert if OpenVINO cannot convert it."""
        no_telemetry()
        import openvino

        parent = inputs["parent"]
        with muted(ctx.log):
            if parent.kind.format == "torch":
                model = _from_torch(parent, *self.traced(parent), ctx.log)
            else:
                self._refuse_options(parent)
                model = _from_onnx(parent)
            openvino.save_model(model, out / "model.xml", compress_to_fp16=False)
            details = {"notes": [HALF_NOTE]} if _computes_in_half(model) else {}
        return StepResult("float32", parent.identity_map(), details, self.edge_signature(parent))

    def _refuse_options(self, parent: Artifact) -> None:
        if self.changes_edges or self.dynamic or self.batch:
            why = "axes, layout and preprocessing are set where torch is exported, and OpenVINO reads ONNX as it is"
            raise InputError(f"the options do not apply to {parent.name}", why, "export the torch artifact with them")


def _from_torch(parent: Artifact, network: nn.Module, tracing_example: Example, log: logging.Logger) -> Model:
    import openvino

    with converting(parent.name, "openvino", network, tracing_example.inputs):
        program = trace(network, tracing_example, log)
        outputs = list(program.graph_signature.user_outputs)
        if len(set(outputs)) < len(outputs):
            why = "two of its outputs are the same tensor, which OpenVINO's converter does not support"
            raise CannotConvert(f"cannot convert {parent.name} to openvino", why, "return each tensor once")
        model = openvino.convert_model(program, input=_open(program))
        rename(model, parent.file_inputs, parent.file_outputs)
    return model


def _from_onnx(parent: Artifact) -> Model:

    try:
        model = _read(parent.path / "model.onnx")
        rename(model, parent.file_inputs, parent.file_outputs)
    except (RuntimeError, ValueError) as error:
        why = _complaint(str(error)) or "it cannot read this file"
        raise CannotConvert(f"cannot convert {parent.name} to openvino", why, "use onnx, or another format") from error
    return model


def _read(path: Path) -> Model:
    """The model, with slopes of PRelu along the last axis: OpenVINO takes a flat list for slopes per channel."""
    import onnx
    import openvino

    model = onnx.load(str(path), load_external_data=False)
    slopes = {node.input[1] for node in model.graph.node if node.op_type == "PRelu"}
    flat = [t.name for t in model.graph.initializer if t.name in slopes and len(t.dims) == 1 and t.dims[0] > 1]
    if not flat:
        return openvino.Core().read_model(path)
    model = onnx.load(str(path))
    for tensor in (tensor for tensor in model.graph.initializer if tensor.name in flat):
        tensor.dims.insert(0, 1)
    return openvino.Core().read_model(model.SerializeToString())


def _computes_in_half(model: Model) -> bool:
    """Whether an operator, a cast included, has a float16 result."""
    ends = {"Constant", "Parameter", "Result"}
    return any(
        output.get_element_type().get_type_name() == "f16"
        for node in model.get_ordered_ops()
        if node.get_type_name() not in ends
        for output in node.outputs()
    )


def _complaint(text: str) -> str:
    """The line of OpenVINO's message that names the unsupported feature, without the location in its source."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.search(r"(?i)not (?:yet )?(?:support|implement)|unsupported|ai\.onnx", line)]
    return " ".join((named or [line for line in lines if "src/" not in line])[:2])[:300]


def _open(program: ExportedProgram) -> list[Any]:
    """The inputs' shapes in the converter's form: -1 for a dynamic axis."""
    import openvino

    nodes = {node.name: node for node in program.graph.nodes}
    shapes = [nodes[name].meta["val"].shape for name in program.graph_signature.user_inputs]
    return [openvino.PartialShape([size if isinstance(size, int) else -1 for size in shape]) for shape in shapes]


def rename(model: Model, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Give the ports, which the converter leaves in order, the names they had in torch."""

    def name(port: Output, spec: TensorSpec) -> None:
        port.get_tensor().set_names({spec.name})
        port.get_node().set_friendly_name(spec.name)

    for ports, specs in ((model.inputs, inputs), (model.outputs, outputs)):
        for port, spec in zip(ports, specs, strict=True):
            name(port, spec)
