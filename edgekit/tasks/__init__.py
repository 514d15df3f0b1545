"""Tasks, one file each: data splits, networks by name, a loss and a metric.

A shipped task may take options after a question mark (`keyword-spotting?data=sounds`). A task of one's own inherits
`Classification` or `Regression`; data alone (`houses.csv`, a folder) is a task too.
"""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core import registry, user_code
from edgekit.core.config import build, parse
from edgekit.core.errors import InputError
from edgekit.core.user_code import run_user_code
from edgekit.tasks.shared.base import Classification, Regression

if TYPE_CHECKING:
    from edgekit.core.task import Task

__all__ = ["Classification", "Regression", "load", "stem"]


def load(word: str) -> Task:
    """The task that a word names: a file of this folder, an entry point, the user's own `file.py:Class`, or data.

    Raises InputError where there is none.
    """
    if configured(word):
        return _with_options(word)
    if _is_data(word):
        from edgekit.tasks.shared.data import DataTask

        return DataTask(word)
    member = registry.load("tasks", word)
    if word in registry.names("tasks") or not user_code.is_reference(word):
        task: Task = member()
        return task

    own: Task = run_user_code(word, f"cannot make the task {word}", member)
    missing = [name for name in ("load", "arguments", "loss", "score") if not callable(getattr(own, name, None))]
    if missing:
        how = "inherit edgekit.tasks.Classification or Regression, and write load"
        raise InputError(f"{word} is no task", f"it has no {', '.join(missing)}", how)
    own.name = word  # what is recorded must find it again
    return own


def configured(word: str) -> bool:
    """Is this a shipped task with options: `translation?data=pairs.tsv&length=32`?"""
    head, mark, _ = word.partition("?")
    return bool(mark) and head in registry.names("tasks")


def _with_options(word: str) -> Task:
    """The task, its options read into the dataclass that it calls `Options`. Raises InputError."""
    from urllib.parse import unquote

    head, _, query = word.partition("?")
    member = registry.load("tasks", head)
    if not hasattr(member, "Options"):
        raise InputError(f"the task {head} takes no options", next=f"write {head}")
    hints, table, problems = typing.get_type_hints(member.Options), {}, []
    for name, _, value in (part.partition("=") for part in query.split("&")):
        try:
            table[name] = parse(unquote(value), hints.get(name, str))
        except TypeError as error:
            problems.append(f"{name}: {error}")
    options, found = build(member.Options, table, "")
    problems += [str(problem).removeprefix(": ") for problem in found]
    if options is None or problems:
        known = f"the options of {head}: {', '.join(hints)}"
        raise InputError(f"{word!r} has an option that cannot be used", "; ".join(problems), known)
    task: Task = member(options)
    task.name = word  # what is recorded must find it again
    return task


def stem(word: str) -> str:
    """What a run of this task is called: "houses" for `data/houses.csv?label=price` and for `houses.py:Houses`."""
    if configured(word):
        head, _, query = word.partition("?")
        data = next((part.removeprefix("data=") for part in query.split("&") if part.startswith("data=")), "")
        return Path(data).stem or head
    if _is_data(word):
        from edgekit.sets.options import parse_set_spec

        name = Path(parse_set_spec(word).path).absolute().name
        return re.split(r"[.{*]", name)[0].rstrip("-_") or "data"
    return Path(word.rpartition(":")[0]).stem if user_code.is_reference(word) else word


def _is_data(word: str) -> bool:
    if word in registry.names("tasks") or configured(word):  # so that a name needs no numpy
        return False
    from edgekit.sets import is_data
    from edgekit.sets.options import parse_set_spec

    return is_data(parse_set_spec(word).path)
