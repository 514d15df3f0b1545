"""Images with masks, as a segmentation network takes them; the labels are the masks where the decoder puts the images.

A mask is (H, W) uint8, the class of each pixel; 255 is ignored, as in Pascal VOC and Cityscapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError, Missing, os_errors
from edgekit.core.signature import InputSignature
from edgekit.sets.images import SUFFIXES, ImageDecoder
from edgekit.sets.options import Options
from edgekit.sets.reading import SPLIT_NAMES, Item, UnreadableSample

IGNORED = 255

IMAGES = ("images", "JPEGImages")
MASKS = ("masks", "annotations", "labels", "SegmentationClass")

#: of masks: formats that keep every value
LOSSLESS = (".png", ".bmp", ".tif", ".tiff", ".pgm")
#: between the stem of an image and the suffix of its mask
ENDINGS = ("", "_mask")

#: ADE20K has training and validation
SPLITS = {**SPLIT_NAMES, "training": "train", "testing": "test"}

#: the file of class names, one per line
CLASSES = "classes.txt"


@dataclass(frozen=True)
class _Pair:
    """`mask`: None if there is none; `folder` is where it should be."""

    image: Path
    mask: Path | None
    folder: Path
    split: str


def are_at(path: Path) -> bool:
    """Does the path name a folder of images with masks?"""
    if not path.is_dir():
        return False
    with os_errors("read", path):
        return bool(_folders(path))


def indices(path: Path) -> NDArray[np.uint8]:
    """(H, W) values of a mask. Raises InputError for one in colour, UnreadableSample for one that is damaged."""
    try:
        from PIL import Image
    except ImportError as error:
        raise Missing.install("reading masks", "pillow", "images") from error
    try:
        with Image.open(path) as picture:
            mode, values = picture.mode, np.asarray(picture)
    except (OSError, SyntaxError, ValueError, EOFError, ArithmeticError, Image.DecompressionBombError) as error:
        why = str(error).partition("\n")[0] or "it is damaged"
        raise UnreadableSample(f"its mask {path.name}: {why}") from error
    if values.ndim != 2:
        why = f"its pixels are colours ({mode}), and no list says which class a colour is"
        raise InputError(f"{path} is not a mask", why, "save class indices in one channel: gray, or with a palette")
    if values.dtype != np.bool_ and (values.dtype.kind not in "iu" or values.min() < 0 or values.max() > IGNORED):
        raise UnreadableSample(f"its mask {path.name} holds values up to {values.max():g}; a class is 0 to 254")
    return values.astype(np.uint8)


def class_names(path: Path) -> tuple[str, ...]:
    """Those of a file with one per line. Raises InputError."""
    with os_errors("read", path):
        return tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


class MaskedImages:
    """Reads images with masks: `images/` and `masks/`, in or above split folders, or Pascal VOC's.

    Raises InputError for masks in a format that changes values, Missing.
    """

    def __init__(self, path: Path, options: Options, model_inputs: Sequence[TensorSpec]) -> None:
        with os_errors("read", path):
            self._pairs = list(_pairs(path))
        if not self._pairs:
            raise InputError(f"{path} holds no samples", "its folder of images is empty", "check the path")
        self._root, self._values = path, _class_of(options)
        self._decode = ImageDecoder(str(path), options, model_inputs)
        self.labelled = True
        self.splits = frozenset(pair.split for pair in self._pairs) - {""}
        self.count: int | None = len(self._pairs)
        self.classes = class_names(path / CLASSES) if (path / CLASSES).is_file() else ()

    def __iter__(self) -> Iterator[Item]:
        for pair in self._pairs:
            key = pair.image.relative_to(self._root).as_posix()
            reader = _Image(self, pair)
            yield Item(str(pair.image), key, None, reader.read, pair.split, reader.read, target=reader.mask)

    def decoded(self) -> Mapping[str, InputSignature]:
        return self._decode.decoded()

    def notes(self) -> tuple[str, ...]:
        return self._decode.notes()

    def read(self, image: Path) -> Mapping[str, NDArray[Any]]:
        return {self._decode.input: self._decode(image, str(image))}

    def mask(self, pair: _Pair) -> NDArray[np.uint8]:
        """The classes of the pixels that the model sees; 255 outside of the image. Raises UnreadableSample."""
        if pair.mask is None:
            raise UnreadableSample(f"it has no mask {pair.image.stem}.png in {pair.folder}")
        values, size = indices(pair.mask), self._decode.size_of(pair.image)
        if values.shape != size:
            has, image = ("x".join(map(str, shape)) for shape in (values.shape, size))
            raise UnreadableSample(f"its mask {pair.mask.name} is {has}, and the image {image} (height x width)")
        values = self._values[values]
        count = len(self.classes)
        if count and (unknown := sorted({int(v) for v in np.unique(values)} - {*range(count), IGNORED})):
            listed = ", ".join(map(str, unknown[:5]))
            raise UnreadableSample(f"its mask holds the class {listed}, and {CLASSES} names {count}, from 0")
        return self._decode.placed(values, IGNORED)


class _Image:
    """One image and its mask."""

    def __init__(self, reader: MaskedImages, pair: _Pair) -> None:
        self._reader, self._pair = reader, pair

    def read(self) -> Mapping[str, NDArray[Any]]:
        return self._reader.read(self._pair.image)

    def mask(self) -> NDArray[np.uint8]:
        return self._reader.mask(self._pair)


def _class_of(options: Options) -> NDArray[np.uint8]:
    """(256,) the class of each value that masks may hold, by the option `mask_values`."""
    if not options.mask_values:
        return np.arange(256, dtype=np.uint8)
    table = np.full(256, IGNORED, np.uint8)
    table[list(options.class_values)] = np.arange(len(options.class_values))
    return table


def _folders(root: Path) -> list[tuple[str, Path, Path]]:
    """(split, folder of images, folder of masks); nothing if the folder holds none."""
    for images in IMAGES:
        for masks in MASKS:
            inner = [name for name in SPLITS if _has_pictures(root / images / name)]
            below = [(SPLITS[name], root / images / name, root / masks / name) for name in inner]
            above = [(SPLITS[name], root / name / images, root / name / masks) for name in SPLITS]
            flat = [("", root / images, root / masks)]
            for layout in (below, above, flat):
                if found := [entry for entry in layout if _has_pictures(entry[1]) and _has_pictures(entry[2])]:
                    return found
    return []


def _has_pictures(folder: Path) -> bool:
    return folder.is_dir() and any(_is_picture(path) for path in folder.iterdir())


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _pairs(root: Path) -> Iterator[_Pair]:
    """Each image with its mask. Of a folder with Pascal VOC's names, those that have one, in its lists' splits."""
    for split, images, masks in _folders(root):
        files = {path.stem: path for path in sorted(masks.iterdir()) if _is_picture(path)}
        lossless = {stem: path for stem, path in files.items() if path.suffix.lower() in LOSSLESS}
        if not lossless:
            why = f"{next(iter(files.values())).name} is compressed with loss, which changes classes"
            raise InputError(f"{masks} holds no masks", why, "save them as PNG")
        listed = _listed(root) if masks.name == "SegmentationClass" else {}
        for image in sorted(path for path in images.iterdir() if _is_picture(path)):
            mask = next((lossless[image.stem + end] for end in ENDINGS if image.stem + end in lossless), None)
            if mask is not None or masks.name != "SegmentationClass":
                yield _Pair(image, mask, masks, split or listed.get(image.stem, ""))


def _listed(root: Path) -> dict[str, str]:
    """Stem → split, by Pascal VOC's lists of images for segmentation."""
    lists = {split: root / "ImageSets" / "Segmentation" / f"{split}.txt" for split in ("train", "val", "test")}
    return {stem: split for split, path in lists.items() if path.is_file() for stem in path.read_text().split()}
