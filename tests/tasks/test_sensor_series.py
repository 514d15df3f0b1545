"""Series: the `.ts` format, uneven lengths and gaps, files of one's own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgekit import tasks
from edgekit.core.errors import InputError
from edgekit.tasks.shared.scaling import Scaling
from edgekit.tasks.shared.series import equal_length, parse_ts

HEAD = "# a comment\n@problemName x\n@classLabel true up down\n@data\n"


def files(folder: Path, train: str = "") -> str:
    lines = [f"{i},{i + 1},{i + 2}:{-i},0,0:up" if i % 2 else f"{i},{i - 1}:{i},0:down" for i in range(40)]
    (folder / "x_TRAIN.ts").write_text(HEAD + "\n".join(lines) + "\n" + train)
    (folder / "x_TEST.ts").write_text(HEAD + "\n".join([*lines[:6], "1,2,3,4,5:1,1,1,1,1:up"]) + "\n")
    return f"sensor-series?data={folder / 'x_TRAIN.ts'}"


def test_the_format() -> None:
    series, labels, classes = parse_ts(HEAD + "1,2:3,?:up\n", "x")
    assert classes == ("up", "down") and labels == ["up"]
    np.testing.assert_array_equal(series[0], [[1, 3], [2, np.nan]])


def test_gaps_and_lengths() -> None:
    series = [np.array([[1.0], [np.nan]], np.float32), np.array([[5.0], [6], [7], [8]], np.float32)]
    assert equal_length(series, 3)[..., 0].tolist() == [[1, 1, 1], [5, 6, 7]]


def test_files_of_ones_own(tmp_path: Path) -> None:
    task = tasks.load(files(tmp_path))
    train, val, test = (task.load(split) for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (32, 8, 7)
    assert all(data.inputs["input"].shape[1:] == (3, 2) for data in (train, val, test))
    assert task.arguments("cnn1d") == {"shape": [3, 2], "outputs": 2}


@pytest.mark.parametrize(("line", "what"), [("1,2:3,4:left\n", "unknown class 'left'"), ("1,x:3,4:up\n", "line 45")])
def test_bad_lines_are_named(tmp_path: Path, line: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        tasks.load(files(tmp_path, line)).load("train")


def test_no_such_set() -> None:
    with pytest.raises(InputError, match="is not a set of series"):
        tasks.load("sensor-series?data=Nothing").load("train")


def test_scaling_is_shipped_as_it_is_used(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(7, 3, (50, 4)).astype(np.float32)
    values[0, 0] = 1e6
    scaling = Scaling.of(values)
    scaling.write(tmp_path)
    said = json.loads((tmp_path / "scaling.json").read_text())
    again = np.clip((values - said["mean"]) / said["std"], -said["most"], said["most"])
    np.testing.assert_allclose(scaling(values), again, rtol=1e-5, atol=1e-6)
    assert np.abs(scaling(values)).max() <= 6


@pytest.mark.parametrize("model", ["cnn1d", "lstm", "mlp", "softmax-regression"])
def test_networks_take_series(model: str) -> None:
    torch = pytest.importorskip("torch")
    from edgekit.networks import named

    assert named.build(model, {"shape": [26, 12], "outputs": 9}).eval()(torch.zeros(2, 26, 12)).shape == (2, 9)
