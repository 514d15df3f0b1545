"""What an import knows of a model's signature: what the user gave, else the task's, else what the model carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError, RecipeError
from edgekit.core.json import parse as from_text
from edgekit.core.signature import Signature, parse
from edgekit.core.signature_check import signed
from edgekit.core.task import Task
from edgekit.networks import signatures
from edgekit.networks.signatures import heads

#: in an artifact's details: where its signature is from, or why it has none
DETAIL = "signature"


def given(text: str) -> Signature:
    """The signature in a step's field: JSON, or the path of a .toml file; none for "". Raises InputError."""
    if not text:
        return Signature()
    if not text.startswith("{"):
        return signatures.read_file(Path(text))
    try:
        signature, problems = parse(from_text(text))
    except (ValueError, AttributeError) as error:
        raise InputError("the signature is not JSON", str(error), "name a signature file, sig.toml") from error
    if problems:
        raise RecipeError("the signature", problems)
    return signature


def _of_family(
    signature: Signature, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], classes: tuple[str, ...]
) -> Signature:
    """The signature with the keys that the family of a detector stands for; `classes`: names that the model carries.

    Raises InputError for outputs of another family.
    """
    family = next((record.family for record in signature.outputs if record.family), "")
    if not family:
        return signature
    known = heads.of_family(family, inputs, outputs)
    names = signature.classes or classes
    records = [replace(record, classes=names if record.kind == "boxes" else ()) for record in known.outputs]
    return Signature(signature.inputs or known.inputs, tuple(records))


def given_problems(text: str) -> list[str]:
    """The problems with a step's field, a sentence each."""
    try:
        given(text)
    except InputError as error:
        return [*map(str, error.problems)] or [str(error)]
    return []


def given_files(text: str) -> tuple[Path, ...]:
    return (Path(text),) if text and not text.startswith("{") else ()


def known(
    text: str,
    task: Task | None,
    carried: tuple[Signature, str],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> tuple[Signature, Mapping[str, Any]]:
    """The signature for a StepResult, and the details about it. `carried`: what the model says, and where.

    What the user and the task leave open is as the model says, if that fits; a detector's outputs are recognised from
    their shapes where these decide it.
    """
    guessed, source = carried
    contradiction = ""
    try:
        signed(inputs, outputs, guessed)
    except InputError as error:
        guessed, contradiction = Signature(), f"{source} contradicts the model: {error.why}"
    of_task = task.signature(inputs, outputs) if task else Signature()
    stated = _of_family(given(text), inputs, outputs, guessed.classes)
    seen = heads.recognised(inputs, outputs, stated.outputs or guessed.outputs) if task is None else Signature()
    shapes = "the shapes of its outputs"
    if seen and (stated.outputs or guessed.outputs):  # they were not complete
        stated, guessed = (replace(layer, outputs=()) for layer in (stated, guessed))
    layers = {"--signature": stated, "the task": of_task, source: guessed, shapes: seen}
    of_inputs = next((name for name, layer in layers.items() if layer.inputs), None)
    of_outputs = next((name for name, layer in layers.items() if layer.outputs), None)
    signature = Signature(
        layers[of_inputs].inputs if of_inputs is not None else (),
        layers[of_outputs].outputs if of_outputs is not None else (),
    )
    sources = dict.fromkeys(name for name in (of_inputs, of_outputs) if name is not None)
    detail = " and ".join(sources) or contradiction
    return signature, {DETAIL: detail} if detail else {}
