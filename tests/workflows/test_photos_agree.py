"""The same photos through torchvision and torch, and through edgekit's reading and its exports: the same classes."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from outside import torchvision
from PIL import Image

from edgekit.core.artifact import Artifact
from edgekit.core.signature import InputSignature, Resize
from edgekit.core.target import Plan
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.networks.signatures.torchvision_ import of_transform
from edgekit.runs import named_sets
from edgekit.runs.store import Store
from edgekit.tasks.shared.cutouts import PACKAGE, STAMPS
from edgekit.workflows import export, import_

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

Transform = Callable[[Image.Image], torch.Tensor]
Floats = NDArray[np.float32]

COUNT, SIDE, CLASSES = 520, 32, 8
INTERPOLATIONS = ("nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos")
#: two classes are a tie if their logits differ by less than this share of the range of all logits
TIE = 1e-3

TRANSFORM = f"""
from torchvision import transforms

val = transforms.Compose([
    transforms.Resize(36),
    transforms.CenterCrop({SIDE}),
    transforms.ToTensor(),
    transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
])
"""

NET = f"""
import torch
from torch import nn


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


def make():
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32 * 4, {CLASSES}), nn.BatchNorm1d({CLASSES}))
    return nn.Sequential(block(3, 16), block(16, 32), head), torch.zeros(1, 3, {SIDE}, {SIDE})
"""


def encoded(image: Image.Image, index: int, path: Path) -> None:
    """One photo as a file of one of many kinds."""
    image.thumbnail((120, 120))
    colour, kind = image.convert("RGB"), index % 10
    turned = Image.Exif()
    turned[0x0112] = 2 + index % 7
    width, height = colour.size
    if kind == 0:
        colour.save(f"{path}.jpg", quality=90)
    elif kind == 1:
        colour.crop((width // 5, height // 7, width - width // 8, height - height // 9)).save(f"{path}.jpg", quality=75)
    elif kind == 2:
        colour.resize((width // 2 + 9, height // 3 + 9)).save(f"{path}.jpg", quality=50, subsampling=2)
    elif kind == 3:
        colour.save(f"{path}.jpg", exif=turned)
    elif kind == 4:
        image.convert("L").save(f"{path}.jpg")
    elif kind == 5:
        colour.convert("CMYK").save(f"{path}.jpg")
    elif kind == 6:
        colour.quantize(30).save(f"{path}.png", transparency=2)
    elif kind == 7:
        image.convert("RGBA").save(f"{path}.png")
    elif kind == 8:
        colour.save(f"{path}.ppm")
    else:
        image.convert("LA").save(f"{path}.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    stamps = sorted(STAMPS.rglob("*.png"))[:COUNT]
    if len(stamps) < COUNT:
        pytest.skip(f"needs {COUNT} photographs: sudo apt install {PACKAGE}")
    folder = tmp_path_factory.mktemp("agree") / "photos"
    folder.mkdir()
    for index, stamp in enumerate(stamps):
        with Image.open(stamp) as image:
            encoded(image.convert("RGBA"), index, folder / f"{index:03}")
    return folder


@cache
def decoded(folder: Path) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted(folder.iterdir())]


def stacked(folder: Path, transform: Transform) -> torch.Tensor:
    return torch.stack([transform(image) for image in decoded(folder)])


class Project:
    """The network, with BatchNorm calibrated on the photos, and its artifacts."""

    def __init__(self, photos: Path) -> None:
        torchvision()
        folder, run = photos.parent, photos.parent / "run"
        (folder / "net.py").write_text(NET)
        (folder / "data.py").write_text(TRANSFORM)
        self.photos = photos
        self.transform = runpy.run_path(str(folder / "data.py"))["val"]
        self.net = runpy.run_path(str(folder / "net.py"))["make"]()[0]
        for module in self.net.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.momentum = None
        with torch.inference_mode():
            for _ in range(3):
                self.net.train()(stacked(photos, self.transform))
        self.net.eval()
        torch.save(self.net.state_dict(), folder / "net.pt")
        code = {"model": f"{folder}/net.py:make", "signature": f"{folder}/data.py:val"}
        import_.import_model(str(folder / "net.pt"), out=run, **code)
        outcome = export.export(str(run), to=["onnx", "tflite", "openvino"])
        assert not outcome.failures
        self.store = Store(run)

    def logits(self, folder: Path, transform: Transform) -> Floats:
        with torch.inference_mode():
            return np.asarray(self.net(stacked(folder, transform)))

    def artifact(self, signature: InputSignature) -> Artifact:
        """The ONNX artifact with another preprocessing."""
        artifact = self.store.get("onnx")
        stored = artifact.inputs[0].signature
        assert isinstance(stored, InputSignature)
        signature = replace(signature, layout=stored.layout, name=stored.name, colour=stored.colour)
        return replace(artifact, inputs=(replace(artifact.inputs[0], signature=signature),))


@pytest.fixture(scope="module")
def project(photos: Path) -> Iterator[Project]:
    yield Project(photos)
    decoded.cache_clear()


def compare(artifact: Artifact, folder: Path, expected: Floats) -> None:
    """The classes agree on all photos but ties, of which there are few."""
    data = named_sets.load(str(folder), artifact.inputs)
    assert len(data) == len(expected)
    run = execute(artifact, targets.load("host"), data, Plan(), latency=False)
    got = next(iter(run.outputs.values()))
    assert got.shape == expected.shape
    ordered = np.sort(expected, axis=1)
    tied = ordered[:, -1] - ordered[:, -2] < TIE * np.ptp(expected)
    assert tied.mean() < 0.05
    counts = np.bincount(expected.argmax(1), minlength=CLASSES) / len(expected)
    assert np.sum(counts > 0.03) >= CLASSES // 2, "the classes vary"
    differ = np.flatnonzero((got.argmax(1) != expected.argmax(1)) & ~tied)
    worst = np.abs(got - expected).max() / np.ptp(expected)
    print(f"{artifact.name}: {len(got)} photos, {tied.sum()} ties, logits within {worst:.1e} of their range")
    assert worst < 1e-4, "the same pixels"
    assert not len(differ), (
        f"{len(differ)} of {len(got)} differ: {[sorted(folder.iterdir())[i].name for i in differ[:5]]}"
    )


def composed(*parts: Any) -> Any:
    transforms = torchvision().transforms
    normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    return transforms.Compose([*parts, transforms.ToTensor(), normalize])


def resize(size: int | tuple[int, int], interpolation: str) -> Any:
    transforms = torchvision().transforms
    return transforms.Resize(size, transforms.InterpolationMode(interpolation))


def centre() -> Any:
    return torchvision().transforms.CenterCrop(SIDE)


@pytest.mark.parametrize("format", ["onnx", "tflite", "openvino"])
def test_every_format(project: Project, format: str) -> None:
    expected = project.logits(project.photos, project.transform)
    compare(project.store.get(format), project.photos, expected)


@pytest.mark.parametrize("mode", ["stretch", "shortest"])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_interpolation(project: Project, mode: str, interpolation: str) -> None:
    stretch = composed(resize((SIDE, SIDE), interpolation))
    transform = stretch if mode == "stretch" else composed(resize(41, interpolation), centre())
    artifact = project.artifact(of_transform(transform))
    compare(artifact, project.photos, project.logits(project.photos, transform))


def test_a_crop_alone(project: Project) -> None:
    """Smaller photos get a margin of zeros."""
    transform = composed(centre())
    compare(project.artifact(of_transform(transform)), project.photos, project.logits(project.photos, transform))


def test_photos_of_the_models_size(project: Project, tmp_path: Path) -> None:
    for path in sorted(project.photos.iterdir())[::2]:
        with Image.open(path) as image:
            image.convert("RGB").resize((SIDE, SIDE)).save(tmp_path / f"{path.stem}.jpg")
    transform = composed()
    compare(project.artifact(of_transform(transform)), tmp_path, project.logits(tmp_path, transform))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_letterbox(project: Project, interpolation: str) -> None:
    def letterboxed(image: Image.Image) -> Image.Image:
        """As Ultralytics' LetterBox, with Pillow's resize."""
        ratio = min(SIDE / image.width, SIDE / image.height)
        width, height = max(1, round(image.width * ratio)), max(1, round(image.height * ratio))
        whole = Image.new("RGB", (SIDE, SIDE), (114, 114, 114))
        corner = round((SIDE - width) / 2 - 0.1), round((SIDE - height) / 2 - 0.1)
        whole.paste(image.resize((width, height), Image.Resampling[interpolation.upper()]), corner)
        return whole

    plain = composed()
    signature = replace(
        of_transform(plain),
        resize=Resize("letterbox", SIDE, 114.0),
        interpolation=interpolation,  # type: ignore[arg-type]
    )
    expected = project.logits(project.photos, lambda image: plain(letterboxed(image)))
    compare(project.artifact(signature), project.photos, expected)
