"""Labels as they are written → one array, and the names of the classes."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError

#: whole numbers from here on are no longer taken for classes where there are fewer samples than that
MANY_CLASSES = 1000
MOST_CLASSES = 1_000_000

Raw = str | int | float | tuple[float, ...]


class Labels:
    """Shown every label of the data, whichever split is read, so that a class means the same in each.

    Text becomes an index among the sorted names; whole numbers are class indices as they stand; other numbers, and
    several per sample, are values: regression.
    """

    def __init__(self, name: str, meant: Literal["", "classes", "values"] = "") -> None:
        self._name, self._meant = name, meant
        self._texts: set[str] = set()
        self._first: dict[str, tuple[str, Raw]] = {}
        self._range = (0, 0)
        self._lowest = ""
        self._count = 0

    def see(self, where: str, label: Raw) -> None:
        """`where` names the sample."""
        kind = "text" if isinstance(label, str) else "whole numbers" if isinstance(label, int) else "numbers"
        if isinstance(label, tuple):
            kind = f"{len(label)} numbers"
        self._first.setdefault(kind, (where, label))
        self._count += 1
        if isinstance(label, str):
            self._texts.add(label)
        elif isinstance(label, int):
            if label < self._range[0]:
                self._lowest = where
            self._range = (min(self._range[0], label), max(self._range[1], label))

    @property
    def are_classes(self) -> bool:
        """Classes, or values? Raises InputError where the labels are of several kinds, or it cannot be told."""
        kinds = set(self._first)
        if kinds <= {"whole numbers", "numbers"}:
            classes = "numbers" not in kinds and self._meant != "values"
            if self._meant == "classes" and not classes:
                where, label = self._first["numbers"]
                raise InputError(f"{self._name}: a class is a whole number or text", f"{where} has {label}")
            if classes:
                self._check_classes()
            return classes
        if len(kinds) > 1:
            examples = ", ".join(f"{where} has {label!r}" for where, label in self._first.values())
            raise InputError(f"the labels in {self._name} are of several kinds", examples, "write them all alike")
        if kinds == {"text"} and self._meant == "values":
            where, label = self._first["text"]
            raise InputError(f"{self._name}: labels=values needs numbers", f"{where} has {label!r}")
        return kinds == {"text"}

    def _check_classes(self) -> None:
        low, high = self._range
        hint = "add labels=values to the options for regression, or labels=classes"
        if low < 0:
            raise InputError(f"{self._name}: the label of {self._lowest} is {low}", "classes count from 0", hint)
        if high >= MOST_CLASSES or (high >= max(MANY_CLASSES, self._count) and self._meant != "classes"):
            what = f"{self._name}: are its labels classes or values?"
            raise InputError(what, f"whole numbers up to {high} in {self._count} samples", hint)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by index; empty for regression."""
        if not self._first or not self.are_classes:
            return ()
        return tuple(sorted(self._texts)) or tuple(map(str, range(self._range[1] + 1)))

    def array(self, raw: list[Raw]) -> NDArray[Any]:
        """int64 (N,) class indices, or float32 (N,) or (N, k) values."""
        if not self.are_classes:
            return np.array(raw, np.float32)
        index = {name: i for i, name in enumerate(self.classes)} if self._texts else {}
        return np.array([index[label] if isinstance(label, str) else label for label in raw], np.int64)
