"""Tasks, one file each: data splits, networks by name, a loss and a metric."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgekit import registry

if TYPE_CHECKING:
    from edgekit.types import Task


def load(word: str) -> Task:
    """The task that a word names: a file of this folder, an entry point, or the user's own `file.py:Class`.

    Raises InputError where there is none.
    """
    task: Task = registry.load("tasks", word)()
    if registry.is_reference(word):
        task.name = word  # what is recorded must find it again
    return task
