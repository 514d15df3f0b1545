"""Completion in Bash, zsh and fish, by Click's protocol: a shell runs edgekit with the typed words in the environment.

An error completes nothing and prints nothing: the line is still being typed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    ShellComplete,
    add_completion_class,
    get_completion_class,
)

from edgekit.cli.shared.output import echo_script

#: how the shell asks: Click's name for the command `edgekit`
VARIABLE = "_EDGEKIT_COMPLETE"


class _Bash(BashComplete):
    """Bash ends a word at `:` and `=`, and replaces what follows: `tasks.py:Ho` is three words there."""

    name = "bash"
    #: what Bash keeps of the word that is completed
    kept = ""

    def get_completion_args(self) -> tuple[list[str], str]:
        words = os.environ["COMP_WORDS"].split("\n")
        if len(words) == 1:  # not asked by the script, which has one word a line
            return super().get_completion_args()
        words = words[: int(os.environ["COMP_CWORD"]) + 1]
        joined = [words[0]]
        for before, word in itertools.pairwise(words):
            is_break = word in (":", "=") or before in (":", "=")
            if is_break and len(joined) > 1:
                joined[-1] += word
            else:
                joined.append(word)
        last = joined.pop() if len(joined) > 1 else ""
        option, is_option, value = last.partition("=")
        if option.startswith("--") and is_option:
            joined, last = [*joined, option], value
        self.kept = last[: len(last) - len(words[-1])] if words[-1] not in (":", "=") else last
        return joined[1:], last

    def format_completion(self, item: CompletionItem) -> str:
        return f"{item.type},{str(item.value).removeprefix(self.kept)}"


add_completion_class(_Bash)


def script(group: click.Group, shell: str) -> str:
    """What the shell must run so that it completes `edgekit`."""
    completion = get_completion_class(shell)
    assert completion is not None
    # Click's `source` of Bash starts one, to look at its version
    return ShellComplete.source(completion(group, {}, "edgekit", VARIABLE)).strip()


def answer(group: click.Group, instruction: str) -> int:
    """Print the script (`bash_source`), or what completes the words in the environment (`bash_complete`)."""
    text = ""
    with (
        contextlib.suppress(Exception, SystemExit),
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stderr(nowhere),
    ):
        shell, _, action = instruction.partition("_")
        completion = get_completion_class(shell)
        if completion is not None and action == "source":
            text = script(group, shell)
        elif completion is not None and action == "complete":
            text = completion(group, {"auto_envvar_prefix": None}, "edgekit", VARIABLE).complete()
    with contextlib.suppress(OSError, UnicodeError):
        echo_script(text)
    return 0
