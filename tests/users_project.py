"""A project as people have them: a package, torchvision transforms, a Lightning checkpoint, folders of JPEGs.

The photos are of mixed sizes; some are turned by EXIF data, some gray, some CMYK. Their classes differ in colour and in
direction, so that a wrong order of channels, a missing mean or a squeezed image shows in the accuracy.
"""

from __future__ import annotations

import io
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from outside import SHIM
from PIL import Image, ImageOps
from torch import nn

#: by name, the colour (red, green, blue) and the angle of the stripes; the order is not the alphabetical one
CLASSES = {
    "tomato": ((200, 60, 50), 0),
    "plum": ((70, 60, 190), 0),
    "lime": ((80, 180, 70), 0),
    "brick": ((190, 70, 55), 90),
    "ink": ((60, 70, 180), 90),
    "leaf": ((70, 170, 80), 90),
}

MODEL = """
from torch import nn

from .blocks import block


class Net(nn.Module):
    def __init__(self, classes=6):
        super().__init__()
        self.features = nn.Sequential(block(3, 16, 2), block(16, 32, 2), block(32, 48, 2))
        self.head = nn.Linear(48, classes)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def make():
    import torch

    return Net(), torch.zeros(1, 3, 32, 32)
"""

BLOCKS = """
from torch import nn


def block(width, out, stride):
    conv = nn.Conv2d(width, out, 3, stride, 1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU())
"""

DATA = """
{shim}
from torchvision import transforms as T

CLASSES = {classes}

train = T.Compose(
    [T.RandomResizedCrop(32), T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
)
val = T.Compose(
    [T.Resize(36), T.CenterCrop(32), T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
)


def signature():
    return {{"transform": val, "classes": CLASSES}}
"""


def write(folder: Path, photos: int = 40) -> None:
    """The package `shopvision`, trained, as `last.ckpt`, and `data/{train,val}/CLASS/*.jpg`, `photos` of each class."""
    package = folder / "shopvision"
    package.mkdir()
    data = DATA.format(shim=SHIM, classes=list(CLASSES))
    for name, text in {"__init__.py": "", "blocks.py": BLOCKS, "model.py": MODEL, "data.py": data}.items():
        (package / name).write_text(textwrap.dedent(text).lstrip())
    rng = np.random.default_rng(0)
    for split, count in (("train", photos), ("val", photos // 2)):
        for label in CLASSES:
            (folder / "data" / split / label).mkdir(parents=True)
            for index in range(count):
                (folder / "data" / split / label / f"{index:03}.jpg").write_bytes(photo(label, index, rng))


def photo(label: str, index: int, rng: np.random.Generator) -> bytes:
    """A JPEG of stripes: every fifth stored on its side with EXIF data, some gray, some CMYK."""
    colour, angle = CLASSES[label]
    height, width = (int(side) for side in rng.integers(40, 130, 2))
    along = np.arange(height)[:, None] if angle == 0 else np.arange(width)[None, :]
    wave = 0.75 + 0.35 * np.sin(along / rng.uniform(2.0, 3.5) + rng.uniform(0, 6))
    pixels = np.broadcast_to(wave, (height, width))[..., None] * (np.array(colour) + rng.normal(0, 12, 3))
    image = Image.fromarray(np.clip(pixels + rng.normal(0, 30, (height, width, 3)), 0, 255).astype(np.uint8))
    exif = Image.Exif()
    if index % 5 == 0:
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = 6  # to be seen turned by 90 degrees clockwise
    image = image.convert("CMYK") if index % 7 == 3 else image.convert("L") if index % 11 == 6 else image
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, exif=exif.tobytes())
    return file.getvalue()


def samples(folder: Path, split: str, transform: Any) -> Iterator[tuple[torch.Tensor, int]]:
    """As her own code reads them: torchvision's ImageFolder loader, and her transform."""
    for index, label in enumerate(CLASSES):
        for path in sorted((folder / "data" / split / label).iterdir()):
            yield transform(Image.open(path).convert("RGB")), index


def trained(net: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, epochs: int = 12) -> nn.Module:
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(inputs[batch]), labels[batch]).backward()
            optimizer.step()
    return net.eval()


def upright(path: Path) -> Image.Image:
    """The photo as a person sees it."""
    seen = ImageOps.exif_transpose(Image.open(path))
    assert seen is not None
    return seen.convert("RGB")
