"""mIoU of a model without a task: which of its outputs is the mask, in which form, by its signature and the shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature, OutputSignature
from edgekit.core.signature_check import layout_of
from edgekit.core.task import Scores
from edgekit.sets.masks import IGNORED
from edgekit.tasks.shared.masks import class_map, miou, resized

#: kinds of outputs that may be a mask, if their shape is one
DENSE = ("logits", "probabilities", "")


class Masks:
    """mIoU of the classes that a segmentation network gives the pixels, at the size of the masks.

    The output is (N, C, h, w) or (N, h, w, C) scores, interpolated to the masks' size, of which the largest counts; a
    logit or a probability of class 1 per pixel, by its `activation`; or (N, h, w) classes, integers. Raises InputError
    if none of the outputs is, or several may be, and for masks of other classes than the model's.
    """

    def __init__(self, data: SampleSet, model: Artifact, records: Sequence[OutputSignature]) -> None:
        assert data.labels is not None
        self._size, self._model, self._records = data.labels.shape[1:], model, records
        layouts = [s.signature.layout for s in model.inputs if isinstance(s.signature, InputSignature)]
        self._layout = next(filter(None, layouts), "") or layout_of(model.inputs[0])
        self._named = len(model.signature.classes)
        self._index = self._chosen()
        spec, self._record = model.outputs[self._index], records[self._index]
        self._classes = _classes_of(data)
        self._least = self._named or len(data.classes) or self._classes[-1] + 1
        if None not in spec.shape[1:]:
            self._form(_whole(spec), _are_classes(spec))

    def __call__(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        name = self._model.outputs[self._index].name
        values = outputs[name] if name in outputs else list(outputs.values())[self._index]
        axis, count = self._form(values.shape, values.dtype.kind in "iu")
        if axis == 0:
            flat = values.reshape(len(values), *_sides(values.shape))
            return miou((resized(one, self._size) for one in flat), labels, self._least)
        threshold = self._threshold() if count == 1 else None
        scores = values[:, None] if values.ndim == 3 else np.moveaxis(values, axis, 1)
        return miou((class_map(one, self._size, threshold) for one in scores), labels, max(count, 2))

    def _chosen(self) -> int:
        """The first output of the kind mask, else the only one that may be one. Raises InputError."""
        kinds = [record.kind for record in self._records]
        if "mask" in kinds:
            return kinds.index("mask")
        specs = self._model.outputs
        fitting = [i for i, spec in enumerate(specs) if kinds[i] in DENSE and self._fits(spec)]
        main = [i for i in fitting if not specs[i].name.startswith("aux")] or fitting
        if len(main) != 1:
            raise self._unknown()
        return main[0]

    def _fits(self, spec: TensorSpec) -> bool:
        """May its shape be that of a mask?"""
        shape, classes = _whole(spec), _are_classes(spec)
        if None in spec.shape[1:]:
            return len(shape) == 4 or (len(shape) == 3 and classes)
        return bool(self._axes(shape)) or (classes and self._is_map(shape))

    def _axes(self, shape: Sequence[int]) -> list[int]:
        """The axes that may be those of the scores, of which there are as many as classes, if these are known."""
        axes = [a for a in (1, 3) if len(shape) == 4 and _alike(_sides(shape, a), self._size)]
        known = [a for a in axes if shape[a] in (self._named, 1)]
        exact = [a for a in axes if _sides(shape, a) == self._size]
        by_layout = [a for a in axes if a == (3 if self._layout == "NHWC" else 1)]
        for fewer in (known, exact, by_layout):
            axes = fewer if len(axes) > 1 and fewer else axes
        return axes

    def _is_map(self, shape: Sequence[int]) -> bool:
        return len(shape) == 3 and _alike(tuple(shape[1:]), self._size)

    def _form(self, shape: Sequence[int], integers: bool) -> tuple[int, int]:
        """The axis of the scores (0: they are classes), and how many scores a pixel has. Raises InputError."""
        axes = self._axes(shape)
        if not axes and not self._is_map(shape):
            raise self._unknown()
        axis, count = (axes[0], shape[axes[0]]) if axes else (1, 1)
        if integers and count == 1:
            axis, count = 0, 0
        elif count == 1:
            self._threshold()
        self._check_classes(max(count, 2) if count else self._named)
        return axis, count

    def _threshold(self) -> float:
        """What the only score of a pixel is above, if its class is 1."""
        record = self._record
        if record.activation == "sigmoid" or record.kind == "logits":
            return 0.0
        if record.activation == "none" or record.kind == "probabilities":
            return 0.5
        spec = self._model.outputs[self._index]
        what = f"it is not known whether {spec.name} of {self._model.name} is a logit or a probability"
        lines = 'kind = "mask", and activation = "sigmoid" (a logit) or "none" (a probability)'
        raise InputError(what, f"{spec} has one score per pixel", _in_file(spec.name, lines))

    def _check_classes(self, count: int) -> None:
        """Raises InputError if the masks have other classes than the `count` of the model (0: unknown)."""
        beyond = [index for index in self._classes if index >= count]
        if not count or not beyond:
            return
        listed = ", ".join(map(str, beyond[:5])) + (", …" if len(beyond) > 5 else "")
        why = f"{self._model.name} has {count} classes, numbered from 0"
        first = f"if the first class is 1, and 0 is none, as in ADE20K: '?mask_values=1-{count}' after the path"
        raise InputError(f"the masks hold classes that the model does not: {listed}", why, first)

    def _unknown(self) -> InputError:
        shapes = ", ".join(map(str, self._model.outputs))
        names = " or ".join(dict.fromkeys(spec.name for spec in self._model.outputs))
        size = "x".join(map(str, self._size))
        what = f"it is not known which output of {self._model.name} is the mask"
        return InputError(what, f"the masks are {size}, and it has {shapes}", _in_file(names, 'kind = "mask"'))


def _in_file(name: str, lines: str) -> str:
    return f'import it with --signature sig.toml, which holds [[output]] with name = "{name}" and {lines}'


def _classes_of(data: SampleSet) -> list[int]:
    """Those in the masks, in order. Raises InputError for fewer than two."""
    assert data.labels is not None
    found = {int(value) for label in data.labels for value in np.unique(label)}
    classes = sorted(found - {IGNORED})
    if classes and classes[0] < 0:
        why = f"one pixel is {classes[0]}"
        raise InputError(f"the masks of {data.name} hold negative classes", why, f"write {IGNORED} where none counts")
    if len(classes) < 2:
        holds = f"the class {classes[0]}" if classes else "no class"
        why = f"they hold {holds} only{f', and {IGNORED}, which is ignored' if IGNORED in found else ''}"
        next = f"if {IGNORED} is the foreground: '?mask_values=0,{IGNORED}' after the path"
        raise InputError(f"the masks of {data.name} have nothing to tell apart", why, next)
    return classes


def _alike(sides: Sequence[int], size: Sequence[int]) -> bool:
    """Are these the size, or in its proportion but for rounding?"""
    (h, w), (height, width) = sides, size
    smallest = min(height, width)
    return (h, w) == (height, width) or (min(h, w) > 1 and abs(h / height - w / width) * smallest <= 1)


def _sides(shape: Sequence[int], axis: int = 0) -> tuple[int, ...]:
    """(h, w) of an output with scores on this axis; 0: without, where another axis may be 1."""
    if axis:
        return tuple(shape[a] for a in (1, 2, 3) if a != axis)
    return tuple(shape[1:]) if len(shape) == 3 else tuple(shape[2:] if shape[1] == 1 else shape[1:3])


def _whole(spec: TensorSpec) -> tuple[int, ...]:
    return tuple(size or 0 for size in spec.shape)


def _are_classes(spec: TensorSpec) -> bool:
    return spec.quantization is None and spec.dtype.startswith(("int", "uint"))
