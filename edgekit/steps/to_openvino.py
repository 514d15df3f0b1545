"""torch → openvino, through torch.export, with a dynamic batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from edgekit import networks
from edgekit.runtimes.openvino import no_telemetry
from edgekit.steps._export import converting, example, quiet
from edgekit.types import Artifact, Context, Kind, Notes, Step, TensorSpec, kinds

if TYPE_CHECKING:
    from openvino import Model, Output


@dataclass(frozen=True)
class ToOpenvino(Step):
    """OpenVINO's own converter. Weights stay float32: it would store them as float16 if it were not told otherwise."""

    takes: ClassVar = kinds("torch")
    gives: ClassVar[Kind] = Kind("openvino")
    keeps: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "outputs"
    needs: ClassVar[str] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("torch", "openvino")

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Notes:
        no_telemetry()
        import openvino
        import torch

        parent = inputs["parent"]
        network = networks.load(parent.path)
        tensors, dynamic = example(parent)
        with quiet(ctx.log), converting(parent.name, "openvino", network, tensors):
            program = torch.export.export(network, tensors, dynamic_shapes=dynamic)
            shapes = [openvino.PartialShape([-1, *list(tensor.shape)[1:]]) for tensor in tensors]
            model = openvino.convert_model(program, input=shapes)
            rename(model, parent.inputs, parent.outputs)
            openvino.save_model(model, out / "model.xml", compress_to_fp16=False)
        return Notes(scheme="float32", tensors={spec.name: spec.name for spec in (*parent.inputs, *parent.outputs)})


def rename(model: Model, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    """Give the ports, which the converter leaves in order, the names they had in torch."""

    def name(port: Output, spec: TensorSpec) -> None:
        port.get_tensor().set_names({spec.name})
        port.get_node().set_friendly_name(spec.name)

    for ports, specs in ((model.inputs, inputs), (model.outputs, outputs)):
        for port, spec in zip(ports, specs, strict=True):
            name(port, spec)
