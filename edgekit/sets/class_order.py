"""Labels of a set as indices into the model's classes.

A folder's classes are numbered in alphabetical order, and a model numbers its own: by name they are the same, in small
and capital letters alike where that is clear.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from edgekit.core.errors import InputError, suggest
from edgekit.core.samples import SampleSet
from edgekit.sets.boxes import are_boxes
from edgekit.sets.masks import IGNORED


def in_order_of(data: SampleSet, classes: Sequence[str]) -> SampleSet:
    """The set with its labels as indices into `classes`, the model's; unchanged if one of them has no names.

    Raises InputError for a class that the model does not name, or an index beyond its classes.
    """
    if not classes or data.labels is None:
        return data
    if data.labels.ndim == 3 and data.labels.dtype.kind in "iu":
        return _masks(data, tuple(classes))
    boxes = are_boxes(data.labels)
    if not boxes and (data.labels.dtype.kind not in "iu" or data.labels.ndim != 1):
        return data
    indices = data.labels[..., 0].astype(np.int64) if boxes else data.labels
    if not data.classes:
        if len(indices) and int(indices.max()) >= len(classes):
            what = f"{data.name} has the label {int(indices.max())}"
            raise InputError(what, f"by its signature the model has {len(classes)} classes", "fix the labels")
        return data
    index = {name: i for i, name in enumerate(classes)}
    folded = {name.casefold(): i for name, i in index.items()}
    if len(folded) == len(index):
        index |= {name: folded[name.casefold()] for name in data.classes if name.casefold() in folded}
    used = {data.classes[i] for i in np.unique(indices[indices >= 0])} if boxes else set(data.classes)
    if unknown := [name for name in data.classes if name not in index and name in used]:
        otherwise = "rename them in the data, or import the model with its own class names"
        raise _unknown(data.name, unknown, classes, otherwise)
    if tuple(data.classes) == tuple(classes[: len(data.classes)]):
        return data
    order = np.array([index.get(name, -1) for name in data.classes], data.labels.dtype)
    if boxes:
        labels = data.labels.copy()
        labels[..., 0] = np.where(indices >= 0, order[np.maximum(indices, 0)], labels[..., 0])
    else:
        labels = order[data.labels]
    return replace(data, labels=labels, classes=tuple(classes), sha256=f"{data.sha256}/classes")


def _masks(data: SampleSet, classes: tuple[str, ...]) -> SampleSet:
    """Masks (N, H, W), 255 ignored: classes of the same name in the model's order; `__background__` is background.

    Raises InputError for a class that the model does not name.
    """
    named, known = ([name.strip("_").lower() for name in names] for names in (data.classes, classes))
    if not named or named == known[: len(named)]:
        return data
    if unknown := [name for name, key in zip(data.classes, named, strict=True) if key not in known]:
        raise _unknown(data.name, unknown, classes, "name the classes in classes.txt as the model does")
    order = np.full(256, IGNORED, np.uint8)
    order[: len(named)] = [known.index(key) for key in named]
    return replace(data, labels=order[data.labels], classes=classes, sha256=f"{data.sha256}/classes")


def _unknown(name: str, unknown: Sequence[str], classes: Sequence[str], otherwise: str) -> InputError:
    names = ", ".join(map(repr, unknown[:5])) + (", …" if len(unknown) > 5 else "")
    why = f"the model's signature has {len(classes)}: {', '.join(classes[:5])}{', …' if len(classes) > 5 else ''}"
    next = suggest(unknown[0], tuple(classes)) or otherwise
    return InputError(f"{name} has classes that the model does not: {names}", why, next)
