"""Sizes of inputs that were given: checked against the model, and kept with an import."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgekit.core.artifact import Artifact, Kind, Sizes, TensorSpec
from edgekit.core.errors import InputError
from edgekit.runs import shapes

X, Y = (TensorSpec(name, "float32", (None, 3, None, None)) for name in "xy")


def artifact(path: Path, *inputs: TensorSpec) -> Artifact:
    return Artifact("onnx", "id", Kind("onnx"), "import", {}, (), "", inputs, (), Sizes(0, 0, 0, 0), {}, path)


def test_the_only_input_needs_no_name() -> None:
    assert shapes.checked({"": (1, 3, 8, 8)}, (X,)) == {"x": (1, 3, 8, 8)}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"": (1, 3, 8, 8)}, "names no input"),
        ({"z": (1, 3, 8, 8)}, "no input 'z'"),
        ({"x": (1, 4, 8, 8)}, "input x cannot be 1x4x8x8"),
        ({"x": (3, 8, 8)}, "input x cannot be 3x8x8"),
    ],
)
def test_what_cannot_be_is_refused(given: shapes.Shapes, said: str) -> None:
    with pytest.raises(InputError, match=said):
        shapes.checked(given, (X, Y))


def test_kept_with_an_import_and_overridden(tmp_path: Path) -> None:
    root = artifact(tmp_path, X)
    shapes.store(root, {"": (1, 3, 8, 8)})
    assert shapes.known(root, root, {}) == {"x": (1, 3, 8, 8)}
    assert shapes.known(root, dataclasses.replace(root), {"x": (1, 3, 9, 9)}) == {"x": (1, 3, 9, 9)}
