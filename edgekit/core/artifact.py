"""Artifacts, their kinds and tensors as frozen records.

Nothing here imports numpy or a runtime, so the command line can use it at startup.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.core.config import Misfit, convert, known_items
from edgekit.core.errors import InputError
from edgekit.core.json import AGAIN
from edgekit.core.signature import InputSignature, OutputSignature, Signature, plain

#: of a detector that suppresses boxes itself, the most of one sample that are read
MOST_BOXES = 1000

SCHEMA = "edgekit/1"

#: Traits that name a numeric precision; the artifact's name includes them.
PRECISIONS = ("int8", "fp16", "dynamic", "w8", "w4")


@dataclass(frozen=True)
class Kind:
    """A format plus traits: `onnx`, `onnx[int8]`, `torch[ranges]`."""

    format: str
    traits: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str) -> Kind:
        format, _, traits = text.partition("[")
        return cls(format, frozenset(t for t in traits.removesuffix("]").split(",") if t))

    @property
    def precision(self) -> str:
        """The trait that names a precision, or "" for plain float."""
        return next((p for p in PRECISIONS if p in self.traits), "")

    @property
    def stem(self) -> str:
        """FORMAT[-PRECISION], the second half of an artifact's name."""
        return f"{self.format}-{self.precision}" if self.precision else self.format

    @property
    def is_model(self) -> bool:
        """Can it be run? Activation ranges are an artifact but not a model."""
        return self.format != "ranges"

    def __str__(self) -> str:
        return self.format + (f"[{','.join(sorted(self.traits))}]" if self.traits else "")


def kinds(*texts: str) -> frozenset[Kind]:
    """The kinds that a step accepts, as a set."""
    return frozenset(Kind.parse(text) for text in texts)


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. `shape` holds None where the size is dynamic.

    `batch_axis` of an input: the axis that runs over samples; None if it has none (`core.batch_axis`).
    `quantization` is (scale, zero_point) where the tensor is stored as integers: real = scale * (stored - zero_point).
    `signature`: what an input is made from, or what an output means, if known.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    quantization: tuple[float, int] | None = None
    signature: InputSignature | OutputSignature | None = None
    batch_axis: int | None = 0

    @property
    def sample_shape(self) -> tuple[int | None, ...]:
        """The shape of one sample: without the batch if that is the first axis, else whole, with a batch of one."""
        if self.batch_axis == 0:
            return self.shape[1:]
        return tuple(1 if axis == self.batch_axis else size for axis, size in enumerate(self.shape))

    @property
    def open_axes(self) -> list[int]:
        """The axes of dynamic size, apart from the batch."""
        return [axis for axis, size in enumerate(self.shape) if size is None and axis != self.batch_axis]

    @classmethod
    def from_json(cls, data: Mapping[str, Any], output: bool = False) -> TensorSpec:
        """Raises Misfit for what `to_json` did not write."""
        values = dict(data) if isinstance(data, Mapping) else data
        if isinstance(values, dict) and values.get("signature") is not None:
            try:
                values["signature"] = convert(values["signature"], OutputSignature if output else InputSignature)
            except Misfit as error:
                raise error.within(".signature") from error
        spec: TensorSpec = convert(values, cls, newer=True)
        return spec

    def problems(self) -> Iterator[str]:
        """What no tensor has; a model's file is the authority on the rest."""
        if any(size is not None and size < 0 for size in self.shape):
            yield "shape must not hold negative sizes"

    def to_json(self, signed: bool = False) -> dict[str, Any]:
        """As JSON values; the signature, if it is known, only with `signed`."""
        data: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": self.shape}
        data["quantization"] = self.quantization
        if self.batch_axis != 0:
            data["batch_axis"] = self.batch_axis
        return {**data, "signature": plain(self.signature)} if signed and self.signature else data

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join('?' if d is None else str(d) for d in self.shape)}]"


def tensor_specs(data: Mapping[str, Any], side: str, where: Path, next: str = AGAIN) -> tuple[TensorSpec, ...]:
    """The tensors in the list data["inputs"] or data["outputs"] (`side`) of the file `where`. Raises InputError."""
    entries = data.get(side)
    if not isinstance(entries, list):
        raise InputError(f"{where} is damaged", f"it has no list of {side}", next)
    specs = []
    for index, entry in enumerate(entries):
        try:
            specs.append(TensorSpec.from_json(entry, output=side == "outputs"))
        except Misfit as error:
            raise InputError(f"{where} is damaged", f"{side}[{index}]{error.path}: {error.what}", next) from error
    return tuple(specs)


@dataclass(frozen=True)
class Sizes:
    """Bytes on disk by part. `weights`: constant tensors of rank 2 or more, without biases, scales, zero points."""

    total: int
    weights: int
    graph: int
    metadata: int


@dataclass(frozen=True)
class Operator:
    """One node of a model's graph: its type, name, number of parameters, and MACs for one sample.

    `weight_bytes` is the size of its constants, `activation_bytes` the size of its outputs for one sample; dynamic
    axes count as 1. None: unknown.
    """

    type: str
    name: str
    parameters: int = 0
    macs: int | None = None
    weight_bytes: int = 0
    activation_bytes: int | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What a format's reader reads from a model file, without running it.

    `states`: of a model with states, by name the input and the output that is its next value.
    `axes`: tensor name → dynamic axis → its name in the file. `peak_bytes`: the peak activation memory of one sample.
    `quantized`: how it is quantized, in a few words, "" for plain float32. `slow`: what may make it slow.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sizes: Sizes
    traits: frozenset[str] = frozenset()
    parameters: int = 0
    operators: tuple[Operator, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    axes: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    peak_bytes: int | None = None
    quantized: str = ""
    slow: tuple[str, ...] = ()
    states: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ModelFacts:
        """Raises ValueError, LookupError or TypeError for what `to_json` did not write."""
        return cls(
            tuple(map(TensorSpec.from_json, data["inputs"])),
            tuple(TensorSpec.from_json(spec, output=True) for spec in data["outputs"]),
            Sizes(**{name: int(size) for name, size in data["sizes"].items()}),
            frozenset(map(str, data["traits"])),
            int(data["parameters"]),
            tuple(Operator(**operator) for operator in data["operators"]),
            dict(data["details"]),
            {name: {int(axis): str(text) for axis, text in axes.items()} for name, axes in data["axes"].items()},
            None if data["peak_bytes"] is None else int(data["peak_bytes"]),
            str(data["quantized"]),
            tuple(map(str, data["slow"])),
            {str(name): str(next) for name, next in data["states"].items()},
        )

    def without_states(self, states: Mapping[str, str]) -> ModelFacts:
        """The facts without the inputs and outputs that are states."""
        nexts = frozenset(states.values())
        inputs = tuple(spec for spec in self.inputs if spec.name not in states)
        return dataclasses.replace(
            self, inputs=inputs, outputs=tuple(spec for spec in self.outputs if spec.name not in nexts)
        )

    def to_json(self) -> dict[str, Any]:
        return {
            **dataclasses.asdict(self),
            "inputs": [spec.to_json(signed=True) for spec in self.inputs],
            "outputs": [spec.to_json(signed=True) for spec in self.outputs],
            "traits": sorted(self.traits),
        }


@dataclass(frozen=True)
class State:
    """An input whose next value is an output: a decoder's cache. It starts empty: with zeros, its open axes apart from
    the batch of length 0."""

    input: TensorSpec
    output: TensorSpec


@dataclass(frozen=True)
class Parent:
    role: str
    name: str
    id: str


@dataclass(frozen=True)
class Artifact:
    """One model in one kind, as recorded in its folder's `artifact.json`. Only the store creates artifacts.

    `states` come after the `inputs` and `outputs` in the model's file, and are no part of them: whatever runs the model
    keeps them from one call to the next.
    """

    name: str
    id: str
    kind: Kind
    step: str
    fields: Mapping[str, Any]
    parents: tuple[Parent, ...]
    task: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    sizes: Sizes
    files: Mapping[str, str]
    path: Path
    scheme: str = ""
    tools: Mapping[str, str] = field(default_factory=dict)
    sets: Mapping[str, str] = field(default_factory=dict)
    tensors: Mapping[str, str] = field(default_factory=dict)
    licences: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    states: tuple[State, ...] = ()

    def problems(self) -> Iterator[str]:
        """What is read of `details` has the types that it is used with."""
        tables = ("example", "ranges", "statistics", "equalized", "opset", "pruned")
        yield from known_items(self.details, dict.fromkeys(tables, Mapping[str, Any]))

    def parent(self, role: str = "parent") -> Parent | None:
        return next((p for p in self.parents if p.role == role), None)

    @property
    def file_inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs of the model's file: with its states."""
        return (*self.inputs, *(state.input for state in self.states))

    @property
    def file_outputs(self) -> tuple[TensorSpec, ...]:
        """The outputs of the model's file: with the next values of its states."""
        return (*self.outputs, *(state.output for state in self.states))

    def identity_map(self) -> dict[str, str]:
        """The tensor map of a child whose inputs and outputs keep their names."""
        return {spec.name: spec.name for spec in (*self.inputs, *self.outputs)}

    @property
    def signature(self) -> Signature:
        """Of its inputs and outputs, by their names; `Signature()` if nothing is known about any of them."""
        inputs = tuple(
            dataclasses.replace(s.signature, name=s.name)
            if isinstance(s.signature, InputSignature)
            else InputSignature(name=s.name)
            for s in self.inputs
        )
        outputs = tuple(
            dataclasses.replace(s.signature, name=s.name)
            if isinstance(s.signature, OutputSignature)
            else OutputSignature(name=s.name)
            for s in self.outputs
        )
        known = [any(spec.signature for spec in specs) for specs in (self.inputs, self.outputs)]
        return Signature(inputs if known[0] else (), outputs if known[1] else ())

    @property
    def embedding(self) -> str:
        """The output that is an embedding, one vector for each sample; "" if none is."""
        records = [(spec, spec.signature) for spec in self.outputs if isinstance(spec.signature, OutputSignature)]
        return next((s.name for s, record in records if record.kind == "embedding" and len(s.shape) == 2), "")

    @property
    def lists(self) -> dict[str, int]:
        """The outputs (batch, length, …) that are as long as the list of boxes found in a sample, and the most of them
        that are read: a detector with non-maximum suppression inside its graph, by its signature. What fills them up
        is 0, which must be no score of a box: scores that are logits are no such list."""
        records = [(spec, spec.signature) for spec in self.outputs if isinstance(spec.signature, OutputSignature)]
        logits = any(record.activation in ("sigmoid", "softmax") for _, record in records)
        if logits or not any(record.suppressed for _, record in records):
            return {}
        kinds = ("boxes", "scores", "class-ids")
        return {
            spec.name: MOST_BOXES for spec, record in records if record.kind in kinds and spec.shape[1:2] == (None,)
        }

    @property
    def chain(self) -> str:
        """The part of the name that names the chain: "prune50" for "prune50.onnx", "" for "onnx"."""
        return self.name.rpartition(".")[0]
