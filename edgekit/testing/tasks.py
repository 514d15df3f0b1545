"""What every task owes: fixed splits whose samples and labels fit together, and a score."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest

from edgekit.core import extension_points, registry
from edgekit.core.errors import InputError
from edgekit.core.task import Task
from edgekit.testing.members import Contract


class TaskContract(Contract):
    """`splits`: those that every task has."""

    splits: ClassVar[tuple[str, ...]] = ("train", "val", "test")

    @pytest.fixture
    def task(self, name: str) -> Task:
        task: Task = registry.load("tasks", name)()
        return task

    def test_it_offers_what_it_must(self, name: str, task: Task) -> None:
        assert extension_points.problems("tasks", name, type(task)) == []
        assert task.name == name and task.licences
        assert task.models, "which networks does it train?"

    def test_its_splits_are_fixed(self, name: str, task: Task) -> None:
        hashes = set()
        for split in self.splits:
            data = task.load(split)
            assert data.name == f"{name}:{split}" and len(data) > 0
            assert data.sha256 == registry.load("tasks", name)().load(split).sha256, "another sample each time"
            assert {len(array) for array in data.inputs.values()} == {len(data)}
            assert data.labels is None or len(data.labels) == len(data)
            hashes.add(data.sha256)
        assert len(hashes) == len(self.splits), "two splits are the same"

    def test_its_labels_are_classes(self, task: Task) -> None:
        labels = task.load("test").labels
        if task.classes and labels is not None and labels.ndim == 1:
            assert labels.dtype == np.int64
            assert set(np.unique(labels)) <= set(range(len(task.classes)))

    def test_an_unknown_split(self, task: Task) -> None:
        with pytest.raises(InputError):
            task.load("tset")
