"""Samples from memory become files that a SET names, once for each content."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.api.data import as_set, check_labelled, slug
from edgekit.core.errors import InputError
from edgekit.runs import named_sets


def loaded(text: str) -> Any:
    return named_sets.load(text)


def test_words_stay_words(tmp_path: Path) -> None:
    assert as_set(None, tmp_path) == "" and as_set("mnist:test", tmp_path) == "mnist:test"
    assert as_set(Path("a.csv"), tmp_path, label="the price") == "a.csv?label=the%20price"
    assert as_set("a.csv?columns=a", tmp_path, label="b") == "a.csv?columns=a&label=b"
    assert not list(tmp_path.iterdir())


def test_arrays(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(10, 3)), np.arange(10) % 2
    text = as_set((x, y), tmp_path)
    found = loaded(text)
    np.testing.assert_allclose(found.inputs["input"], x.astype(np.float32))
    assert found.labels.tolist() == y.tolist() and Path(text).parent == tmp_path / "data"
    assert as_set((x, y), tmp_path) == text != as_set((x, 1 - y), tmp_path), "named by the content"
    assert set(loaded(as_set({"a": x, "b": x}, tmp_path)).inputs) == {"a", "b"}
    assert set(loaded(as_set(x, tmp_path, inputs=("pixels",))).inputs) == {"pixels"}
    assert loaded(as_set(x.tolist(), tmp_path)).inputs["input"].shape == (10, 3)


def test_batches(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    x, y = torch.randn(10, 3), torch.arange(10) % 2
    pairs = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=4)
    found = loaded(as_set(pairs, tmp_path))
    np.testing.assert_array_equal(found.inputs["input"], x.numpy())
    assert found.labels.tolist() == y.tolist()
    single = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=4)
    assert loaded(as_set(single, tmp_path)).labels is None
    dataset = loaded(as_set(torch.utils.data.TensorDataset(x, y), tmp_path))
    np.testing.assert_array_equal(dataset.inputs["input"], x.numpy())
    assert dataset.labels.tolist() == y.tolist() and loaded(as_set([x, y], tmp_path)).labels is not None
    named = [OrderedDict(a=x[:5], b=y[:5]), OrderedDict(a=x[5:], b=y[5:])]
    assert len(loaded(as_set(iter(named), tmp_path)).inputs["a"]) == 10


def test_data_frames(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.DataFrame({"a": [0.5, 1.5, 2.5], "what it costs": [1.25, 2.5, 3.75]})
    text = as_set(table, tmp_path, label="what it costs")
    found = loaded(text)
    assert found.inputs["input"].tolist() == [[0.5], [1.5], [2.5]] and found.labels.tolist() == [1.25, 2.5, 3.75]
    assert "?" not in as_set(table.rename(columns={"what it costs": "label"}), tmp_path)
    inputs, labels = (
        pandas.DataFrame({"a": [0.5, 1.5] * 2, "city": ["A", "B"] * 2}),
        pandas.Series(["yes", "no"] * 2, name="sold"),
    )
    pairs = [loaded(as_set((frame, labels), tmp_path)) for frame in (inputs, inputs[["a"]])]
    assert pairs[0].labels.tolist() == pairs[1].labels.tolist()
    one = as_set((pandas.DataFrame(np.ones((4, 3))), labels.to_frame()), tmp_path)
    assert loaded(one).inputs["input"].shape == (4, 3) and loaded(one).labels.shape == (4,)
    for data, label, said in (
        (table, "nope", "no column 'nope'"),
        (table[:0], "", "there are no samples"),
        ((inputs, [1, 2, 3]), "", "differ in their number"),
        ((inputs.assign(label=1), labels), "", "has a column 'label', too"),
    ):
        with pytest.raises(InputError, match=said):
            as_set(data, tmp_path, label=label)
    for data, said in ((table, "has no labels"), (table.to_numpy(), "the ndarray has no labels")):
        with pytest.raises(InputError, match=said):
            check_labelled(data, "")
    with pytest.raises(InputError, match="name is not text"):
        as_set(pandas.DataFrame(np.zeros((2, 2))), tmp_path)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ((np.zeros(3), np.zeros(2)), "the arrays differ"),
        ((1, 2, 3), "a tuple of 3"),
        (object(), "samples cannot be object"),
        ([[1, 2], [3]], "no array of samples"),
        ({}, "there are no samples"),
        ([], "there are no samples"),
        (np.array(["a", None]), "no array of samples"),
        (b"abc", "samples cannot be bytes"),
        (np.array([[0.0], [np.nan]]), "sample 1 of 'input' holds NaN"),
    ],
)
def test_what_is_no_samples(data: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        as_set(data, tmp_path)
    assert not list(tmp_path.iterdir())


class Samples:
    """A dataset of torch."""

    def __init__(self, *samples: Any) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Any:
        return self.samples[index]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (Samples(np.zeros(3), np.zeros(4)), r"'input' differ in shape: one has shape \[4\], the first \[3\]"),
        (Samples((np.zeros(3), 1), (np.zeros(3), [1, 2])), "'label' differ in shape"),
        (iter([np.zeros((2, 3)), np.zeros((2, 3, 1))]), "'input' differ in shape"),
        (Samples({"a": [1], "b": [1]}, {"a": [1]}), "differ in their names: one has a, the first a, b"),
        (Samples({"a": [1]}, {"a": [1], "b": [1]}), "differ in their names: one has a, b, the first a"),
    ],
)
def test_samples_that_differ(data: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        as_set(data, tmp_path)


def test_a_file_that_was_changed_is_written_again(tmp_path: Path) -> None:
    text = as_set(np.zeros((3, 2)), tmp_path)
    Path(text).write_bytes(b"changed")
    assert loaded(as_set(np.zeros((3, 2)), tmp_path)).inputs["input"].shape == (3, 2)


def test_names_for_run_folders() -> None:
    assert (slug("My Net(2)"), slug("../x"), slug("")) == ("my-net-2", "x", "model")
