"""The most memory that activations need at once."""

from __future__ import annotations

import pytest

from edgekit.formats.shared.lifetimes import peak_bytes

onnx = pytest.importorskip("onnx")


def test_the_peak_of_a_graph_with_branches() -> None:
    """a stays until the end of the long branch."""
    nodes = [(["x"], ["a"]), (["a"], ["b"]), (["b"], ["c"]), (["a", "c", "w"], ["y"])]
    sizes: dict[str, int | None] = {"x": 10, "a": 20, "b": 5, "c": 7, "y": 1}
    assert peak_bytes(["x"], ["y"], nodes, sizes) == 32  # a, b and c
    assert peak_bytes(["x"], ["y", "b"], nodes, sizes) == 33
    assert peak_bytes(["x"], ["y"], nodes, {**sizes, "b": None}) is None
    assert peak_bytes(["x"], ["y"], [*nodes, (["a"], ["unread"])], {**sizes, "unread": None}) == 32
