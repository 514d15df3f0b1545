"""What a word names: a run, an artifact in it, a model from elsewhere, or nothing that is there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from edgekit.core.errors import InputError
from edgekit.runs import references
from edgekit.runs.references import DIRECTORY, NETWORK, RUNS
from edgekit.runs.store import Store


def test_a_run_and_an_artifact(bars_made: Path) -> None:
    whole = references.resolve(str(bars_made))
    assert (whole.store.path, whole.name, whole.foreign) == (bars_made, "", "")
    one = references.resolve(f"{bars_made}/onnx-int8")
    assert (one.store.path, one.name) == (bars_made, "onnx-int8")
    assert references.load(str(bars_made)).name == references.float_root(Store(bars_made)) == "torch"
    assert references.load(f"{bars_made}/onnx").name == "onnx"


def test_a_run_folder_to_work_in(bars_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is made from an artifact is stored beside it; that no other folder is used is said, not passed over."""
    monkeypatch.chdir(bars_made.parent)
    for text in ("run", "run/onnx"):
        assert references.resolve(text, bars_made).store.path == Path("run")
        with pytest.raises(InputError, match="is in the run run") as caught:
            references.resolve(text, tmp_path)
        assert "--out" in caught.value.next and str(tmp_path) in caught.value.why
    assert references.resolve(None, bars_made).store.path == bars_made
    with pytest.raises(InputError, match="there are no artifacts in"):
        references.resolve(None, tmp_path)


def test_a_misspelt_artifact(bars_made: Path) -> None:
    with pytest.raises(InputError, match="no artifact 'onx'") as caught:
        references.resolve(f"{bars_made}/onx")
    assert "onnx" in caught.value.next


@pytest.mark.parametrize(
    ("text", "importer", "run"),
    [
        ("a/model.onnx", "import_onnx", "model"),
        ("m.tflite", "import_tflite", "m"),
        ("m.xml", "import_openvino", "m"),
        ("m.pt2", "import_pt2", "m"),
        ("m.keras", "import_keras", "m"),
        ("folder/net.py:make", NETWORK, "net"),
    ],
)
def test_models_from_elsewhere(text: str, importer: str, run: str, tmp_path: Path) -> None:
    found = references.resolve(text)
    assert (found.foreign, found.importer, found.store.path) == (text, importer, RUNS / run)
    assert references.resolve(text, tmp_path / "own").store.path == tmp_path / "own"
    with pytest.raises(InputError, match="is not in a run yet"):
        references.load(text)


def test_a_folder_with_a_configuration_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model-1.5").mkdir()
    with pytest.raises(InputError, match="there are no artifacts"):
        references.resolve("model-1.5")
    (tmp_path / "model-1.5" / "config.json").write_text("{}")
    for text in ("model-1.5", "model-1.5/", "./model-1.5/."):
        found = references.resolve(text)
        assert (found.importer, found.store.path) == (DIRECTORY, RUNS / "model-1.5")
    monkeypatch.chdir(tmp_path / "model-1.5")
    assert references.resolve(".").store.path == RUNS / "model-1.5"


def test_what_is_a_model_file() -> None:
    assert (
        references.is_model_file("a/b.onnx")
        and not references.is_model_file("runs/mnist")
        and not references.is_model_file("a.csv")
    )


def test_nothing_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there is no run"):
        references.resolve(None)
    with pytest.raises(InputError, match="there are no artifacts in empty"):
        references.resolve("empty")
    with pytest.raises(InputError, match="neither a run nor an artifact"):
        references.resolve("nothing")


def test_the_newest_run(bars_made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("first", "second"):
        shutil.copytree(bars_made, tmp_path / RUNS / name)
    for path in (tmp_path / RUNS / "second").rglob("*"):
        os.utime(path, (1, 1))
    assert references.newest_run() == RUNS / "first"
    assert references.resolve(None).store.path == RUNS / "first"
