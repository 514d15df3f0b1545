"""The way of a user's own classifier into a bundle: her package, her transform, her checkpoint, her photos."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import users_project
from helpers import Ended
from outside import FOLDERS, torchvision

from edgekit.core.errors import CheckFailed
from edgekit.workflows import deploy
from edgekit.workflows.deploy import bundle

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project with its trained checkpoint, as the current folder."""
    torchvision()
    users_project.write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([os.environ.get("PYTHONPATH", ""), *FOLDERS]))
    model, data = importlib.import_module("shopvision.model"), importlib.import_module("shopvision.data")
    inputs, labels = stacked(tmp_path, "train", data.val)
    net = users_project.trained(model.Net(), inputs, labels)
    state = {f"model.{name}": value for name, value in net.state_dict().items()}
    torch.save({"epoch": 11, "state_dict": state, "hyper_parameters": {"lr": 3e-3}}, tmp_path / "last.ckpt")
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "shopvision"]:
        del sys.modules[name]


def stacked(folder: Path, split: str, transform: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, 3, 32, 32) and (N,), as her own code reads the photos."""
    pairs = list(users_project.samples(folder, split, transform))
    return torch.stack([image for image, _ in pairs]), torch.tensor([label for _, label in pairs])


def right(bundle: Path, photos: list[Path]) -> float:
    """The share of photos whose folder the bundle's own program names first."""
    command = [sys.executable, bundle / "predict.py", "--json", *photos]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": os.environ["PATH"]})
    answers = [json.loads(line)["classes"][0]["class"] for line in ended.stdout.splitlines()]
    assert len(answers) == len(photos)
    return sum(answer == photo.parent.name for answer, photo in zip(answers, photos, strict=True)) / len(photos)


@pytest.mark.timeout(900)
def test_the_bundles_program_is_as_right_as_her_own_code(cli: Callable[..., Ended], project: Path) -> None:
    model, data = importlib.import_module("shopvision.model"), importlib.import_module("shopvision.data")
    net = model.Net()
    stored = torch.load(project / "last.ckpt", weights_only=True)["state_dict"]
    net.load_state_dict({name.removeprefix("model."): value for name, value in stored.items()})
    inputs, labels = stacked(project, "val", data.val)
    with torch.inference_mode():
        own = float((net.eval()(inputs).argmax(1) == labels).float().mean())
    assert own > 0.5, "six classes: chance is a sixth"

    words = ("--signature", "shopvision/data.py:val", "--classes", "shopvision/data.py:CLASSES", "--out", "run")
    done = cli("import", "last.ckpt", "--model", "shopvision/model.py:make", *words)
    assert done.code == 0, done.err
    assert "shorter side to 36" in done.err and "tomato, plum" in done.err
    formats = ("onnx", "tflite", "openvino")
    sets = ("--calibration", "data/train", "--val", "data/val", "--methods", "min-max")
    done = cli("quantize", "run", "--int8", "--to", ",".join(formats), *sets)
    assert done.code == 0, done.err
    photos = sorted((project / "data" / "val").rglob("*.jpg"))
    for name in formats:
        done = cli("deploy", f"run/{name}-int8", "--bundle", name, "--data", "data/val", "--json")
        assert done.code == 0, done.err
        replayed = done.json["result"]["check"]["files"]
        assert replayed["count"] == 32 and replayed["correct"] >= replayed["correct_host"] - 1
        # int8 is within its budget of float; its own error apart, files must cost nothing
        measured = json.loads((project / "run" / f"{name}-int8" / "artifact.json").read_text())
        assert measured["outputs"][0]["signature"]["classes"] == list(users_project.CLASSES)
        assert right(project / name, photos) >= own - 0.025
    assert cli("export", "run", "--to", "onnx").code == 0
    assert cli("deploy", "run/onnx", "--bundle", "float", "--data", "data/val").code == 0
    assert right(project / "float", photos) == pytest.approx(own, abs=0.005)


@pytest.mark.timeout(300)
def test_a_bundle_whose_program_is_worse_is_refused(
    cli: Callable[..., Ended], project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that forgets mean and std answers otherwise on files, and as before on arrays."""
    words = ("--signature", "shopvision/data.py:signature", "--out", "run")
    assert cli("import", "last.ckpt", "--model", "shopvision/model.py:make", *words).code == 0
    assert cli("export", "run", "--to", "onnx").code == 0
    kept = bundle.array_record

    def forgets(*args: Any) -> dict[str, Any]:
        return {key: value for key, value in kept(*args).items() if key not in ("mean", "std", "scale")}

    monkeypatch.setattr(bundle, "array_record", forgets)
    with pytest.raises(CheckFailed, match="own program"):
        deploy.write_bundle("run/onnx", project / "out", data="data/val")
    assert not (project / "out").exists()
