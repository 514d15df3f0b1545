"""The sizes of a model's inputs, batch included, that `edgekit import --shape` gave: `shapes.json` of its artifact."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.config import Misfit, convert
from edgekit.core.errors import InputError, suggest
from edgekit.core.json import read
from edgekit.runs import written
from edgekit.sets.random_inputs import example_shape, fits

SHAPES = "shapes.json"

#: input name → its sizes; "" names the only input
Shapes = Mapping[str, tuple[int, ...]]


def checked(shapes: Shapes, inputs: Sequence[TensorSpec]) -> dict[str, tuple[int, ...]]:
    """The shapes by input name. Raises InputError for an unknown input, or sizes that the input cannot have."""
    names = tuple(spec.name for spec in inputs)
    by_name = {}
    for name, sizes in shapes.items():
        if not name and len(inputs) != 1:
            examples = " ".join(f"--shape {example_shape(spec)}" for spec in inputs)
            raise InputError("--shape names no input", f"the model takes {', '.join(names)}", f"write {examples}")
        spec = inputs[names.index(name)] if name in names else inputs[0] if not name else None
        if spec is None:
            raise InputError(f"there is no input {name!r} to give a shape", next=suggest(name, names))
        if not fits(spec, sizes):
            given = "x".join(map(str, sizes))
            raise InputError(f"input {spec.name} cannot be {given}", f"it is {spec}", f"--shape {example_shape(spec)}")
        by_name[spec.name] = sizes
    return by_name


def store(root: Artifact, shapes: Shapes) -> None:
    """Keep the sizes with an imported model, for every later command."""
    if shapes:
        written.write_beside(root, SHAPES, json.dumps(checked(shapes, root.inputs)) + "\n")


def known(root: Artifact, artifact: Artifact, shapes: Shapes) -> dict[str, tuple[int, ...]]:
    """The given sizes of an artifact's inputs, else those stored with the root of its chain. See `checked`."""
    path = root.path / SHAPES
    stored: Shapes = {}
    if path.is_file():
        try:
            stored = convert(read(path), Shapes)
        except Misfit as error:
            raise InputError(f"{path} is damaged", str(error), f"import the model again, or delete {path}") from error
    return {**stored, **checked(shapes, artifact.inputs)}
