"""Base class of the exporters from torch: which axes stay open, and what the inputs are at the model's edge."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from edgekit import networks
from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature, Signature
from edgekit.core.step import Step
from edgekit.core.task import Task
from edgekit.networks.tracing import Example, example

if TYPE_CHECKING:
    from torch import nn

    from edgekit.networks.edges import Edge


@dataclass(frozen=True)
class TracedStep(Step):
    """`dynamic`: the axes that stay open: "" (all that are in the network), "batch", "none", or "x:2,3" for axes 2 and
    3 of the input x, several with ";". `batch`: a fixed number of samples. `layout`: nhwc, if images are to be fed so.
    `embed_preprocessing`: the input is the bytes of an image as NHWC; scale, mean and std are in the model.
    """

    dynamic: str = ""
    batch: int = 0
    layout: Literal["", "nhwc"] = ""
    embed_preprocessing: bool = False

    #: the format has axes of open length
    opens_axes: ClassVar[bool] = True

    def check(self, task: Task | None) -> Iterator[str]:
        if self.batch < 0:
            yield "batch must be 1 or more"
        if self.batch and self.dynamic == "batch":
            yield "batch is either fixed or dynamic: leave one of the two out"
        if self.dynamic not in ("", "none") and not self.opens_axes:
            yield f"{self.produces.format} files have no dynamic axes here: leave dynamic out, or export to onnx"
        if self.dynamic not in ("", "none", "batch"):
            wrong = [part for part in self.dynamic.split(";") if not re.fullmatch(r"[^:]+:\d+(,\d+)*", part)]
            if wrong:
                yield f"dynamic is batch, none or INPUT:AXIS,… and not {wrong[0]!r}"

    @property
    def changes_edges(self) -> bool:
        return bool(self.layout) or self.embed_preprocessing

    def traced(self, parent: Artifact) -> tuple[nn.Module, Example]:
        """The network and its example inputs as the options want them. Raises InputError where they do not fit."""
        network, inputs = networks.load(parent.path), self._with_axes(example(parent), parent)
        if not self.changes_edges:
            return network, inputs
        from edgekit.networks.edges import Edges

        edges = [self._edge(spec, parent) for spec in parent.inputs]
        if not any(edge.nhwc or edge.factor for edge in edges):
            what = f"{parent.name} has no image input in NCHW"
            raise InputError(what, "so its layout cannot become nhwc", "leave layout out")
        last = [edge.nhwc or _layout(spec) == "NHWC" for edge, spec in zip(edges, parent.inputs, strict=True)]
        return Edges(network, edges, last).eval(), _at_edges(inputs, edges)

    def edge_signature(self, parent: Artifact) -> Signature:
        """The signature at the new edges; empty if the parent's holds, or it has none."""
        if not self.changes_edges or not parent.signature:
            return Signature()
        inputs = [
            _at_edge(spec.signature, self._edge(spec, parent), spec.name)
            for spec in parent.inputs
            if isinstance(spec.signature, InputSignature)
        ]
        outputs = [
            dataclasses.replace(record, name=spec.name)
            for spec, record in zip(parent.outputs, parent.signature.outputs, strict=False)
        ]
        return Signature(tuple(inputs), tuple(outputs))

    def _edge(self, spec: TensorSpec, parent: Artifact) -> Edge:
        from edgekit.networks.edges import Edge

        nhwc = len(spec.shape) == 4 and _layout(spec) == "NCHW"
        if not self.embed_preprocessing:
            return Edge(nhwc=nhwc and spec.dtype == "float32")
        record = spec.signature
        if not isinstance(record, InputSignature) or record.kind != "image":
            what = f"the preprocessing of {spec.name!r} cannot be embedded"
            why = f"no signature of {parent.name} says that it is an image, and how it is normalized"
            raise InputError(what, why, "edgekit import MODEL --signature SIG.toml, then export that")
        if spec.dtype != "float32":
            what = f"the preprocessing of {spec.name!r} cannot be embedded"
            raise InputError(what, f"it takes {spec.dtype} already", "leave embed-preprocessing out")
        count = max(len(record.mean), len(record.std), 1)
        means, stds = ((record.mean or (0.0,)) * count)[:count], ((record.std or (1.0,)) * count)[:count]
        factor = tuple(record.scale / std for std in stds)
        return Edge(nhwc, factor, tuple(-mean / std for mean, std in zip(means, stds, strict=True)))

    def _with_axes(self, inputs: Example, parent: Artifact) -> Example:
        """The example with only those axes open that stay so."""
        if not self.dynamic and not self.batch:
            return inputs
        opened = self._opened(inputs, parent)
        axes = {
            name: {axis: length for axis, length in lengths.items() if axis in opened.get(name, ())}
            for name, lengths in inputs.axes.items()
        }
        tensors = dict(inputs.tensors)
        for name, lengths in inputs.axes.items():
            for axis in (axis for axis in _batch(lengths) if axis not in axes[name]):
                first = tensors[name].narrow(axis, 0, 1)
                tensors[name] = first.repeat(*((self.batch or 1) if i == axis else 1 for i in range(first.ndim)))
        return Example(tensors, axes)

    def _opened(self, inputs: Example, parent: Artifact) -> Mapping[str, set[int]]:
        if self.dynamic == "":
            return {name: set(lengths) - _batch(lengths) for name, lengths in inputs.axes.items()}
        if self.dynamic == "none":
            return {}
        if self.dynamic == "batch":
            return {name: _batch(lengths) for name, lengths in inputs.axes.items()}
        opened = {}
        for part in self.dynamic.split(";"):
            name, _, numbers = part.rpartition(":")
            opened[name] = {int(number) for number in numbers.split(",")}
            if absent := sorted(opened[name] - set(inputs.axes.get(name, {}))):
                open_axes = {each: sorted(lengths) for each, lengths in inputs.axes.items() if lengths}
                what = f"axis {absent[0]} of {name!r} cannot stay open"
                known = "; ".join(f"{each}:{','.join(map(str, numbers))}" for each, numbers in open_axes.items())
                raise InputError(
                    what, f"{parent.name} has it fixed, or has no such axis", f"open are {known or 'none'}"
                )
        return opened


def _batch(lengths: Mapping[int, str]) -> set[int]:
    """The batch among the open axes of an input."""
    return {axis for axis, length in lengths.items() if length == "batch"} or {0} & set(lengths)


def _layout(spec: TensorSpec) -> str:
    """The layout of an image; that of an input with four axes and no signature is torch's."""
    record = spec.signature
    if isinstance(record, InputSignature) and record.kind != "tensor":
        return record.layout
    return "NCHW" if len(spec.shape) == 4 else ""


def _at_edge(record: InputSignature, edge: Edge, name: str) -> InputSignature:
    layout: Literal["", "NCHW", "NHWC", "NHW"] = "NHWC" if edge.nhwc and record.kind == "image" else record.layout
    record = dataclasses.replace(record, name=name, layout=layout)
    return dataclasses.replace(record, scale=1.0, mean=(), std=(), range=None) if edge.factor else record


def _at_edges(inputs: Example, edges: list[Edge]) -> Example:
    import torch

    tensors, axes = {}, {}
    for (name, tensor), edge in zip(inputs.tensors.items(), edges, strict=True):
        if edge.nhwc:
            tensor = tensor.permute(0, 2, 3, 1).contiguous()
        tensors[name] = torch.zeros(tensor.shape, dtype=torch.uint8) if edge.factor else tensor
        moved = {0: 0, 1: 3, 2: 1, 3: 2}
        lengths = inputs.axes.get(name, {})
        axes[name] = {moved[axis] if edge.nhwc else axis: length for axis, length in lengths.items()}
    return Example(tensors, axes)
