"""Data as a task: splits, classes or values, and what the shipped networks are built with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgekit import tasks
from edgekit.core.errors import InputError
from edgekit.runs import named_sets


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def table(name: str, label: str, rows: int = 100) -> None:
    lines = [f"{i},{i * i % 7},{eval(label, {'i': i})}" for i in range(rows)]
    Path(name).write_text("\n".join(["a,b,label", *lines]) + "\n")


def photos(folder: str = "photos", size: tuple[int, int] = (12, 10)) -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    rng = np.random.default_rng(0)
    for i in range(60):
        place = Path(folder, ("cat", "dog")[i % 2], f"{i}.png")
        place.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(place)


def test_classes_of_a_table() -> None:
    table("a.csv", "'xy'[i % 2]")
    task = tasks.load("a.csv")
    assert task.name == "a.csv" and task.classes == ("x", "y") and (task.models, task.fallback) == ((), "mlp")
    assert task.arguments("net.py:Net") == {}
    parts = [task.load(split) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == 100 and len(parts[0]) > 60
    assert task.load("val").name == "a.csv:val"
    outputs, labels = np.eye(2)[[0, 1, 1]], np.array([0, 1, 0])
    assert task.score({"o": outputs}, labels).name == "accuracy"
    with pytest.raises(InputError, match="no split 'valid'"):
        task.load("valid")


def test_values_of_a_table() -> None:
    table("a.csv", "i / 2")
    task = tasks.load("a.csv")
    assert task.classes == ()
    assert task.score({"o": np.array([[1.0], [2.0]])}, np.array([1.0, 3.0])).name == "R²"
    table("b.csv", "i")
    assert tasks.load("b.csv?labels=values").classes == ()
    assert tasks.load("b.csv?labels=values").load("val").labels.dtype == np.float32  # type: ignore[union-attr]


def test_the_network_for_tables_takes_raw_values() -> None:
    """Columns of any scale, and labels in their own unit: the network holds what standardizes them."""
    torch = pytest.importorskip("torch")
    from edgekit.networks import named

    rows = [f"{i / 7},{1e6 + i % 5},3,{5000.5 + 100 * i}" for i in range(200)]
    Path("a.csv").write_text("\n".join(["a,b,constant,label", *rows]) + "\n")
    task = tasks.load("a.csv")
    arguments = task.arguments("mlp")
    inputs, labels = task.load("train").inputs["input"], np.asarray(task.load("train").labels)
    assert arguments["shape"] == [3] and arguments["outputs"] == 1
    assert arguments["mean"] == pytest.approx(inputs.mean(axis=0, dtype=np.float64))
    assert arguments["std"] == pytest.approx([inputs[:, 0].std(), inputs[:, 1].std(dtype=np.float64), 1.0])
    network = named.build("mlp", arguments).eval()
    hidden = network.normalize(torch.from_numpy(inputs)).detach().numpy()
    assert np.abs(hidden.mean(axis=0)).max() < 0.1 and hidden[:, :2].std(axis=0) == pytest.approx([1, 1], abs=0.1)
    outputs = network(torch.from_numpy(inputs)).detach().numpy()
    assert outputs.shape == (len(labels), 1) and abs(outputs.mean() - labels.mean()) < labels.std()

    table("b.csv", "'xyz'[i % 3]")
    assert tasks.load("b.csv").arguments("mlp")["outputs"] == 3
    assert "label_mean" not in tasks.load("b.csv").arguments("mlp")


def test_networks_for_arrays() -> None:
    """By their shape: rows, or images."""
    labels = np.arange(40) % 2
    np.savez("rows.npz", input=np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32), label=labels)
    np.savez("images.npz", input=np.zeros((40, 3, 16, 16), np.uint8), label=labels)
    np.savez("two.npz", a=np.zeros((40, 5)), b=np.zeros((40, 5)), label=labels)
    assert (tasks.load("rows.npz").models, tasks.load("rows.npz").fallback) == ((), "mlp")
    assert tasks.load("rows.npz").arguments("mlp")["outputs"] == 2
    assert tasks.load("images.npz").models[0] == "cnn" and tasks.load("two.npz").fallback == ""


def test_the_network_for_tables_takes_one_input() -> None:
    lines = [f'{{"wave": [{i}.5, 2], "a": {i}, "label": "{"xy"[i % 2]}"}}' for i in range(50)]
    Path("a.jsonl").write_text("\n".join(lines))
    with pytest.raises(InputError, match="takes one input") as caught:
        tasks.load("a.jsonl").arguments("mlp")
    assert "wave" in caught.value.why and "columns" in caught.value.next
    assert tasks.load("a.jsonl?columns=wave").arguments("mlp")["shape"] == [2]


def test_a_class_means_the_same_in_every_split() -> None:
    table("a.csv", "'rare' if i == 50 else 'often' if i % 2 else 'zebra'")
    labels = [tasks.load("a.csv").load(split).labels for split in ("train", "val", "test")]
    counts = [np.bincount(found, minlength=3).tolist() for found in labels]  # type: ignore[arg-type]
    assert np.sum(counts, axis=0).tolist() == [50, 1, 49], "classes: often, rare, zebra"


def test_images_for_the_shipped_networks() -> None:
    torch = pytest.importorskip("torch")
    from edgekit.networks import named

    photos(size=(32, 24))
    task = tasks.load("photos")
    assert task.models == ("cnn", "ds-cnn", "resnet8", "mobilenet-v1", "vit") and task.classes == ("cat", "dog")
    arguments = task.arguments("cnn")
    assert arguments["shape"] == [3, 32, 24] and arguments["classes"] == 2
    images = task.load("train").inputs["input"]
    assert arguments["mean"] == pytest.approx(images.mean(axis=(0, 2, 3)), rel=1e-3)
    assert arguments["std"] == pytest.approx(images.std(axis=(0, 2, 3)), rel=1e-3)
    for model in task.models:
        network = named.build(model, task.arguments(model)).eval()
        assert network(torch.from_numpy(images[:2]).float()).shape == (2, 2)
    gray = tasks.load("photos?channels=1&size=28&scale=255").arguments("cnn")
    assert gray["shape"] == [1, 28, 28] and 0 < gray["mean"][0] < 1


def test_what_cannot_be_a_task() -> None:
    Path("a.csv").write_text("a,b\n1,2\n3,4\n")
    with pytest.raises(InputError, match="no labels") as error:
        tasks.load("a.csv").arguments("net.py:Net")
    assert "label" in error.value.next
    table("b.csv", "1")
    table("c.csv", "'x'")
    with pytest.raises(InputError, match="one class only"):
        tasks.load("c.csv").arguments("net.py:Net")
    with pytest.raises(InputError, match="one class only"):
        tasks.load("b.csv").load("train")
    table("d.csv", "i / 2")
    with pytest.raises(InputError, match="classifies images"):
        tasks.load("d.csv").arguments("cnn")
    with pytest.raises(InputError, match="no such file"):
        tasks.load("absent.csv").arguments("net.py:Net")


@pytest.mark.parametrize(
    ("word", "stem"),
    [
        ("mnist", "mnist"),
        ("data/houses.csv?label=price", "houses"),
        ("shards-{000..003}.tar", "shards"),
        ("house.py:Houses", "house"),
        ("./photos", "photos"),
    ],
)
def test_what_its_run_is_called(word: str, stem: str) -> None:
    Path("photos").mkdir()
    assert tasks.stem(word) == stem


def test_a_name_wins_over_a_folder() -> None:
    Path("mnist").mkdir()
    Path("fashion-mnist").mkdir()
    assert tasks.load("mnist").classes[0] == "0"
    with pytest.raises(InputError, match="no samples"):
        named_sets.load("./fashion-mnist")
    with pytest.raises(InputError) as error:
        named_sets.load("fashion-mnist")
    assert "./fashion-mnist" in error.value.next


def test_loading_a_task_by_name_needs_no_numpy() -> None:
    code = "import sys; import edgekit.tasks; assert not {'numpy', 'torch', 'PIL'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
