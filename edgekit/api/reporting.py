"""What a function shows while it works, and its errors in Python's words."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from edgekit.core.errors import EdgekitError
from edgekit.core.printable import printable

T = TypeVar("T")

#: an option, and its value's placeholder
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z0-9-]*)(?: ([A-Z][A-Z0-9,…]*)\b)?")
#: options whose parameter has another name
_PARAMETERS = {"fast": 'effort="fast"', "thorough": 'effort="thorough"', "quick": "quick=True"}


class Shown:
    """Progress of one call: a bar and a line per step on stderr, or nothing.

    `progress` None: shown in a terminal and in a notebook, not elsewhere.
    """

    def __init__(self, progress: bool | None) -> None:
        self.on = _is_watched() if progress is None else progress

    def say(self, line: str) -> None:
        if self.on:
            print(printable(line), file=sys.stderr)

    def progress(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        if not self.on:
            yield from items
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import track

        console = Console(stderr=True)
        yield from track(items, f"  {escape(printable(what))}", total=total, console=console, transient=True)


def _is_watched() -> bool:
    """Is there a terminal, or a notebook?"""
    shell = sys.modules.get("IPython")
    if shell is not None and "ZMQ" in type(shell.get_ipython()).__name__:
        return True
    return sys.stderr is not None and sys.stderr.isatty()


@contextmanager
def in_python() -> Iterator[None]:
    """Errors name parameters (`max_drop_pp=`), not options (`--max-drop`)."""
    try:
        yield
    except EdgekitError as error:
        translate(error)
        raise


def translate(error: EdgekitError) -> EdgekitError:
    """The same error; its texts name parameters and functions."""
    error.what, error.why, error.next = map(in_pythons_words, (error.what, error.why, error.next))
    error.args = (str(error),)
    return error


def in_pythons_words(text: str) -> str:
    """ "pass --max-drop PP" → "pass max_drop=PP"; "see edgekit train --help" → "see help(edgekit.train)"."""
    text = re.sub(r"edgekit ([a-z]+) --help", lambda m: f"help(edgekit.{_function(m[1])})", text)
    parts = re.split(r"(\bedgekit [a-z][^;,)]*)", text)  # a command line is typed in a shell: it stays as it is
    return "".join(part if index % 2 else _OPTION.sub(_parameter, part) for index, part in enumerate(parts))


def _function(command: str) -> str:
    return "import_model" if command == "import" else command


def _parameter(match: re.Match[str]) -> str:
    name = match[1]
    if known := _PARAMETERS.get(name):
        return known
    return f"{name.replace('-', '_')}={match[2] or ''}"
