"""Series: the `.ts` format, uneven lengths and gaps, files of one's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit import tasks
from edgekit.core.errors import InputError

HEAD = "# a comment\n@problemName x\n@classLabel true up down\n@data\n"


def files(folder: Path, train: str = "") -> str:
    lines = [f"{i},{i + 1},{i + 2}:{-i},0,0:up" if i % 2 else f"{i},{i - 1}:{i},0:down" for i in range(40)]
    (folder / "x_TRAIN.ts").write_text(HEAD + "\n".join(lines) + "\n" + train)
    (folder / "x_TEST.ts").write_text(HEAD + "\n".join([*lines[:6], "1,2,3,4,5:1,1,1,1,1:up"]) + "\n")
    return f"sensor-series?data={folder / 'x_TRAIN.ts'}"


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


@pytest.mark.parametrize("model", ["cnn1d", "lstm", "mlp", "softmax-regression"])
def test_networks_take_series(model: str) -> None:
    torch = pytest.importorskip("torch")
    from edgekit.networks import named

    assert named.build(model, {"shape": [26, 12], "outputs": 9}).eval()(torch.zeros(2, 26, 12)).shape == (2, 9)
