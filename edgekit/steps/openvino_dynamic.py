"""openvino → openvino[dynamic]: int8 weights per channel, activations quantized at run time: no samples are needed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert
from edgekit.core.mute import muted
from edgekit.core.step import Context, Step, StepResult
from edgekit.core.task import Task
from edgekit.runtimes.openvino import no_telemetry
from edgekit.steps.shared.openvino_tables import halve_tables

if TYPE_CHECKING:
    from openvino import Model, Node

#: weights of fewer values stay float: the graph's XML would grow by more than the weights shrink
SMALL = 1024


@dataclass(frozen=True)
class OpenvinoDynamic(Step):
    """Weights stored as int8: symmetric, a scale per output channel, per row of embeddings, per gate and unit of LSTMs.

    On x86 CPUs with VNNI, matrix products are computed on integers: each `group_size` activations in a row share a
    scale that is computed at run time. Elsewhere, in convolutions and in recurrent layers, weights are dequantized to
    float, which is no faster than float. `group_size` = 0 does so everywhere: more accurate, and the same on every CPU.
    """

    accepts: ClassVar = kinds("openvino")
    produces: ClassVar[Kind] = Kind("openvino", frozenset({"dynamic"}))
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "accuracy"
    extra: ClassVar[str] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("openvino",)

    group_size: int = 32

    def check(self, task: Task | None) -> Iterator[str]:
        if self.group_size < 0 or self.group_size % 16:
            yield "group_size must be 0 or a multiple of 16"

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises CannotConvert where there is nothing to store as int8."""
        no_telemetry()
        import openvino

        parent = inputs["parent"]
        with muted(ctx.log):
            model = openvino.Core().read_model(parent.path / "model.xml")
            if not compress(model):
                why = f"it has no weights of {SMALL:,} values or more"
                raise CannotConvert(f"nothing of {parent.name} was quantized", why, "use it as it is")
            halve_tables(model)
            if self.group_size:
                model.set_rt_info(str(self.group_size), ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"])
            openvino.save_model(model, out / "model.xml", compress_to_fp16=False)
        how = f"quantized as they come, in groups of {self.group_size}" if self.group_size else "in float32"
        return StepResult(scheme=f"int8 weights per channel, activations {how}", tensors=parent.identity_map())


def compress(model: Model, names: Collection[str] | None = None) -> int:
    """Store the weights as int8, in place, of the operators of those `names`; returns how many tensors that were.

    A weight becomes Multiply(Convert(int8), scale), which OpenVINO computes with as it is where it has kernels for
    that, else folds into float32 when it loads the model.
    """
    from openvino import opset13 as ops

    count = 0
    for node in model.get_ordered_ops():
        if names is not None and node.get_friendly_name() not in names:
            continue
        for index, axes in channels(node).items():
            source = node.input_value(index).get_node()
            if source.get_type_name() != "Constant" or source.get_element_type().get_type_name() != "f32":
                continue
            values = source.data
            if values.ndim < 2 or values.size < SMALL:
                continue
            others = tuple(axis for axis in range(values.ndim) if axis not in axes)
            largest = np.abs(values).max(axis=others, keepdims=True)
            scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
            integers = np.clip(np.rint(values / scale), -127, 127).astype(np.int8)
            name = source.get_friendly_name()
            stored = ops.convert(ops.constant(integers, name=f"{name}/int8"), "f32")
            weight = ops.multiply(stored, ops.constant(scale, name=f"{name}/scale"), name=f"{name}/weight")
            for reader in source.output(0).get_target_inputs():
                reader.replace_source_output(weight.output(0))
            count += 1
    return count


def channels(node: Node) -> Mapping[int, tuple[int, ...]]:
    """The inputs of an operator that are weights, and the axes of their output channels."""
    kind = node.get_type_name()
    if kind == "MatMul":
        attributes = node.get_attributes()
        rank = len(node.input_value(1).get_partial_shape())
        batch = tuple(range(rank - 2))
        return {1: (*batch, rank - 2 if attributes["transpose_b"] else rank - 1)} if rank >= 2 else {}
    return _CHANNELS.get(kind, {})


#: operator → input that holds weights → axes of its output channels
_CHANNELS: Mapping[str, Mapping[int, tuple[int, ...]]] = {
    "Convolution": {1: (0,)},
    "GroupConvolution": {1: (0, 1)},
    "ConvolutionBackpropData": {1: (1,)},
    "GroupConvolutionBackpropData": {1: (0, 2)},
    "Gather": {0: (0,)},
    "LSTMSequence": {4: (0, 1), 5: (0, 1)},
    "GRUSequence": {3: (0, 1), 4: (0, 1)},
    "RNNSequence": {3: (0, 1), 4: (0, 1)},
    "LSTMCell": {3: (0,), 4: (0,)},
    "GRUCell": {2: (0,), 3: (0,)},
    "RNNCell": {2: (0,), 3: (0,)},
}
