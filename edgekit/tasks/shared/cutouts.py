"""Synthetic images: photographed objects, cut out and pasted on photographs, so that masks and boxes are exact.

The objects are the cut-outs of Debian's `tuxpaint-stamps-default`, the backgrounds photographs in scikit-image's wheel.
A picture depends only on its number. Each object is in one split only; all splits share the fourteen photographs, in
random crops.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, Missing
from edgekit.tasks.shared import downloads

STAMPS = Path("/usr/share/tuxpaint/stamps")
PACKAGE = "tuxpaint-stamps-default"
CARRIER = ("scikit-image", "0.26.0")
LICENCES = ("Tux Paint stamps (public domain and GPL-2.0)", "scikit-image sample photographs (BSD-3-Clause, CC0)")
#: class → folders of stamps
CLASSES = {"animal": ("animals",), "food": ("food",), "plant": ("plants",)}
#: photographs that show none of these classes
BACKGROUNDS = (
    *("astronaut.png", "brick.png", "camera.png", "coffee.png", "coins.png", "grass.png", "gravel.png"),
    *("hubble_deep_field.jpg", "ihc.png", "moon.png", "page.png", "retina.jpg", "rocket.jpg", "text.png"),
)
SIZE = 64
COUNTS = {"train": 4000, "val": 500, "test": 1000}
OFFSET = {"train": 0, "val": 1 << 20, "test": 1 << 21}

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """(3, S, S) pixels; the class of each pixel, 0 for the background; boxes (class from 0, x, y, width, height)."""

    pixels: Pixels
    mask: Pixels
    boxes: tuple[tuple[float, ...], ...]


def pictures(split: str, count: int = 0) -> list[Picture]:
    """The first `count` pictures of a split (0: all). Raises InputError if stamps or photographs are not available."""
    return [_compose(split, number) for number in range(count or COUNTS[split])]


def _compose(split: str, number: int) -> Picture:
    """One to three objects on a crop of a photograph; an object more than half hidden gets no box."""
    rng = np.random.default_rng(OFFSET[split] + number)
    cutouts, backgrounds = _cutouts()[split], _backgrounds()
    pixels = _crop(backgrounds[rng.integers(len(backgrounds))], rng)
    mask = np.zeros((SIZE, SIZE), np.uint8)
    owner = np.zeros((SIZE, SIZE), np.int64)
    pasted: list[tuple[int, int]] = []
    for index in range(1, 1 + int(rng.integers(1, 4))):
        class_index = int(rng.integers(len(cutouts)))
        stamp = cutouts[class_index][rng.integers(len(cutouts[class_index]))]
        region, alpha = _paste(pixels, stamp, rng)
        mask[region][alpha > 0.5] = class_index + 1
        owner[region][alpha > 0.5] = index
        pasted.append((class_index, int((alpha > 0.5).sum())))
    boxes = []
    for index, (class_index, size) in enumerate(pasted, 1):
        rows, columns = np.nonzero(owner == index)
        if len(rows) > size / 2:
            x, y = int(columns.min()), int(rows.min())
            boxes.append((class_index, x, y, int(columns.max()) + 1 - x, int(rows.max()) + 1 - y))
    return Picture(np.ascontiguousarray(pixels.astype(np.uint8).transpose(2, 0, 1)), mask, tuple(boxes))


def _crop(photo: Pixels, rng: np.random.Generator) -> NDArray[np.float32]:
    """A random square crop, 64 pixels or more, resized, randomly flipped and changed in brightness."""
    from PIL import Image

    side = int(rng.integers(SIZE, min(photo.shape[:2]) + 1))
    top, left = (int(rng.integers(0, extent - side + 1)) for extent in photo.shape[:2])
    part = np.asarray(Image.fromarray(photo[top : top + side, left : left + side]).resize((SIZE, SIZE)))
    part = part[:, ::-1] if rng.random() < 0.5 else part
    return np.clip(part * rng.uniform(0.6, 1.3), 0, 255).astype(np.float32)


def _paste(
    pixels: NDArray[np.float32], stamp: Pixels, rng: np.random.Generator
) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
    """Paste a whole stamp at a random position, its longer side 18 to 44 pixels; returns the region and its alpha."""
    from PIL import Image

    scale = int(rng.integers(18, 45)) / max(stamp.shape[:2])
    height, width = (max(4, round(side * scale)) for side in stamp.shape[:2])
    small = np.asarray(Image.fromarray(stamp).resize((width, height)), np.float32)
    small = small[:, ::-1] if rng.random() < 0.5 else small
    top, left = int(rng.integers(0, SIZE - height + 1)), int(rng.integers(0, SIZE - width + 1))
    region = slice(top, top + height), slice(left, left + width)
    alpha = (small[..., 3] / 255).astype(np.float32)
    colour = np.clip(small[..., :3] * rng.uniform(0.7, 1.2), 0, 255)
    pixels[region] = pixels[region] * (1 - alpha[..., None]) + colour * alpha[..., None]
    return region, alpha


@cache
def _cutouts() -> dict[str, list[list[Pixels]]]:
    """Split (7:1:2) → class → cut-outs (h, w, 4), at most 64 pixels, cropped to the opaque part."""
    folder = downloads.debian(PACKAGE, STAMPS) / STAMPS.relative_to("/")
    image = _pillow()
    cutouts: dict[str, list[list[Pixels]]] = {split: [[] for _ in CLASSES] for split in COUNTS}
    for class_index, folders in enumerate(CLASSES.values()):
        files = sorted(path for name in folders for path in (folder / name).rglob("*.png"))
        files = [f for f in files if "cartoon" not in f.parts and "_mirror" not in f.stem]
        files.sort(key=lambda path: hashlib.sha256(path.name.encode()).digest())
        for rank, file in enumerate(files):
            with image.open(file) as picture:
                rgba = picture.convert("RGBA")
            box = rgba.getchannel("A").point(lambda value: 255 * (value > 127)).getbbox()
            if box is None:
                continue
            rgba = rgba.crop(box)
            rgba.thumbnail((SIZE, SIZE))
            fraction = rank / len(files)
            split = "test" if fraction < 0.2 else "val" if fraction < 0.3 else "train"
            cutouts[split][class_index].append(np.asarray(rgba))
    if not all(kinds for split in cutouts.values() for kinds in split):
        raise InputError(
            f"{folder} lacks stamps of some class", "the package is another version", "install Debian's version"
        )
    return cutouts


@cache
def _backgrounds() -> list[Pixels]:
    image = _pillow()
    cutouts = []
    with zipfile.ZipFile(downloads.wheel(*CARRIER)) as archive:
        for name in BACKGROUNDS:
            with image.open(io.BytesIO(archive.read(f"skimage/data/{name}"))) as picture:
                photo = picture.convert("RGB")
            photo.thumbnail((256, 256))
            cutouts.append(np.asarray(photo))
    return cutouts


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise Missing.install("reading images", "pillow", "images") from error
    return Image
