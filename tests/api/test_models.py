"""A model as an object; torch modules as programs; arrays for its inputs."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.api.models import Model, run_of, stacked, traced, word
from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import CannotConvert, InputError
from edgekit.core.signature import Column, InputSignature
from edgekit.runs.store import Store


def test_what_it_says_of_itself(bars_made: Path) -> None:
    model = Model(Store(bars_made).get("onnx-int8"))
    assert (model.name, model.format, model.precision, model.task) == ("onnx-int8", "onnx", "int8", "bars")
    assert model.file.is_file() and model.size >= model.file.stat().st_size
    assert model.inputs[0].shape[1:] == (1, 20, 20) and model.classes == ("top", "bottom", "left", "right")
    assert model == Model(model.artifact) and hash(model) == hash(Model(model.artifact)) and model != "onnx-int8"
    assert str(bars_made) in repr(model) and Path(model) == model.path
    assert copy.deepcopy(model) == pickle.loads(pickle.dumps(model)) == model
    assert "<td>onnx[int8]</td>" in model._repr_html_() and "1, 20, 20" in model._repr_html_()


def test_how_models_are_named(bars_made: Path) -> None:
    model = Model(Store(bars_made).get("onnx"))
    assert {word(model), word(model.path), word(model.artifact), word(str(model.path))} == {str(model.path)}
    assert word(None) is None and run_of(model, None) == bars_made and run_of(model, "other") == Path("other")
    for wrong in (3, [model], {}):
        with pytest.raises(InputError, match="is no model"):
            word(wrong)


def test_a_traced_module_takes_any_batch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    network = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.5)).train()
    program = torch.export.load(traced(network, np.zeros((1, 4)), tmp_path / "run")).module()
    x = torch.randn(5, 4)
    torch.testing.assert_close(program(x), network.eval()(x))
    with pytest.raises(InputError, match="the network Linear has no example"):
        word(torch.nn.Linear(2, 2))
    with pytest.raises(InputError, match="Sequential cannot compute the example") as caught:
        traced(network, np.zeros((1, 5)), tmp_path / "run")
    assert "shapes" in caught.value.why and "[2, 5]" in caught.value.why
    for shape in ((-1, 4), (0, 4), (10**12, 10**12)):
        with pytest.raises(InputError, match=r"^shape "):
            word(network, out=tmp_path / "zeros", shape=shape)
    again = torch.export.load(Path(str(word(network, out=tmp_path / "zeros", shape=(1, 4))))).module()
    assert again(x).shape == (5, 3)


def test_several_inputs_are_a_tuple(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Sum(torch.nn.Module):
        def forward(self, a: Any, b: Any) -> Any:
            return a + b

    path = traced(Sum(), (torch.zeros(1, 4), torch.zeros(1, 4)), tmp_path)
    assert torch.export.load(path).module()(torch.ones(3, 4), torch.ones(3, 4)).sum() == 24


def test_a_module_that_cannot_be_traced(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class Branches(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return x if x.sum() > 0 else -x

    with pytest.raises(CannotConvert, match="cannot trace Branches"):
        traced(Branches(), torch.ones(1, 2), tmp_path)


def test_inputs_that_do_not_fit(bars_made: Path) -> None:
    specs = Store(bars_made).get("onnx").inputs
    image = np.zeros((2, 1, 20, 20))
    assert stacked(image, specs)["input"].dtype == np.float32 and len(stacked({"input": image}, specs)) == 1
    with pytest.raises(InputError, match="do not fit the model") as caught:
        stacked({"wrong": image}, specs)
    assert "input: float32" in caught.value.why


def test_the_columns_of_a_data_frame() -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    columns = (Column("area"), Column("rooms", missing=2.5))
    specs = (TensorSpec("x", "float32", (None, 2), signature=InputSignature("table", columns=columns)),)
    table = pandas.DataFrame({"rooms": [None, 3.0], "area": [1, 2]})
    assert stacked(table, specs)["x"].tolist() == [[1, 2.5], [2, 3]]
    with pytest.raises(InputError, match="the DataFrame has no column 'rooms'"):
        stacked(table.rename(columns={"rooms": "Rooms"}), specs)
    with pytest.raises(InputError, match="the column 'area' comes twice"):
        stacked(pandas.concat([table, table[["area"]]], axis=1), specs)


@pytest.mark.parametrize(
    ("dtype", "values", "said"),
    [
        ("uint8", [0.0, 0.2, 1.0], "holds 0.2"),
        ("uint8", [0, 300], "holds 300"),
        ("uint8", [1.0, -1.0], "holds -1"),
        ("int64", [1.0, np.nan], "holds nan"),
        ("int64", [1.0, np.inf], "holds inf"),
        ("int64", [2.0**63], "holds 9.22337e"),
        ("int32", np.array([2**63], np.uint64), "holds 9.22337e"),
    ],
)
def test_an_integer_input_takes_no_other_numbers(dtype: str, values: Any, said: str) -> None:
    spec = TensorSpec("x", dtype, (None,))
    with pytest.raises(InputError, match=said) as caught:
        stacked(np.asarray(values), [spec])
    assert "integers from" in caught.value.why and dtype in caught.value.next


def test_what_an_input_takes() -> None:
    integers, floats = TensorSpec("x", "uint8", (None,)), TensorSpec("x", "float32", (None,))
    assert stacked(np.array([0.0, 255.0]), [integers])["x"].tolist() == [0, 255]
    assert stacked(np.array([True, False]), [integers])["x"].tolist() == [1, 0]
    assert stacked(np.zeros(0), [integers])["x"].dtype == np.uint8
    assert np.isnan(stacked(np.array([np.nan]), [floats])["x"]).all()


def test_its_training(bars_run: Path, bars_made: Path) -> None:
    model = Model(Store(bars_run).get("torch"))
    assert [entry["epoch"] for entry in model.history] == list(range(1, len(model.history) + 1))
    assert "validation loss" in model.plot_training().svg
    other = Model(Store(bars_made).get("onnx"))
    with pytest.raises(InputError, match="has no training history"):
        other.plot_training()
    assert other.history == []
