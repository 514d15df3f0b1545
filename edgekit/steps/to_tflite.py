"""torch → tflite, through torch.export and litert-torch."""

from __future__ import annotations

import re
import resource
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import TOO_LARGE, CannotConvert, InputError, no_space
from edgekit.core.mute import muted
from edgekit.core.step import Context, StepResult
from edgekit.formats.tflite import packed, read, unpack
from edgekit.networks.tracing import Example, converting
from edgekit.steps.shared.tflite_slim import slim
from edgekit.steps.shared.traced import TracedStep


@dataclass(frozen=True)
class ToTflite(TracedStep):
    """The file has the source's input and output names and order, and its NCHW layout at the edges.

    The batch is fixed at one: litert-torch 0.10 lowers neither a product with a scalar nor a flatten where the batch is
    dynamic. Other dynamic axes are fixed at the example's lengths, as listed in the details. int64 inputs become int32.
    The converter uses NHWC inside; the TRANSPOSE operators that remain of that are counted in the details.
    `fold_padding`: no padded tensors before depthwise convolutions, for microcontrollers (see `tflite_slim`).
    """

    accepts: ClassVar = kinds("torch")
    produces: ClassVar[Kind] = Kind("tflite")
    preserves: ClassVar[Literal["outputs", "accuracy", "nothing"]] = "outputs"
    extra: ClassVar[str] = "tflite"
    tools: ClassVar[tuple[str, ...]] = ("torch", "litert-torch", "litert-converter", "ai-edge-litert")

    opens_axes: ClassVar[bool] = False

    fold_padding: bool = False

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises CannotConvert if litert-torch cannot convert it."""
        parent = inputs["parent"]
        if parent.states:
            why = "its cache grows with the text, and the sizes in a .tflite file are fixed"
            raise CannotConvert(f"cannot convert {parent.name} to tflite", why, "export it --to onnx,openvino")
        network, tracing_example = self.traced(parent)
        path = out / "model.tflite"
        with muted(ctx.log, native=True):
            fixed = convert(network, tracing_example, path, parent.name)
        sources = [spec.name for spec in parent.inputs], [spec.name for spec in parent.outputs]
        model = unpack(path.read_bytes(), str(path))
        rename(model, *sources)
        slim(model, fold_padding=self.fold_padding)
        path.write_bytes(packed(model))
        with muted(ctx.log, native=True):
            _check_loads(path, parent.name)
        written = read(path).subgraphs[0]
        pairs = zip([*sources[0], *sources[1]], [*written.inputs, *written.outputs], strict=True)
        transposes = sum(node.type == "TRANSPOSE" for node in written.nodes)
        details = {"transposes": transposes, **({"fixed": fixed} if fixed else {})}
        return StepResult(
            "float32", {source: tensor.name for source, tensor in pairs}, details, self.edge_signature(parent)
        )


def convert(network: Any, tracing_example: Example, path: Path, name: str) -> dict[str, dict[str, int]]:
    """Convert `network` with litert-torch, and return the fixed axes other than the batch, with their sizes.

    Raises CannotConvert if that fails, NoSpace.
    """
    import litert_torch

    inputs, fixed = tracing_example.single_sample()
    _check_room(network, path)
    with converting(name, "tflite", network, inputs):
        litert_torch.convert(network, inputs).export(str(path))
    return fixed


def _check_room(network: Any, path: Path) -> None:
    """Raises NoSpace if the weights do not fit: LLVM, which writes the file, ends the process then."""
    needed = sum(tensor.nbytes for tensor in network.state_dict().values())
    if shutil.disk_usage(path.parent).free < needed:
        raise no_space(f"cannot write {path}: {needed / 1e6:,.1f} MB are needed")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise no_space(f"cannot write {path}: {needed / 1e6:,.1f} MB are needed", TOO_LARGE)


def _check_loads(path: Path, name: str) -> None:
    """Raises CannotConvert for operators that LiteRT does not have, such as STABLEHLO_SORT."""
    from ai_edge_litert.interpreter import Interpreter

    try:
        Interpreter(str(path)).allocate_tensors()
    except (ValueError, RuntimeError) as error:
        operator = re.search(r"builtin opcode '(\w+)'", str(error))
        why = (
            f"LiteRT does not have the operator {operator.group(1)}" if operator else " ".join(str(error).split())[:200]
        )
        next = "replace that operator in the network, or use another format"
        raise CannotConvert(f"cannot convert {name} to tflite", why, next) from error


def rename(model: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Give a ModelT's inputs and outputs the source's names, and the tensors between them short names.

    The converter names a tensor after every module it was fused from, hundreds of letters each: in a small int8 model
    as many bytes as a tenth of the weights.
    """
    graph = model.subgraphs[0]
    if len(graph.inputs) != len(inputs) or len(graph.outputs) != len(outputs):
        what = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        raise InputError(f"litert-torch left {what}", f"the network has {len(inputs)} and {len(outputs)}")
    # An input that is passed through is an output as well: it keeps the name under which it is fed.
    ends = dict(zip(map(int, graph.outputs), outputs, strict=True))
    ends |= dict(zip(map(int, graph.inputs), inputs, strict=True))
    taken = set(ends.values())
    for index, tensor in enumerate(graph.tensors):
        tensor.name = (ends.get(index) or _unique(_short(tensor.name.decode()), taken)).encode()
    for signature in model.signatureDefs or []:
        for entry in [*signature.inputs, *signature.outputs]:
            entry.name = ends[entry.tensorIndex].encode()


def _short(name: str) -> str:
    """ "a.b.Net/torch.nn.Sequential_head/torch.nn.Linear_0;;a.b.Net/…" → "Sequential_head/Linear_0"."""
    modules = next((part for part in name.split(";") if part), "tensor").split("/")
    return "/".join(module.rpartition(".")[2] for module in (modules[1:] or modules))


def _unique(name: str, taken: set[str]) -> str:
    count, unique = 0, name
    while unique in taken:
        count += 1
        unique = f"{name}.{count}"
    taken.add(unique)
    return unique
