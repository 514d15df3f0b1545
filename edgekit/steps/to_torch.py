"""onnx → torch: a foreign model as a network, for the formats and methods that start from torch."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from edgekit import networks
from edgekit.compression.calibration.feeds import fitting, is_whole
from edgekit.core.artifact import Artifact, Kind, TensorSpec, kinds
from edgekit.core.errors import CannotConvert, EdgekitError
from edgekit.core.step import Context, Step, StepResult
from edgekit.core.task import Task
from edgekit.networks import weights, write
from edgekit.sets.random_inputs import SEQUENCE_LENGTH

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor, nn

#: lengths tried for dynamic axes without an example: of sequences, then of images
LENGTHS = (SEQUENCE_LENGTH, 1, 32, 64, 128, 224, 256)
#: the size limit of a protobuf file, in bytes
LIMIT = 2_000_000_000


@dataclass(frozen=True)
class ToTorch(Step):
    """The ONNX graph as a torch network, for the operators that `edgekit/networks/onnx` covers.

    Half precision is computed in float32. A batch that the file fixes stays fixed. For other dynamic axes, the
    exporters trace with the lengths of `calibration`'s samples, a SET; "" takes the task's training split, if any.
    Without one they trace with `sizes`: of each open input its shape, batch included, as in image=1x3x224x224.
    """

    accepts: ClassVar = kinds("onnx", "onnx[fp16]")
    produces: ClassVar[Kind] = Kind("torch")
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "outputs"
    extra: ClassVar[str] = "onnx"
    tools: ClassVar[tuple[str, ...]] = ("torch", "onnx")

    calibration: str = ""
    sizes: tuple[str, ...] = ()

    def sets(self, task: Task | None) -> Mapping[str, str]:
        text = self.calibration or (f"{task.name}:train" if task else "")
        return {"calibration": text} if text else {}

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises CannotConvert, naming every unsupported operator, before any work."""
        import onnx
        from safetensors.torch import save_file

        from edgekit.networks.onnx import MODEL
        from edgekit.networks.onnx.graph import read
        from edgekit.networks.onnx.network import OnnxNetwork

        parent = inputs["parent"]
        graph = read(parent.path / "model.onnx")
        network = OnnxNetwork(graph, [_dtype(spec) for spec in parent.outputs]).eval()
        example, outputs = _tried(network, parent, self._known(parent, ctx))
        _copy(parent, out / MODEL)
        header = onnx.load(str(parent.path / "model.onnx"), load_external_data=False)
        entries = {
            "inputs": [spec.to_json() for spec in parent.inputs],
            "outputs": [_seen(spec, value).to_json() for spec, value in zip(parent.outputs, outputs, strict=True)],
            "axes": _axes(header, parent.inputs),
            "example": {name: list(tensor.shape) for name, tensor in example.items()},
            "tensors": weights.tensors_of(network),
        }
        write(out, "onnx", entries)
        save_file(example, out / networks.EXAMPLE)
        return StepResult("float32", parent.identity_map(), {"example": entries["example"]})

    def _known(self, parent: Artifact, ctx: Context) -> Mapping[str, Sequence[int]]:
        """Input name → the shape of one sample, if known."""
        if "calibration" not in ctx.sets:
            known: Mapping[str, Sequence[int]] = parent.details.get("example", {})
            given = (text.rpartition("=") for text in self.sizes)
            return {**{name: [int(side) for side in sizes.split("x")] for name, _, sizes in given}, **known}
        arrays = fitting(ctx.sets["calibration"], parent)
        whole = {spec.name: is_whole(arrays[spec.name], spec) for spec in parent.inputs}
        return {name: [*([] if whole[name] else [1]), *array.shape[1:]] for name, array in arrays.items()}


def _dtype(spec: TensorSpec) -> Any:
    import torch

    if spec.dtype in ("string", "sequence"):
        raise CannotConvert("cannot convert this model to torch", f"{spec.name!r} is of type {spec.dtype}")
    return getattr(torch, spec.dtype)


def _tried(
    network: nn.Module, parent: Artifact, known: Mapping[str, Sequence[int]]
) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """Example inputs that the network runs on, and its outputs. Raises CannotConvert if it runs on none."""
    import torch

    first: Exception | None = None
    for length in LENGTHS:
        example = {}
        for spec in parent.inputs:
            lengths = [length if axis in spec.open_axes else 1 for axis in range(len(spec.shape))]
            open_axes = known.get(spec.name) or lengths
            shape = [size or n for size, n in zip(spec.shape, open_axes, strict=False)]
            example[spec.name] = torch.zeros(shape, dtype=_dtype(spec))
        try:
            with torch.inference_mode():
                outputs = network(*example.values())
            return example, outputs if isinstance(outputs, tuple) else (outputs,)
        except EdgekitError as error:
            first = first or error
        except RuntimeError as error:  # what torch raises for shapes that do not fit
            first = first or error
        if all(spec.name in known or not spec.open_axes for spec in parent.inputs):
            break
    if isinstance(first, EdgekitError):
        raise first
    why = " ".join(str(first).split())[:200]
    next = "check that the file itself runs, with edgekit bench"
    raise CannotConvert(f"cannot convert {parent.name} to torch", why, next) from first


def _copy(parent: Artifact, place: Path) -> None:
    """The file with all its weights in it."""
    import onnx

    if parent.sizes.total >= LIMIT:
        what = f"cannot convert {parent.name} to torch"
        raise CannotConvert(what, "a model of 2 GB or more does not fit one ONNX file", "use it as it is")
    if set(parent.files) == {place.name}:
        shutil.copyfile(parent.path / place.name, place)
    else:
        place.write_bytes(onnx.load(str(parent.path / place.name)).SerializeToString())


def _seen(spec: TensorSpec, value: Tensor) -> TensorSpec:
    """The file's description of an output, or one from its value if the file has no shape for it."""
    if len(spec.shape) == value.ndim:
        return spec
    return TensorSpec(spec.name, spec.dtype, (None, *value.shape[1:]) if value.ndim else ())


def _axes(model: ModelProto, inputs: tuple[TensorSpec, ...]) -> dict[str, dict[str, str]]:
    """Input name → dynamic axis → the name of its length: the batch, or the file's own name for it."""
    axes: dict[str, dict[str, str]] = {}
    values = {value.name: value for value in model.graph.input}
    for spec in inputs:
        dims = values[spec.name].type.tensor_type.shape.dim
        for axis, size in enumerate(spec.shape):
            if size is None:
                own = re.sub(r"\W|^(?=\d)", "_", dims[axis].dim_param or f"{spec.name}_{axis}")
                axes.setdefault(spec.name, {})[str(axis)] = "batch" if axis == spec.batch_axis else own
    return axes
