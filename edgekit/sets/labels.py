"""Labels as written in the data → one array, and the class names."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError

#: integers of this size or more are not accepted as classes if they exceed the number of samples
MANY_CLASSES = 1000
MAX_CLASSES = 1_000_000

Raw = str | int | float | tuple[float, ...]


class Labels:
    """Collects the labels of all splits, so that a class has the same index in each.

    Text becomes an index into the sorted names; integers are class indices; other numbers, and several per sample, are
    regression targets.
    """

    def __init__(self, name: str, declared: Literal["", "classes", "values"] = "") -> None:
        self._name, self._declared = name, declared
        self._texts: set[str] = set()
        self._examples: dict[str, tuple[str, Raw]] = {}
        self._range = (0, 0)
        self._lowest = ""
        self._count = 0

    def add(self, where: str, label: Raw) -> None:
        """Add one label; `where` names the sample in messages."""
        kind = "text" if isinstance(label, str) else "integers" if isinstance(label, int) else "numbers"
        if isinstance(label, tuple):
            kind = f"{len(label)} numbers"
        self._examples.setdefault(kind, (where, label))
        self._count += 1
        if isinstance(label, str):
            self._texts.add(label)
        elif isinstance(label, int):
            if label < self._range[0]:
                self._lowest = where
            self._range = (min(self._range[0], label), max(self._range[1], label))

    @property
    def are_classes(self) -> bool:
        """Whether the labels are classes, not values. Raises InputError if they are mixed or ambiguous."""
        kinds = set(self._examples)
        if kinds <= {"integers", "numbers"}:
            classes = "numbers" not in kinds and self._declared != "values"
            if self._declared == "classes" and not classes:
                where, label = self._examples["numbers"]
                raise InputError(f"{self._name}: a class must be an integer or text", f"{where} has {label}")
            if classes:
                self._check_classes()
            return classes
        if len(kinds) > 1:
            examples = ", ".join(f"{where} has {label!r}" for where, label in self._examples.values())
            raise InputError(f"the labels in {self._name} have several types", examples, "use one type for all")
        if kinds == {"text"} and self._declared == "values":
            where, label = self._examples["text"]
            raise InputError(f"{self._name}: labels=values needs numbers", f"{where} has {label!r}")
        return kinds == {"text"}

    def _check_classes(self) -> None:
        low, high = self._range
        hint = "add labels=values to the options for regression, or labels=classes"
        if low < 0:
            raise InputError(f"{self._name}: the label of {self._lowest} is {low}", "class indices start at 0", hint)
        if high >= MAX_CLASSES or (high >= max(MANY_CLASSES, self._count) and self._declared != "classes"):
            what = f"the labels of {self._name} may be classes or values"
            raise InputError(what, f"they are integers up to {high} in {self._count} samples", hint)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by index; empty for regression."""
        if not self._examples or not self.are_classes:
            return ()
        return tuple(sorted(self._texts)) or tuple(map(str, range(self._range[1] + 1)))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes by index, if the data names them."""
        return tuple(sorted(self._texts)) if self._texts and self.are_classes else ()

    def array(self, labels: list[Raw]) -> NDArray[Any]:
        """int64 (N,) class indices, or float32 (N,) or (N, k) values."""
        if not self.are_classes:
            return np.array(labels, np.float32)
        index = {name: i for i, name in enumerate(self.classes)} if self._texts else {}
        return np.array([index[label] if isinstance(label, str) else label for label in labels], np.int64)
