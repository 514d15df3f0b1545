"""Tasks, one file each: data splits, networks by name, a loss and a metric.

A built-in task may take options after a question mark (`keyword-spotting?data=sounds`). A user's own task inherits
`Classification` or `Regression`; data alone (`houses.csv`, a folder) is also a task.
"""

from __future__ import annotations

import re
import typing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from edgekit.core import registry, user_code
from edgekit.core.config import build, parse
from edgekit.core.errors import InputError
from edgekit.core.extension_points import problems
from edgekit.core.user_code import run_user_code
from edgekit.tasks.shared.base import Classification, Regression

if TYPE_CHECKING:
    from edgekit.core.task import Task

__all__ = ["Classification", "Regression", "is_data_task", "load", "stem"]


def load(spec: str) -> Task:
    """The named task: a module of this package, an entry point, a user's `file.py:Class`, or data.

    Raises InputError if there is none.
    """
    if has_options(spec):
        return _with_options(spec)
    if is_data_task(spec):
        from edgekit.tasks.shared.data import DataTask

        return DataTask(spec)
    member = registry.load("tasks", spec)
    if spec in registry.names("tasks") or not user_code.is_reference(spec):
        task: Task = member()
        user_code.typed(task.models)  # code that is allowed names more
        return task

    task_object: Task = run_user_code(spec, f"cannot make the task {spec}", member)
    if lacks := problems("tasks", spec, type(task_object)):
        advice = "inherit edgekit.tasks.Classification or Regression, and write load"
        raise InputError(f"{spec} is not a task", "; ".join(lacks), advice)
    task_object.name = spec  # the recorded name must load it again
    user_code.typed(task_object.models)
    return task_object


def has_options(spec: str) -> bool:
    """Whether this is a built-in task with options, such as `translation?data=pairs.tsv&length=32`."""
    head, separator, _ = spec.partition("?")
    return bool(separator) and head in registry.names("tasks")


def _with_options(spec: str) -> Task:
    """The task with its options parsed into its dataclass `Options`. Raises InputError."""

    head, _, query = spec.partition("?")
    member = registry.load("tasks", head)
    if member.Options is None:
        raise InputError(f"the task {head} takes no options", next=f"write {head}")
    hints, table, problems = typing.get_type_hints(member.Options), {}, []
    for name, _, value in (part.partition("=") for part in query.split("&")):
        try:
            table[name] = parse(unquote(value), hints.get(name, str))
        except TypeError as error:
            problems.append(f"{name}: {error}")
    options, option_problems = build(member.Options, table, "")
    problems += [str(problem).removeprefix(": ") for problem in option_problems]
    if options is None or problems:
        known = f"the options of {head}: {', '.join(hints)}"
        raise InputError(f"{spec!r} has an invalid option", "; ".join(problems), known)
    task: Task = member(options)
    task.name = spec  # the recorded name must load it again
    user_code.typed(task.models)
    return task


def stem(spec: str) -> str:
    """The name of this task's run folder: "houses" for `data/houses.csv?label=price` and for `houses.py:Houses`."""
    if has_options(spec):
        head, _, query = spec.partition("?")
        data = next((part.removeprefix("data=") for part in query.split("&") if part.startswith("data=")), "")
        return Path(data).stem or head
    if is_data_task(spec):
        from edgekit.sets.options import parse_set_spec

        name = Path(parse_set_spec(spec).path).absolute().name
        return re.split(r"[.{*]", name)[0].rstrip("-_") or "data"
    return Path(spec.rpartition(":")[0]).stem if user_code.is_reference(spec) else spec


def is_data_task(spec: str) -> bool:
    """Whether this is data alone (`houses.csv`, a folder)."""
    if spec in registry.names("tasks") or has_options(spec):  # so that a name needs no numpy
        return False
    from edgekit.sets import is_data
    from edgekit.sets.options import parse_set_spec

    return is_data(parse_set_spec(spec).path)
