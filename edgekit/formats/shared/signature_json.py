"""A model's signature as the text that edgekit writes into a file's metadata, and what the formats share with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgekit.core.artifact import TensorSpec
from edgekit.core.json import parse as read_json
from edgekit.core.signature import InputSignature, OutputSignature, Signature, parse

#: the name of edgekit's entry in a file's metadata
KEY = "edgekit.signature"


def records(specs: Sequence[TensorSpec]) -> Iterator[tuple[int, InputSignature]]:
    for index, spec in enumerate(specs):
        if isinstance(spec.signature, InputSignature):
            yield index, spec.signature


def meanings(specs: Sequence[TensorSpec]) -> Iterator[tuple[int, OutputSignature]]:
    for index, spec in enumerate(specs):
        if isinstance(spec.signature, OutputSignature):
            yield index, spec.signature


def to_text(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> str:
    """One line of JSON. Tensors are known by their position: other tools rename them."""
    known_inputs = tuple(
        spec.signature if isinstance(spec.signature, InputSignature) else InputSignature() for spec in inputs
    )
    known_outputs = tuple(
        spec.signature if isinstance(spec.signature, OutputSignature) else OutputSignature() for spec in outputs
    )
    sides = [any(spec.signature for spec in specs) for specs in (inputs, outputs)]
    return Signature(known_inputs if sides[0] else (), known_outputs if sides[1] else ()).to_json()


def from_text(text: str) -> Signature:
    """Nothing for a text that edgekit did not write."""
    try:
        table = read_json(text)
    except ValueError:
        return Signature()
    return parse(table)[0] if isinstance(table, dict) else Signature()


def classes(outputs: Sequence[TensorSpec]) -> tuple[str, ...]:
    """The class names of the first output that has some."""
    return next((meaning.classes for _, meaning in meanings(outputs) if meaning.classes), ())


def per_pixel(record: InputSignature) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of decoded values, as other tools have them: the model sees (x - mean) / std."""
    count = max(len(record.mean), len(record.std), 1)
    means, stds = record.mean or (0.0,), record.std or (1.0,)
    return tuple(
        tuple(values[index % len(values)] / record.scale for index in range(count)) for values in (means, stds)
    )  # type: ignore[return-value]
