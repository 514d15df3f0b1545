"""Files from elsewhere: weights that lie beside an ONNX model come along, and nothing else does."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError, InputError
from edgekit.core.step import Context
from edgekit.formats.onnx import Onnx
from edgekit.measure.context import log
from edgekit.runs.store import Store

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

WEIGHTS = np.random.default_rng(0).normal(size=(300, 40)).astype(np.float32)


def model(path: Path, location: str = "", **entries: str) -> Path:
    """x · w; the weights in the file, or in another one."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", k]) for n, k in (("x", 300), ("y", 40))]
    weights = numpy_helper.from_array(WEIGHTS, "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", ends[:1], ends[1:], [weights])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    if location:
        held = made.graph.initializer[0]
        held.ClearField("raw_data")
        held.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, **entries}.items():
            held.external_data.add(key=key, value=value)
    path.write_bytes(made.SerializeToString())
    return path


def test_token_ids_are_the_rows_of_their_table(tmp_path: Path) -> None:
    """Also through a cast; the index of a smaller table on the way limits them."""
    nodes = [
        helper.make_node("Cast", ["ids"], ["i"], to=TensorProto.INT64),
        helper.make_node("Gather", ["words", "i"], ["a"]),
        helper.make_node("Gather", ["kinds", "i"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    held = [numpy_helper.from_array(np.ones((n, 4), np.float32), name) for name, n in (("words", 90), ("kinds", 30))]
    ends = [helper.make_tensor_value_info("ids", TensorProto.INT32, ["n", "t"])]
    graph = helper.make_graph(nodes, "g", ends, [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], held)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, str(tmp_path / "m.onnx"))
    assert imported(tmp_path / "m.onnx", tmp_path / "run").details["ranges"] == {"ids": [0, 29]}


def imported(path: Path, run: Path) -> Artifact:
    step = registry.load("steps", "import_onnx").of(str(path))
    store = Store(run)
    with store.lock():
        return store.make("onnx", step, {}, Context(None, {}, lambda items, *_: iter(items), log))


def test_weights_in_another_file_come_along(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "w.bin").write_bytes(bytes(64) + WEIGHTS.tobytes())
    path = model(tmp_path / "m.onnx", "data/w.bin", offset="64", length=str(WEIGHTS.nbytes))
    artifact = imported(path, tmp_path / "run")
    assert set(artifact.files) == {"model.onnx", "model.data0"}
    assert artifact.sizes.weights == WEIGHTS.nbytes
    again = onnx.load(str(artifact.path / "model.onnx"))
    assert np.array_equal(numpy_helper.to_array(again.graph.initializer[0]), WEIGHTS)
    assert artifact.sizes.total == sum((artifact.path / file).stat().st_size for file in artifact.files)


def test_a_model_of_other_weights_is_another_model(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    path = model(tmp_path / "m.onnx", "w.bin")
    first = imported(path, tmp_path / "run")
    (tmp_path / "w.bin").write_bytes((2 * WEIGHTS).tobytes())
    assert imported(path, tmp_path / "run").id != first.id


@pytest.mark.parametrize(
    "location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "m.onnx", "link.bin", "..\\w.bin", "w\0", "x" * 300]
)
def test_a_file_elsewhere_is_not_read(location: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(InputError, match="not a file in its own folder"):
        imported(model(folder / "m.onnx", location), tmp_path / "run")
    assert not Store(tmp_path / "run").names()


def test_links_into_a_cache_are_followed(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "blobs" / "b").write_bytes(WEIGHTS.tobytes())
    model(tmp_path / "blobs" / "a", "w.bin")
    for name, blob in (("m.onnx", "a"), ("w.bin", "b")):
        (tmp_path / "snapshot" / name).symlink_to(Path("..", "blobs", blob))
    assert "model.data0" in imported(tmp_path / "snapshot" / "m.onnx", tmp_path / "run").files


@pytest.mark.parametrize(("size", "said"), [(None, "is missing"), (100, "has 100 bytes"), (0, "has 0 bytes")])
def test_weights_that_are_missing_or_short(size: int | None, said: str, tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", "w.bin")
    if size is not None:
        (tmp_path / "w.bin").write_bytes(bytes(size))
    with pytest.raises(InputError, match=said) as error:
        Onnx.describe(path)
    assert error.value.next


@pytest.mark.parametrize(
    "entries", [{"offset": "-8"}, {"offset": "x"}, {"length": "8"}, {"offset": "99999999"}, {"length": "1e9"}]
)
def test_places_that_are_none(entries: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    with pytest.raises(InputError):
        Onnx.describe(model(tmp_path / "m.onnx", "w.bin", **entries))


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(range(256)) * 20, b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_no_model(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(InputError, match="not an ONNX model"):
        Onnx.describe(tmp_path / "m.onnx")


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").mkdir()
    with pytest.raises(InputError, match="folder"):
        Onnx.describe(tmp_path / "m.onnx")


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
def test_a_file_cut_off_anywhere_is_noticed(tmp_path: Path, data: Any) -> None:
    whole = model(tmp_path / "whole.onnx").read_bytes()
    (tmp_path / "m.onnx").write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(InputError):
        Onnx.describe(tmp_path / "m.onnx")


@given(st.binary(max_size=400))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
def test_any_bytes_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(EdgekitError):
        Onnx.describe(tmp_path / "m.onnx")


def test_bytes_changed_anywhere_never_crash(tmp_path: Path) -> None:
    whole, rng = model(tmp_path / "whole.onnx").read_bytes(), random.Random(0)
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(3):
            damaged[rng.choice((rng.randrange(120), rng.randrange(len(whole) - 120, len(whole))))] = rng.randrange(256)
        (tmp_path / "m.onnx").write_bytes(bytes(damaged))
        try:
            Onnx.describe(tmp_path / "m.onnx")
        except InputError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize("change", [lambda t: t.dims.__setitem__(0, 299), lambda t: t.dims.__setitem__(1, -40)])
def test_weights_that_do_not_fill_their_shape(change: Callable[[Any], None], tmp_path: Path) -> None:
    """Though they are not read."""
    made = onnx.load(str(model(tmp_path / "m.onnx")))
    change(made.graph.initializer[0])
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(InputError, match="'w'"):
        Onnx.describe(tmp_path / "m.onnx")


def test_a_version_of_the_file_that_is_newer_than_the_reader(tmp_path: Path) -> None:
    made = onnx.load(str(model(tmp_path / "m.onnx")))
    made.ir_version = 999
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(InputError, match="999"):
        Onnx.describe(tmp_path / "m.onnx")


def test_the_functions_of_a_file_are_inlined(tmp_path: Path) -> None:
    import logging

    from edgekit.core.progress import quiet
    from edgekit.core.step import Context
    from edgekit.steps.import_onnx import ImportOnnx

    helper = onnx.helper
    versions = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    inner = helper.make_function("my", "Inner", ["a"], ["b"], [helper.make_node("Relu", ["a"], ["b"])], versions)
    body = [helper.make_node("Inner", ["a"], ["c"], domain="my"), helper.make_node("Neg", ["c"], ["b"])]
    outer = helper.make_function("my", "Outer", ["a"], ["b"], body, versions)
    ends = [helper.make_tensor_value_info(name, 1, [1, 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Outer", ["x"], ["y"], domain="my")], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=versions, ir_version=8, functions=[inner, outer])
    onnx.save(model, str(tmp_path / "m.onnx"))
    (tmp_path / "out").mkdir()
    context = Context(None, {}, quiet, logging.getLogger("edgekit.tests"))
    ImportOnnx(str(tmp_path / "m.onnx")).apply({}, tmp_path / "out", context)
    made = onnx.load(str(tmp_path / "out" / "model.onnx"))
    assert [node.op_type for node in made.graph.node] == ["Relu", "Neg"] and not made.functions
