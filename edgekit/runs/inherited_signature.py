"""The signature of a new artifact: its step's, its parent's, its task's, or that of the sets it was made with.

A calibration set that was read from files says how they became inputs; the int8 model that is calibrated on it takes
its inputs in the same way. What a set says is kept in the details of ranges, which are no model, for the next step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from edgekit.core.artifact import Artifact, Kind, ModelFacts, State, TensorSpec
from edgekit.core.batch_axis import with_batch_axes
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature, OutputSignature, Signature, input_of, plain
from edgekit.core.signature_check import signed
from edgekit.core.step import Context, StepResult

#: in the details of an artifact that is no model: what its sets say of inputs and classes
DECODED = "decoded"


def specs(
    facts: ModelFacts, result: StepResult, inputs: Mapping[str, Artifact], context: Context
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The model's inputs and outputs with their signature; `inputs` are the artifacts it was made from, by role.

    Raises InputError if the signature does not fit the model.
    """
    parent = inputs.get("parent")
    if result.signature:
        signature = result.signature
    elif parent is not None and parent.signature:
        names = [[spec.name for spec in specs] for specs in (facts.inputs, facts.outputs)]
        signature = _renamed(parent, result.tensors, names)
    else:
        signature = context.task.signature(facts.inputs, facts.outputs) if context.task else Signature()
    decoded, classes = _said(inputs.values(), context.sets.values())
    if not signature.inputs:
        records = [replace(decoded[spec.name], name=spec.name) for spec in facts.inputs if spec.name in decoded]
        signature = replace(signature, inputs=tuple(records))
    if classes and not signature.classes and len(facts.outputs) == 1 and facts.outputs[0].shape[1:] == (len(classes),):
        known = signature.outputs[0] if signature.outputs else OutputSignature()
        signature = replace(signature, outputs=(replace(known, classes=classes),))
    model_inputs = with_batch_axes(facts.inputs, facts.outputs, facts.axes, _known_axes(parent, result.tensors, facts))
    return signed(model_inputs, facts.outputs, signature)


def states(facts: ModelFacts, result: StepResult, inputs: Mapping[str, Artifact]) -> tuple[State, ...]:
    """The states of a new model: those that its file names, else those of its parent by their names in the file."""
    parent = inputs.get("parent")
    names = dict(facts.states)
    if not names and parent is not None:
        pairs = [(state.input.name, state.output.name) for state in parent.states]
        names = {result.tensors.get(a, a): result.tensors.get(b, b) for a, b in pairs}
    specs, nexts = ({spec.name: spec for spec in side} for side in (facts.inputs, facts.outputs))
    return tuple(State(specs[name], nexts[next]) for name, next in names.items() if name in specs and next in nexts)


def _known_axes(parent: Artifact | None, tensors: Mapping[str, str], facts: ModelFacts) -> dict[str, int | None]:
    """The batch axes of the parent's inputs that are the model's, too, by their names here."""
    ranks = {spec.name: len(spec.shape) for spec in facts.inputs}
    names = {spec: tensors.get(spec.name, spec.name) for spec in (parent.inputs if parent else ())}
    return {name: spec.batch_axis for spec, name in names.items() if ranks.get(name) == len(spec.shape)}


def details(kind: Kind, sets: Mapping[str, SampleSet]) -> dict[str, Any]:
    """What the sets say, for the record of an artifact that is no model; nothing for a model, which has a signature."""
    decoded, classes = _said((), sets.values())
    if kind.is_model or not (decoded or classes):
        return {}
    return {DECODED: {"inputs": {name: plain(record) for name, record in decoded.items()}, "classes": list(classes)}}


def _said(
    artifacts: Iterable[Artifact], sets: Iterable[SampleSet]
) -> tuple[dict[str, InputSignature], tuple[str, ...]]:
    """How files became inputs, by name, and the names of the classes, of these sets and of the artifacts' sets."""
    decoded: dict[str, InputSignature] = {}
    classes: tuple[str, ...] = ()
    for artifact in artifacts:
        said = artifact.details.get(DECODED, {})
        decoded |= {name: input_of(record) for name, record in said.get("inputs", {}).items()}
        classes = classes or tuple(said.get("classes", ()))
    for data in sets:
        decoded |= data.decoded
        classes = classes or data.classes
    return decoded, classes


def _renamed(parent: Artifact, tensors: Mapping[str, str], names: Sequence[Sequence[str]]) -> Signature:
    """The parent's signature for tensors that are called `names` now: by the step's tensor map, else by position."""

    def called(spec: TensorSpec, specs: Sequence[TensorSpec], new: Sequence[str]) -> str:
        name = tensors.get(spec.name, spec.name)
        return name if name in new else new[specs.index(spec)] if len(new) == len(specs) else ""

    new_inputs, new_outputs = names
    known = parent.signature
    inputs = [
        replace(record, name=called(spec, parent.inputs, new_inputs))
        for spec, record in zip(parent.inputs, known.inputs, strict=bool(known.inputs))
        if called(spec, parent.inputs, new_inputs)
    ]
    outputs = [
        replace(record, name=called(spec, parent.outputs, new_outputs))
        for spec, record in zip(parent.outputs, known.outputs, strict=bool(known.outputs))
        if called(spec, parent.outputs, new_outputs)
    ]
    return Signature(tuple(inputs), tuple(outputs))
