"""Files that a bundle replays with its own program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from edgekit.core.errors import CheckFailed, InputError
from edgekit.ondevice.predict import shares
from edgekit.workflows import deploy, import_
from edgekit.workflows.deploy import bundle, replay

SIGNATURE = """
[[input]]
kind = "image"
resize = {mode = "stretch", size = 4}
scale = 0.00392156862745098
mean = [0.5, 0.5, 0.5]

[[output]]
kind = "logits"
classes = ["red", "green", "blue"]
"""
COLOURS = {"blue": (30, 40, 220), "green": (40, 200, 50), "red": (210, 30, 40)}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network that names the strongest colour of a picture, and forty pictures."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for label, colour in COLOURS.items():
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(14):
            height, width = rng.integers(4, 40, 2)
            pixels = np.clip(np.array(colour) + rng.normal(0, 20, (height, width, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{index}.png")
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["p"]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.eye(3, dtype=np.float32) * 5, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "colours.onnx")
    Path("colours.toml").write_text(SIGNATURE)
    import_.import_model("colours.onnx", signature="colours.toml", out=tmp_path / "run")
    return tmp_path


def test_a_bundle_replays_labelled_files(project: Path) -> None:
    done = deploy.write_bundle("run/onnx", project / "out", data="photos")
    files = done.check["files"]
    assert files == {**files, "count": 32, "top1_agreement": 1.0, "correct": 32, "correct_host": 32}
    assert (
        replay.sentence(done.check) == "32 files through its own program: 100.0% the host's answers, 32 right (host 32)"
    )
    manifest = json.loads((project / "out" / "manifest.json").read_text())
    labels = manifest["check"]["files"]["labels"]
    assert sorted(set(labels)) == [0, 1, 2] and min(map(labels.count, range(3))) >= 10, "from all classes"
    assert len(list((project / "out" / "check" / "files").iterdir())) == 32
    photo = project / "photos" / "green" / "0.png"
    ended = subprocess.run([sys.executable, "out/predict.py", photo], capture_output=True, text=True, cwd=project)
    assert ended.stdout.split(": ")[1].startswith("green") and not ended.stderr


def test_a_program_that_forgets_the_preprocessing_is_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = bundle.array_record

    def swapped(*args: Any) -> dict[str, Any]:
        return {**kept(*args), "colour": "BGR"}

    monkeypatch.setattr(bundle, "array_record", swapped)
    with pytest.raises(CheckFailed) as refused:
        deploy.write_bundle("run/onnx", project / "out", data="photos")
    assert "own program" in refused.value.why and not (project / "out").exists()


def test_probabilities_are_not_softmaxed_again() -> None:
    assert shares([0.7, 0.2, 0.1], "").tolist() == pytest.approx([0.7, 0.2, 0.1])
    assert shares([0.7, 0.2, 0.0], "probabilities").sum() == pytest.approx(1)
    assert shares([0.7, 0.2, 0.1], "logits")[0] < 0.5 and shares([3.0, -1.0], "")[0] > 0.9


def test_without_files_it_says_so(project: Path) -> None:
    done = deploy.write_bundle("run/onnx", project / "out")
    assert "files" not in done.check and replay.sentence(done.check) == ""
    (project / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="cannot be replayed"):
        deploy.write_bundle("run/onnx", project / "out", data="table.csv")


def test_class_names_in_another_order_are_no_better_than_chance(project: Path) -> None:
    turned = SIGNATURE.replace('"red", "green", "blue"', '"green", "blue", "red"')
    (project / "turned.toml").write_text(turned)
    import_.import_model("colours.onnx", signature="turned.toml", out=project / "turned")
    done = deploy.write_bundle("turned/onnx", project / "out", data="photos")
    assert "0 right (host 0); no better than chance" in replay.sentence(done.check)


def test_a_class_that_the_model_does_not_have(project: Path) -> None:
    (project / "photos" / "red").rename(project / "photos" / "crimson")
    with pytest.raises(InputError, match="'crimson'"):
        deploy.write_bundle("run/onnx", project / "out", data="photos")


def test_a_model_of_unknown_preprocessing_says_so(project: Path) -> None:
    import_.import_model("colours.onnx", out=project / "unknown")
    deploy.write_bundle("unknown/onnx", project / "out")
    photo = project / "photos" / "green" / "0.png"
    ended = subprocess.run([sys.executable, "out/predict.py", photo], capture_output=True, text=True, cwd=project)
    assert ended.returncode == 0 and "preprocessing is not known" in ended.stderr
