"""One's own data on the command line: trained on, calibrated with, measured, predicted, refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers import Ended, run_cli

pytest.importorskip("torch")

NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, outputs=1):
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, outputs))

    def forward(self, x):
        return self.layers(x)

class Two(Net):
    def __init__(self):
        super().__init__(2)
"""

#: the whole of a task of one's own
HOUSE = """
import csv

import numpy as np

from edgekit.sets import sample_set
from edgekit.tasks import Regression

SPLITS = {"train": slice(0, 300), "val": slice(300, 400), "test": slice(400, 500)}

class Houses(Regression):
    models = ("net.py:Net",)

    def load(self, split):
        with open("houses.csv") as file:
            rows = [[float(row[name]) for name in ("area", "rooms", "age", "label")] for row in csv.DictReader(file)]
        table = np.array(rows, np.float32)[SPLITS[split]]
        return sample_set(f"{self.name}:{split}", {"input": table[:, :3]}, table[:, 3])
"""


def houses(path: Path, value: Callable[[float, int, int], object]) -> None:
    draw = random.Random(0)
    rows = [(draw.uniform(0, 3), draw.randint(1, 8), draw.randint(0, 90)) for _ in range(500)]
    lines = [f"{area:.2f},{rooms},{age},{value(area, rooms, age)}" for area, rooms, age in rows]
    path.write_text("\n".join(["area,rooms,age,label", *lines]) + "\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with houses.csv, house.py, net.py, and one run trained on each of the first two. Never written to."""
    folder = tmp_path_factory.mktemp("houses")
    (folder / "net.py").write_text(NET)
    (folder / "house.py").write_text(HOUSE)
    houses(folder / "houses.csv", lambda area, rooms, age: round(area + rooms / 4 - age / 50, 3))
    np.savez(folder / "two.npz", a=np.zeros((40, 3)), b=np.zeros((40, 2)), label=np.arange(40) % 2)
    options = ("--model", "net.py:Net", "--epochs", 20, "--lr", 0.02)
    for words in (("houses.csv", *options), ("house.py:Houses", *options[2:])):
        ended = run_cli("train", *words, "--json", cwd=folder)
        assert ended.code == 0, ended.err
        best = max(epoch["val_R²"] for epoch in ended.json["result"]["history"][0])
        assert best > 0.8, "the houses' prices were not learnt"
    return folder


def test_runs_are_called_as_the_data(trained: Path) -> None:
    assert sorted(path.name for path in (trained / "runs").iterdir()) == ["house", "houses"]


@pytest.mark.slow
@pytest.mark.parametrize("run", ["houses", "house"])
def test_later_commands_find_the_data_again(trained: Path, run: str) -> None:
    ended = run_cli("bench", f"runs/{run}", "--processes", 1, "--json", cwd=trained)
    assert ended.code == 0, ended.err
    metric = ended.json["measurements"][0]["metric"]
    assert metric["name"] == "R²" and metric["value"] > 0.8


def test_predictions_from_rows(trained: Path) -> None:
    words = ("houses.csv:0", "houses.csv:test:2", "house.py:Houses:test:1")
    ended = run_cli("predict", "runs/houses/torch", *words, "--json", cwd=trained)
    assert ended.code == 0, ended.err
    assert [entry["input"] for entry in ended.json["result"]] == list(words)
    ended = run_cli("predict", "runs/houses/torch", "houses.csv:500", cwd=trained)
    assert ended.code == 2 and "no sample 500" in ended.line


def test_classes_by_data_option(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    houses(tmp_path / "loans.csv", lambda area, rooms, age: "yes" if area > 1.5 else "no")
    words = ("--data", "loans.csv", "--model", "net.py:Two", "--epochs", 8, "--lr", 0.02)
    ended = run_cli("train", *words, "--json", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert max(epoch["val_accuracy"] for epoch in ended.json["result"]["history"][0]) > 0.9
    ended = run_cli("predict", "runs/loans/torch", "loans.csv:0", cwd=tmp_path)
    assert ended.code == 0 and ("yes" in ended.out or "no" in ended.out)


@pytest.mark.slow
def test_images_through_the_whole_flow(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    rng = np.random.default_rng(0)
    for i in range(400):
        pixels = rng.integers(0, 60, (20, 20), dtype=np.uint8)
        (pixels if i % 2 else pixels.T)[int(rng.integers(20))] += 180
        place = tmp_path / "stripes" / ("down", "along")[i % 2] / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(pixels).save(place)
    (tmp_path / "stripes" / "down" / "0.png").write_bytes(b"broken")
    for words in (
        ("train", "stripes", "--model", "cnn", "--epochs", 25),
        ("quantize", "runs/stripes", "--int8", "--to", "onnx", "--max-drop", 20),
        ("bench", "runs/stripes", "--processes", 1, "--data", "stripes:test"),
    ):
        ended = run_cli(*words, "--json", cwd=tmp_path)
        assert ended.code == 0, ended.err
    shown = {m["artifact"]: m["metric"]["value"] for m in ended.json["measurements"]}
    assert min(shown.values()) > 0.9, shown
    (one, *_) = (tmp_path / "stripes" / "along").iterdir()
    ended = run_cli("predict", "runs/stripes/onnx-int8", one, "stripes:test:0", "--json", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert ended.json["result"][0]["classes"][0]["class"] == "along"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "two.npz"), "has no network"),
        (("train", "mnist", "--data", "houses.csv"), "give either a task or --data"),
        (("train", "absent.csv", "--model", "net.py:Net"), "no such file"),
        (("train", "houses.csv?lable=area", "--model", "net.py:Net"), "did you mean label"),
        (("train", "houses.csv", "--model", "cnn"), "cnn"),
        (("bench", "runs/houses", "--data", "houses.csv?columns=area"), "area"),
        (("bench", "runs/houses", "--data", "house.py:Houses"), "is a task, not a set"),
        (("predict", "runs/houses/torch", "net.py"), "is not an input"),
        (("predict", "runs/houses/torch", "absent.png"), "no such file"),
    ],
)
def test_what_is_refused(trained: Path, words: tuple[str, ...], said: str) -> None:
    ended: Ended = run_cli(*words, cwd=trained)
    assert ended.code == 2, ended.err
    assert said in ended.line
