"""What a function shows while it works, and its errors in Python's words."""

from __future__ import annotations

import html
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from typing import Any, TypedDict, TypeVar

from edgekit.core.errors import EdgekitError
from edgekit.core.printable import printable
from edgekit.core.progress import Progress, duration
from edgekit.core.ticker import Ticker
from edgekit.workflows.setup import Say

T = TypeVar("T")

#: seconds between two changes of a notebook's line
PAUSE = 0.2
#: characters of a notebook's bar
WIDTH = 24
#: how lines begin that stay in a notebook's cell
KEPT = ("note", "warning", "skipped", "failed", "running")

#: an option, and its value: a placeholder, or a word with a sign that no prose has
_OPTION = re.compile(
    r"(?<![\w-])--([a-z][a-z0-9-]*)(?![\w-])"
    r"(?:[ =]([A-Z][A-Z0-9,…]*\b|cpu\b|auto\b|torchvision\b|(?=[^\s;,()]*[\d./:@=])[^\s;,()]+?(?=[:.]?(?:[\s;,)]|$))))?"
)
_COMMAND = re.compile(
    r"\bedgekit (train|import|prune|quantize|export|verify|bench|predict|compare|inspect|deploy|optimize|doctor|run)\b"
)
#: what is typed in a shell as it is, and calls
_TYPED = re.compile(r"(\b(?:edgekit|pip|sudo|apt-get|optuna) [a-z][^;,)]*|edgekit\.[a-z_]+\([^)]*\))")
#: a command's word, before what ends the command
_WORD = re.compile(r" ((?:--[a-z]|[A-Z]+\b|(?=[^\s;()`]*[\d./:@=]))[^\s;()`]*?)(?=[;,.)`]*(?: |$)|[;)`])")
#: what may follow a command in a sentence
_END = re.compile(r"$|[;,.)`]| (?:or|and|to|then|with)\b")
#: text in quotes, and where Unicode's private characters begin
_QUOTED, _PRIVATE = re.compile(r"""(?<![\w=])(?:'[^'\n]*'|"[^"\n]*")(?!\w)"""), 0xE000
#: options whose parameter has another name, or a fixed value
_PARAMETERS = {
    "fast": 'effort="fast"',
    "thorough": "thorough=True",
    "int8": 'precision="int8"',
    "fp16": 'precision="fp16"',
    "dynamic": 'precision="dynamic"',
    "weights": 'precision="w4"',
    "quick": "quick=True",
    "layers": "layers=True",
    "strict": "strict=True",
    "resume": "resume=True",
    "no-latency": "latency=False",
}


class Reports(TypedDict):
    """How the workflows report."""

    progress: Progress
    say: Say


def reports(progress: bool | None) -> Reports:
    """Of one call. `progress` None: shown in a terminal and in a notebook, not elsewhere."""
    shown: Notebook | Terminal | Nothing = Nothing()
    if progress is not False:
        if _in_notebook():
            shown = Notebook()
        elif progress or (sys.stderr is not None and sys.stderr.isatty()):
            shown = Terminal()
    return {"progress": shown.progress, "say": shown.say}


class Nothing:
    def say(self, line: str) -> None:
        pass

    def progress(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        yield from items


class Terminal:
    """A bar, and a line per step, on stderr."""

    def __init__(self) -> None:
        self._ticker = Ticker(sys.stderr) if sys.stderr.isatty() else None

    def say(self, line: str) -> None:
        with self._ticker.hidden() if self._ticker else nullcontext():
            print(in_pythons_words(printable(line)), file=sys.stderr)

    def progress(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        if total == 1:
            with self._ticker.stage(what) if self._ticker else nullcontext():
                yield from items
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import track

        console = Console(stderr=True, force_jupyter=False)
        with self._ticker.hidden() if self._ticker else nullcontext():
            yield from track(items, f"  {escape(printable(what))}", total=total, console=console, transient=True)


class Notebook:
    """One line of a cell's output that changes in place; notes and warnings stay above it."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._kept: list[str] = []
        self._last = 0.0

    def say(self, line: str) -> None:
        text = in_pythons_words(printable(line).strip())
        self._show(text)
        if text.startswith(KEPT):
            self._kept.append(text)

    def progress(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        total = total if total is not None else len(items) if isinstance(items, Sequence) else None
        started, what = time.monotonic(), printable(what)
        if total == 1:
            self._show(f"{what} …")
            yield from items
            return
        done = 0
        for done, item in enumerate(items):
            if time.monotonic() - self._last >= PAUSE:
                self._show(bar(what, done, total, time.monotonic() - started))
            yield item
            done += 1
        self._show(bar(what, done, total, time.monotonic() - started))

    def _show(self, text: str) -> None:
        from IPython.display import display  # type: ignore[import-not-found]

        data = {"text/plain": "\n".join([*self._kept, text])}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)
        self._last = time.monotonic()


def bar(what: str, done: int, total: int | None, seconds: float) -> str:
    """ "calibrating ━━━━━━────── 45/100, 12 s left"."""
    if not total:
        return f"{what} {done}"
    full = round(WIDTH * min(1.0, done / total))
    left = f", {duration(seconds / done * (total - done))} left" if 0 < done < total else ""
    return f"{what} {'━' * full}{'─' * (WIDTH - full)} {done}/{total}{left}"


def _in_notebook() -> bool:
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Names and values as an HTML table."""
    cells = (f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{''.join(cells)}</table>"


def translate(error: EdgekitError) -> EdgekitError:
    """The same error; its texts name parameters and functions, and a traceback ends with what to do next.

    The traceback is the caller's alone; with EDGEKIT_TRACEBACK all of it.
    """
    error.what, error.why, error.next = map(in_pythons_words, (error.what, error.why, error.next))
    error.args = (str(error),)
    for problem in error.problems:
        error.add_note(in_pythons_words(str(problem)))
    if error.next:
        error.add_note(f"Next: {error.next}")
    if not os.environ.get("EDGEKIT_TRACEBACK"):
        error.__cause__, error.__suppress_context__ = None, True
        error.__traceback__ = None
    return error


def in_pythons_words(text: str) -> str:
    """ "pass --max-drop PP" → "pass max_drop=PP"; "see edgekit train --help" → "see help(edgekit.train)"; "edgekit
    verify --layers" → "edgekit.verify(layers=True)". A command that is no function stays: it is typed in a shell; what
    is in quotes stays, too.
    """
    kept: list[str] = []

    def keep(quoted: re.Match[str]) -> str:
        """One character in its place, if it would be changed: it is somebody's data."""
        if not re.search(r"--[a-z]|\bedgekit ", quoted[0]):
            return quoted[0]
        kept.append(quoted[0])
        return chr(_PRIVATE + len(kept))

    text = _QUOTED.sub(keep, text)
    text = re.sub(r"edgekit ([a-z]+) --help", lambda m: f"help(edgekit.{_function(m[1])})", text)
    text = _calls(text)
    parts = _TYPED.split(text)
    said = "".join(p if i % 2 else _OPTION.sub(lambda m: _argument(m[1], m[2] or ""), p) for i, p in enumerate(parts))
    for number, quoted in enumerate(kept, 1):
        said = said.replace(chr(_PRIVATE + number), quoted)
    return said


def _calls(text: str) -> str:
    """With command lines as calls, but for those that prose follows."""
    start = 0
    while command := _COMMAND.search(text, start):
        end, words = command.end(), []
        while word := _WORD.match(text, end):
            words.append(word[1])
            end = word.end()
        start = end
        if _END.match(text, end):
            call = _call(command[1], words)
            text, start = text[: command.start()] + call + text[end:], command.start() + len(call)
    return text


def _call(command: str, words: Sequence[str]) -> str:
    """The words before the options are positional; an option's value follows it."""
    positional: list[str] = []
    named: list[tuple[str, str]] = []
    for word in words:
        if word.startswith("--"):
            named.append((word[2:], ""))
        elif named and not named[-1][1]:
            named[-1] = (named[-1][0], word)
        else:
            positional.append(_literal(word))
    if command in ("bench", "compare") and len(positional) > 1:
        positional = [f"[{', '.join(positional)}]"]
    arguments = (_argument(name, value or "True", command) for name, value in named)
    function = "gate" if command == "compare" and "against" in dict(named) else _function(command)
    return f"edgekit.{function}({', '.join([*positional, *arguments])})"


def _argument(option: str, value: str, command: str = "") -> str:
    """An option with its value, or "" for none, as a keyword argument."""
    key, _, rest = value.rpartition("=")
    if (command, option) == ("quantize", "thorough"):
        return 'effort="thorough"'
    if known := _PARAMETERS.get(option):
        return known
    if option == "set" and value.startswith("train.") and command != "run":
        return value.removeprefix("train.")
    if option == "set":
        return f'settings=["{value}"]' if key else f"data={_literal(value) if value else ''}"
    if option == "try":
        return f'choices={{"{key}": [{_literal(rest)}]}}' if key else "choices="
    if option == "shape" and re.fullmatch(r"\d+(x\d+)+", rest):
        sizes = f"({rest.replace('x', ', ')})"
        return f'shape={{"{key}": {sizes}}}' if key else f"shape={sizes}"
    return f"{option.replace('-', '_')}={_literal(value) if value else ''}"


def _literal(word: str) -> str:
    """Text in quotes; numbers, several as a list, and placeholders without."""
    word = word.strip("'\"")
    numbers = word.split(",")
    if all(re.fullmatch(r"\d+(\.\d+)?(e[-+]?\d+)?", number) for number in numbers):
        return word if len(numbers) == 1 else f"[{', '.join(numbers)}]"
    return word if word.isupper() or word == "True" else f'"{word}"'


def _function(command: str) -> str:
    return "import_model" if command == "import" else command
