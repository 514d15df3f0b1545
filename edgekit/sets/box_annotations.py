"""Boxes drawn on images, as data sets hold them: COCO's JSON, or Ultralytics' YOLO layout.

Both become `Annotations`: per image its split and its boxes (n, 6): class, x, y, width, height in pixels of the image,
and 1 for a crowd, which is neither found nor missed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, Missing, os_errors
from edgekit.core.files import utf8_text
from edgekit.core.json import parse
from edgekit.core.relative_paths import problem
from edgekit.sets.images import SUFFIXES
from edgekit.sets.reading import SPLIT_NAMES

Boxes = NDArray[np.float32]

#: files that COCO's JSON is in besides `annotations/*.json`; the second is Roboflow's
COCO_FILES = ("annotations.json", "_annotations.coco.json")
YAML = (".yaml", ".yml")

#: how far a box may reach over the edge of its image: annotations are often rounded
PIXELS, SHARE = 1.0, 0.01
#: further outside than any pixel, and a float32
FAR = 1e9

COCO_HELP = "see cocodataset.org/#format-data"
YOLO_HELP = "a line is: class, and centre x, centre y, width, height as shares of the image"


@dataclass(frozen=True)
class Annotated:
    """One image. Its boxes are `boxes`, or still to be read from `text`, which is of `classes`.

    `size`: (height, width) that the boxes were drawn in, where the data says it. `keypoints`: a line of `text` has
    more after the box.
    """

    path: Path
    split: str = ""
    boxes: Boxes | None = None
    text: Path | None = None
    classes: int = 0
    size: tuple[int, int] | None = None
    keypoints: bool = False

    def boxes_in(self, height: int, width: int) -> Boxes:
        """The boxes of the image, which has this size in pixels. Raises ValueError, saying what is wrong."""
        if self.size and sorted(self.size) != sorted((height, width)):
            drawn = f"{self.size[1]}x{self.size[0]}"
            raise ValueError(f"its boxes were drawn on an image of {drawn}, and it is {width}x{height}")
        boxes = self.boxes
        if self.text is not None:
            boxes = _yolo_boxes(self.text, height, width, self.keypoints)
            if len(beyond := boxes[boxes[:, 0] >= self.classes]):
                raise ValueError(f"{self.text.name} has the class {beyond[0, 0]:g}, and there are {self.classes}")
        assert boxes is not None
        if why := outside(boxes, height, width):
            raise ValueError(why)
        return boxes


@dataclass(frozen=True)
class Annotations:
    """The images, and the class names by index (empty: the data does not name them)."""

    images: Sequence[Annotated]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())


def are_at(path: Path) -> bool:
    """Does the path name images with boxes? Other files of the same names have no names or categories."""
    if path.suffix.lower() in YAML:
        return True
    if not path.is_dir():
        return False
    yaml = _yaml(path)
    return (yaml is not None and _holds(yaml, b"names")) or any(
        _holds(file, b'"categories"') for file, _ in _coco_files(path)
    )


def files(path: Path) -> list[Path]:
    """Every file that says what the boxes are, and every image."""
    found = read(path)
    sources = [path] if path.is_file() else [*filter(None, [_yaml(path)]), *(file for file, _ in _coco_files(path))]
    return [*sources, *(image.path for image in found.images), *(i.text for i in found.images if i.text)]


def _holds(path: Path, word: bytes) -> bool:
    with os_errors("read", path):
        return word in path.read_bytes()


def read(path: Path) -> Annotations:
    """The boxes of a folder, or of a `data.yaml`. Raises InputError for what is in neither layout."""
    if path.suffix.lower() in YAML:
        return _yolo(path)
    with os_errors("read", path):
        yaml, files = _yaml(path), _coco_files(path)
    if yaml is not None:
        return _yolo(yaml)
    parts = [coco(file, split, _image_folders(path, file, split)) for file, split in files]
    if len({part.classes for part in parts}) > 1:
        named = ", ".join(file.name for file, _ in files)
        raise InputError(f"{path} has several lists of categories", named, "give all files the same categories")
    notes = dict.fromkeys(note for part in parts for note in part.notes)
    return Annotations([image for part in parts for image in part.images], parts[0].classes, tuple(notes))


def outside(boxes: Boxes, height: int, width: int) -> str:
    """Which box lies outside an image of this size; "" if none does."""
    reach = max(PIXELS, SHARE * max(height, width))
    low, high = boxes[:, 1:3], boxes[:, 1:3] + boxes[:, 3:5]
    wrong = np.asarray((low < -reach).any(axis=1) | (high > np.array([width, height]) + reach).any(axis=1))
    wrong |= ~np.isfinite(boxes).all(axis=1)
    empty = np.asarray((boxes[:, 3:5] <= 0).any(axis=1))
    if not (wrong | empty).any():
        return ""
    index = int(np.flatnonzero(wrong | empty)[0])
    box = ", ".join(f"{value:g}" for value in boxes[index, 1:5])
    what = "is empty" if empty[index] else "lies outside the image"
    return f"box {index} {what}: x, y, width, height are {box}, and the image is {width}x{height}"


# --- COCO ------------------------------------------------------------------------------------------------------------


def coco(path: Path, split: str = "", folders: Sequence[Path] = ()) -> Annotations:
    """Of one JSON file in COCO's format (https://cocodataset.org/#format-data); its images are in one of `folders`.

    Raises InputError for another format, and for annotations that belong to none of its images or categories.
    """
    with os_errors("read", path):
        raw = path.read_bytes()
    try:
        data = parse(raw)
        categories = sorted((int(c["id"]), str(c["name"])) for c in data["categories"])
        images = {int(image["id"]): str(image["file_name"]) for image in data["images"]}
        sizes = {int(image["id"]): _size(image) for image in data["images"]}
        entries = [(int(e["image_id"]), int(e["category_id"]), _bbox(e)) for e in data["annotations"]]
        number_of = {number: index for index, (number, _) in enumerate(categories)}
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise InputError(f"{path} is not in COCO's format", repr(error), COCO_HELP) from error
    if len(images) < len(data["images"]):
        raise InputError(f"two images of {path} have one id", next="give each image an id of its own")
    if "" in images.values():
        raise InputError(f"{path} is not in COCO's format", "an image has no file_name", COCO_HELP)
    if not categories or not images:
        raise InputError(f"{path} names no {'images' if categories else 'categories'}", next=COCO_HELP)
    if unknown := sorted({category for _, category, _ in entries} - set(number_of)):
        why = f"its categories are {', '.join(map(str, list(number_of)[:5]))}{', …' * (len(number_of) > 5)}"
        raise InputError(f"an annotation of {path} has the category {unknown[0]}", why, "check its ids")
    if wrong := next(filter(None, map(problem, images.values())), ""):
        raise InputError(f"{path} names an image outside its folder", wrong, "fix file_name")
    boxes: dict[int, list[tuple[float, ...]]] = {number: [] for number in images}
    strangers = 0
    for image, category, box in entries:
        strangers += image not in boxes
        boxes.get(image, []).append((number_of[category], *box))
    if strangers * 2 > len(entries):
        ids = ", ".join(map(str, sorted({image for image, _, _ in entries} - set(images))[:3]))
        why = f"{strangers} of {len(entries)} annotations are of images that it does not list (image_id {ids}, …)"
        raise InputError(f"the image ids of {path} don't match", why, "check image_id and the ids of images")
    notes = (f"{strangers} annotations of {path.name} are of images that it does not list",) if strangers else ()
    folders = folders or (path.parent, path.parent / "images")
    found = [
        Annotated(
            _existing(folders, name), split, np.array(boxes[number], np.float32).reshape(-1, 6), size=sizes[number]
        )
        for number, name in sorted(images.items())
    ]
    return Annotations(found, tuple(name for _, name in categories), notes)


def _bbox(entry: Mapping[str, Any]) -> tuple[float, ...]:
    x, y, width, height = (min(max(float(value), -FAR), FAR) for value in entry["bbox"])
    return x, y, width, height, float(bool(int(entry.get("iscrowd") or 0)))


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = int(image.get("height") or 0), int(image.get("width") or 0)
    return (height, width) if height > 0 and width > 0 else None


def _existing(folders: Sequence[Path], name: str) -> Path:
    """The file in the first folder that has it; else in the first."""
    return next((folder / name for folder in folders if (folder / name).is_file()), folders[0] / name)


def _coco_files(root: Path) -> list[tuple[Path, str]]:
    """The JSON files of a folder, each with its split."""
    whole = [(root / name, "") for name in COCO_FILES if (root / name).is_file()]
    if whole:
        return whole[:1]
    parts = [
        (root / folder / name, split)
        for folder, split in SPLIT_NAMES.items()
        for name in COCO_FILES
        if (root / folder / name).is_file()
    ]
    named = sorted((root / "annotations").glob("*.json")) if (root / "annotations").is_dir() else []
    instances = [file for file in named if file.stem.startswith("instances")] or named
    return parts or [
        (file, split) for file in instances for split in [_split_in(file.stem)] if split or len(named) == 1
    ]


def _split_in(stem: str) -> str:
    """The split that a file's name tells: instances_val2017 → val."""
    words = re.split(r"[^a-z]+", stem.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), "")


def _image_folders(root: Path, file: Path, split: str) -> tuple[Path, ...]:
    words = re.findall(r"(?:train|val|valid|validation|test)\d*", file.stem.lower())
    named = [
        folder / word
        for word in dict.fromkeys([*words, *([split] if split else [])])
        for folder in (root, root / "images")
    ]
    return (file.parent, file.parent / "images", *named, root / "images", root)


# --- YOLO ------------------------------------------------------------------------------------------------------------


def _yaml(root: Path) -> Path | None:
    if (root / "data.yaml").is_file():
        return root / "data.yaml"
    files = [file for suffix in YAML for file in root.glob(f"*{suffix}")]
    return files[0] if len(files) == 1 and (root / "labels").is_dir() else None


def _yolo(path: Path) -> Annotations:
    """`path`, `train`, `val`, `test` (folders, or lists of files) and `names` (https://docs.ultralytics.com/datasets).

    A label file is the image's path with /images/ as /labels/ and .txt; an image without one shows nothing.
    """
    table = _load_yaml(path)
    classes = _names(table.get("names"), path)
    root = Path(str(table.get("path") or "."))
    root = root if root.is_absolute() else path.parent / root
    root = root if root.is_dir() else path.parent
    images = [
        Annotated(file, split, text=_labels_of(file), classes=len(classes), keypoints="kpt_shape" in table)
        for key, split in SPLIT_NAMES.items()
        if table.get(key)
        for where in _several(table[key])
        for file in _yolo_images(path, root, str(where))
    ]
    if not images:
        raise InputError(f"{path} names no images", "it has none of train, val and test", "write val: images/val")
    return Annotations(images, classes)


def _names(value: Any, path: Path) -> tuple[str, ...]:
    """A list, or a table from 0, 1, … to names. Raises InputError; YAML may hold anything, also itself."""
    how = "write names: {0: person, 1: car}"
    if isinstance(value, Mapping):
        keys = {str(key): key for key in value if isinstance(key, int | str)}
        if set(keys) != set(map(str, range(len(value)))):
            raise InputError(f"the keys of names in {path} are not 0, 1, 2, …", next=how)
        value = [value[keys[str(index)]] for index in range(len(value))]
    if not isinstance(value, list) or not value or not all(isinstance(name, str | int | float) for name in value):
        raise InputError(f"{path} names no classes", f"names is {type(value).__name__}", how)
    names = tuple(map(str, value))
    if doubled := next((name for name in names if names.count(name) > 1), ""):
        raise InputError(f"{path} names the class {doubled!r} twice", next="give each class a name of its own")
    return names


def _several(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def _yolo_images(path: Path, root: Path, where: str) -> Iterator[Path]:
    # Roboflow writes ../valid/images for valid/images beside the file
    inside = path.parent / re.sub(r"^(\.\.?/)+", "", where)
    places = (inside, root / where) if where.startswith("../") else (root / where, path.parent / where)
    place = next((place for place in places if place.exists()), None)
    if place is None:
        raise InputError(f"{path} names {where!r}, which does not exist", f"looked in {root}", "fix path in it")
    with os_errors("read", place):
        if place.is_dir():
            yield from sorted(f for f in place.rglob("*") if f.suffix.lower() in SUFFIXES and f.is_file())
            return
        for line in filter(None, map(str.strip, utf8_text(place).splitlines())):
            yield place.parent / line if line.startswith("./") else root / line


def _labels_of(image: Path) -> Path:
    parts = list(image.with_suffix(".txt").parts)
    last = max((i for i, part in enumerate(parts[:-1]) if part == "images"), default=None)
    if last is not None:
        parts[last] = "labels"
    return Path(*parts)


def _yolo_boxes(path: Path, height: int, width: int, keypoints: bool) -> Boxes:
    """A line is a class and the shares of a box, or of a polygon, whose bounds are taken. Raises ValueError."""
    if not os.path.lexists(path):
        return np.zeros((0, 6), np.float32)
    try:
        text = utf8_text(path)
    except InputError as error:
        raise ValueError(str(error)) from error
    boxes = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            index, *values = map(float, words)
            if not index.is_integer() or index < 0 or len(values) < 4 or (len(values) > 4 and len(values) % 2):
                raise ValueError
            if not all(abs(value) < FAR for value in (index, *values)):
                raise ValueError
            values = values[:4] if keypoints else values
        except ValueError:
            raise ValueError(f"line {number} of {path.name} is {line.strip()[:60]!r}: {YOLO_HELP}") from None
        if len(values) == 4:
            x, y, wide, high = values
            x, y = x - wide / 2, y - high / 2
        else:
            x, y = min(values[::2]), min(values[1::2])
            wide, high = max(values[::2]) - x, max(values[1::2]) - y
        boxes.append((index, x * width, y * height, wide * width, high * height, 0))
    return np.array(boxes, np.float32).reshape(-1, 6)


def _load_yaml(path: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise Missing.install("reading data.yaml", "pyyaml", "images") from error
    text = utf8_text(path)
    try:
        table = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise InputError(f"{path} is no YAML", " ".join(str(error).split())[:200], "fix it") from error
    if not isinstance(table, Mapping):
        raise InputError(f"{path} is no data.yaml", "it has no keys", "it names path, train, val and names")
    return table
