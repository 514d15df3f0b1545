"""Where a command's text leaves it: stdout and stderr, which may be closed, full, or a pipe whose reader has gone.

Names come from files and devices, so every line is made printable here, and nowhere else in the command line.
"""

from __future__ import annotations

import io
import json
import math
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

import click

from edgekit.cli.shared import github
from edgekit.core.errors import InputError
from edgekit.core.printable import one_line, printable


def echo(line: str) -> None:
    """Print one line of the result on stdout."""
    click.echo(printable(line))


def echo_script(text: str) -> None:
    """Print text for a shell, as it is: its names have been checked (`completion.py`)."""
    click.echo(text)


def echo_error(message: str) -> None:
    """Print one line on stderr, in a terminal wrapped at spaces. If that is impossible, the work goes on: the exit code
    says how it ended.
    """
    line = one_line(message)
    try:
        click.echo(_wrapped(line) if sys.stderr.isatty() else line, err=True)
    except OSError:
        discard(sys.stderr)


def echo_failure(what: str, next: str) -> None:
    """Print what failed and what to type next: one line, but two in a terminal, where the second is copied.

    What is to be typed may end in code, after an empty line: its lines follow.
    """
    line = f"edgekit: {what}".removesuffix(".")
    next, _, code = next.partition("\n\n")
    if not next:
        echo_error(line)
    elif sys.stderr.isatty():
        echo_error(f"{line}.")
        echo_error(f"  Next: {next}")
    else:
        echo_error(f"{line}. Next: {next}")
    for line in code.rstrip().splitlines():
        echo_error(f"    {line}".rstrip())


def _wrapped(line: str) -> str:
    import textwrap

    indent = " " * (len(line) - len(line.lstrip(" ")) + 2)
    width = max(shutil.get_terminal_size().columns, 20)
    wrapper = textwrap.TextWrapper(width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return wrapper.fill(line) or line


def echo_json(document: Any) -> None:
    """Print one JSON object on stdout, in ASCII. NaN and infinity, which JSON does not have, become null."""
    try:
        text = json.dumps(document, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(document), allow_nan=False)
    click.echo(text.replace("\x7f", "\\u007f").replace("##[", "##\\u005b"))  # see cli.shared.github


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def printing() -> Iterator[None]:
    """While the result is printed. A reader that has gone (`| head -1`) is no failure: the result stands.

    Raises InputError if stdout cannot be written.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
    except SystemExit as exit:
        if not isinstance(exit.__context__, BrokenPipeError):  # rich's answer to it
            raise
        discard(sys.stdout)
    except OSError as error:
        if error.filename is not None:  # a file's, not that of stdout
            raise
        discard(sys.stdout)
        why, next = (error.strerror or str(error)).lower(), "free some space, or send the output elsewhere"
        raise InputError("cannot write to stdout", why, next) from error


def open_streams() -> None:
    """A closed stdin or stderr becomes /dev/null: a file of the command would otherwise get its descriptor, and what is
    printed would go into that file. What an encoding cannot represent is replaced.

    Raises InputError if stdout is closed, since the result would be lost.
    """
    closed = []
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free descriptor, which is this one
        if getattr(sys, name) is None:
            closed.append(name)
            setattr(sys, name, os.fdopen(descriptor, "r" if name == "stdin" else "w", closefd=False))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace" if stream is sys.stderr else "replace")
            if github.is_job():
                github.inert(stream)
    warnings.formatwarning = _warning
    if "stdout" in closed:
        raise InputError("stdout is closed", "the result could not be printed", "redirect it, for example > /dev/null")


def _warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    return f"{one_line(f'{Path(filename).name}:{lineno}: {category.__name__}: {message}')}\n"


def discard(stream: TextIO) -> None:
    """What could not be written, and all that follows, goes nowhere; Python would try it again when it ends."""
    with suppress(OSError, ValueError):  # not a file: a test's
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
