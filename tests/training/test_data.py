"""Training on folders and shards decoded by workers equals training from memory."""

from __future__ import annotations

import io
import logging
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import tasks
from edgekit.core.errors import InputError
from edgekit.core.progress import quiet
from edgekit.core.step import Context
from edgekit.runs import named_sets
from edgekit.sets import reading
from edgekit.steps.train import Train
from edgekit.training import engine, session
from edgekit.training.data import Samples
from edgekit.training.session import Session
from edgekit.training.settings import Settings

torch = pytest.importorskip("torch")
Image = pytest.importorskip("PIL.Image")
SETTINGS = Settings(epochs=2, batch=16, lr=0.01)


def picture(label: int, rng: Any) -> bytes:
    image = rng.integers(0, 90, (32, 32), np.uint8)
    image[:, 16 * label : 16 * label + 16] += 120
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 12)):
        for label, name in enumerate(("left", "right")):
            place = tmp_path / "pictures" / split / name
            place.mkdir(parents=True)
            for index in range(count):
                (place / f"{index:03}.png").write_bytes(picture(label, rng))
    return tmp_path / "pictures"


@pytest.fixture
def shards(tmp_path: Path) -> str:
    rng = np.random.default_rng(1)
    for number in range(3):
        with tarfile.open(tmp_path / f"s-{number}.tar", "w") as tar:
            for index in range(40):
                for ending, raw in (("png", picture(index % 2, rng)), ("cls", str(index % 2).encode())):
                    member = tarfile.TarInfo(f"{number}{index:03}.{ending}")
                    member.size = len(raw)
                    tar.addfile(member, io.BytesIO(raw))
    return str(tmp_path / "s-{0..2}.tar")


def network() -> Any:
    torch.manual_seed(0)
    body = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 8, 8), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
    return torch.nn.Sequential(body, torch.nn.Flatten(), torch.nn.Dropout(0.1), torch.nn.Linear(64, 2))


def trained(spec: str, workers: int, **more: Any) -> tuple[Any, list[dict[str, Any]]]:
    task = tasks.load(spec)
    model = network()
    with session.using(Session(workers=workers, checkpoint_seconds=0.0)):
        history = engine.fit(
            model,
            more.pop("settings", SETTINGS),
            task,
            task.load("train"),
            task.load("val"),
            **{"device": torch.device("cpu"), "progress": quiet, "scratch": None, **more},
        )
    return model, history


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_streamed_is_as_in_memory(kind: str, request: pytest.FixtureRequest) -> None:
    """With two workers and with none, sample order and weights equal those of a set in memory, bit for bit."""
    spec = str(request.getfixturevalue(kind))
    model_in_memory, history = trained(spec, 0)
    streamed = named_sets.load(f"{spec}?stream=true:train")
    whole = named_sets.load(f"{spec}:train")
    assert (streamed.labels == whole.labels).all() and len(streamed) == len(whole)
    array: Any = streamed.inputs["input"]
    assert array.shape == whole.inputs["input"].shape and (array[:] == whole.inputs["input"]).all()
    assert (array[3, ...] == whole.inputs["input"][3]).all() and len(array.spread(5)) == 5
    for workers in (0, 2):
        other, again = trained(f"{spec}?stream=true", workers)
        assert again == history
        assert all(torch.equal(a, b) for a, b in zip(other.parameters(), model_in_memory.parameters(), strict=True))


def test_resumed_in_the_middle_of_an_epoch(folder: Path, tmp_path: Path) -> None:
    spec, batches = f"{folder}?stream=true", 0
    whole, history = trained(spec, 2)

    def stop(inputs: Any, outputs: Any, labels: Any, base: Any) -> Any:
        nonlocal batches
        batches += 1
        if batches > 7:
            raise KeyboardInterrupt
        return base

    with pytest.raises(KeyboardInterrupt):
        trained(spec, 2, scratch=tmp_path / "c", extra_loss=stop)
    model_streamed, again = trained(spec, 2, scratch=tmp_path / "c")
    assert again == history
    assert all(torch.equal(a, b) for a, b in zip(model_streamed.parameters(), whole.parameters(), strict=True))


def test_the_train_step_takes_a_streamed_folder(folder: Path, tmp_path: Path) -> None:
    """The mean and standard deviation for normalisation come from a sample of the images."""
    task = tasks.load(f"{folder}?stream=true")
    step = Train(model="cnn", epochs=1, batch=16, accelerator="cpu", augment="on")
    assert not list(step.check(task))
    data = {split: task.load(split) for split in ("train", "val")}
    notes = step.apply({}, tmp_path, Context(task, data, quiet, logging.getLogger("t")))
    assert len(notes.details["history"]) == 1


def test_broken_samples(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "train" / "left" / "003.png").write_bytes(b"nothing")
    _, history = trained(f"{folder}?stream=true", 2)
    assert len(history) == 2 and "003.png" in caplog.text
    for index in range(10, 20):
        (folder / "train" / "left" / f"{index:03}.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match="could not be read"):
        trained(f"{folder}?stream=true", 2)


def test_a_worker_that_meets_another_image_size_raises_input_error(folder: Path) -> None:
    Image.new("L", (9, 9)).save(folder / "train" / "right" / "007.png")
    with pytest.raises(InputError, match="differ in size"):
        trained(f"{folder}?stream=true", 2)


def test_what_cannot_be_streamed(tmp_path: Path, shards: str) -> None:
    np.savez(tmp_path / "a.npz", input=np.zeros((40, 3), np.float32), label=np.arange(40) % 2)
    with pytest.raises(InputError, match="only folders and shards can"):
        named_sets.load(f"{tmp_path}/a.npz?stream=true:train")
    with tarfile.open(tmp_path / "s-0.tar.gz", "w:gz") as tar:
        for name in ("a", "b"):
            for ending, raw in (("cls", b"1"), ("npy", _npy())):
                member = tarfile.TarInfo(f"{name}.{ending}")
                member.size = len(raw)
                tar.addfile(member, io.BytesIO(raw))
    with pytest.raises(InputError, match="cannot be streamed"):
        named_sets.load(f"{tmp_path}/s-0.tar.gz?stream=true:train")


def test_a_changed_file_is_another_set(folder: Path) -> None:
    before = named_sets.load(f"{folder}?stream=true:train").sha256
    assert before == named_sets.load(f"{folder}?stream=true:train").sha256
    (folder / "train" / "left" / "001.png").write_bytes(picture(0, np.random.default_rng(9)) + b" ")
    assert before != named_sets.load(f"{folder}?stream=true:train").sha256


def test_prefetched_batches_are_the_given_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread reads the batches for an accelerator; here the device is the CPU."""
    data = reading.sample_set("s", {"input": np.arange(40, dtype=np.float32).reshape(20, 2)}, np.arange(20))
    monkeypatch.setattr("edgekit.training.data.IN_MEMORY_BYTES", 0)
    samples = Samples(data, torch.device("cpu"))
    chosen = list(torch.randperm(20).split(6))
    batches = list(samples._prefetched(chosen))
    assert [labels.tolist() for _, labels in batches] == [numbers.tolist() for numbers in chosen]
    assert all((inputs["input"][:, 0] == labels * 2).all() for inputs, labels in batches)


def test_class_folders_that_differ(folder: Path, tmp_path: Path) -> None:
    (folder / "val" / "up").mkdir()
    (folder / "val" / "up" / "0.png").write_bytes((folder / "val" / "left" / "000.png").read_bytes())
    (folder / "val" / "right").rename(tmp_path / "gone")
    task = tasks.load(str(folder))
    data = {split: task.load(split) for split in ("train", "val")}
    with pytest.raises(InputError) as error:
        Train(model="cnn", epochs=1).apply({}, tmp_path, Context(task, data, quiet, logging.getLogger("t")))
    assert "differ" in error.value.what
    assert error.value.why == "only train has 'right'; only val has 'up'"


def test_folds_of_a_streamed_set_are_refused(folder: Path, tmp_path: Path) -> None:
    task = tasks.load(f"{folder}?stream=true")
    data = {split: task.load(split) for split in ("train", "val")}
    step = replace(Train(model="cnn", epochs=1), folds=2)
    with pytest.raises(InputError, match="cannot be split into folds"):
        step.apply({}, tmp_path, Context(task, data, quiet, logging.getLogger("t")))


def _npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones(3, np.float32))
    return file.getvalue()
