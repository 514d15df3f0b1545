"""The errors a user can meet, and the exit code each one ends with.

    EdgekitError                what happened, why, what to type next
    ├── AnswerNo        (1)     edgekit worked and the answer is no
    │   ├── ParityFailed        an arrow changed the outputs more than it may
    │   ├── BudgetMissed        an arrow lost more accuracy than the budget allows
    │   ├── GateFailed          something is worse than a baseline, further than a limit allows
    │   ├── CannotConvert       an exporter has no way for an operator of the network
    │   └── Diverged            training ran into NaN or infinity
    ├── InputError      (2)     bad usage or bad input
    │   ├── RecipeError         every problem of a recipe, listed at once
    │   ├── BrokenPlugin        a member of another package cannot be loaded, or lacks what it must offer
    │   ├── Locked              another edgekit works on this run folder
    │   ├── NoSpace             the disk is full
    │   └── NoPermission        a file or folder may not be read or written
    ├── Missing         (3)     something to install is missing
    ├── DeviceError     (4)     a device could not be reached, or failed
    └── Interrupted     (130)   a search that was interrupted, and keeps what it found so far

70 is a bug in edgekit, and is not raised on purpose; 130 is also the end of any other command that is interrupted.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: The name to `pip install`; the import and the command are `edgekit`.
DISTRIBUTION = "edgekit-toolkit"

EXIT_BUG = 70

EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where it is, what it is, and what to type next."""

    where: str
    what: str
    next: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.next})" if self.next else "")


class EdgekitError(Exception):
    """What happened, why, and what to type next; `code` is the exit code."""

    code = EXIT_BUG

    def __init__(self, what: str, why: str = "", next: str = "") -> None:
        super().__init__(what)
        self.what, self.why, self.next = what, why, next

    @property
    def problems(self) -> tuple[Problem, ...]:
        return ()

    def __str__(self) -> str:
        return self.what + (f": {self.why}" if self.why else "")


class CheckFailed(EdgekitError):
    code = 1


class ParityFailed(CheckFailed):
    pass


class BudgetMissed(CheckFailed):
    pass


class GateFailed(CheckFailed):
    pass


class CannotConvert(CheckFailed):
    pass


class Diverged(CheckFailed):
    pass


class InputError(EdgekitError):
    code = 2


class RecipeError(InputError):
    """A recipe that cannot work; `problems` holds everything wrong with it."""

    def __init__(self, where: str, problems: Sequence[Problem]) -> None:
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        super().__init__(f"{where} has {count}", next="nothing was started; mend these and run it again")
        self._problems = tuple(problems)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._problems


class BrokenPlugin(InputError):
    pass


class Locked(InputError):
    pass


class NoSpace(InputError):
    pass


class NoPermission(InputError):
    pass


class Missing(EdgekitError):
    code = 3

    @classmethod
    def install(cls, what: str, package: str, extra: str, distribution: str = DISTRIBUTION) -> Missing:
        """`what` needs `package`, which the named extra of a distribution brings ("": the package by itself)."""
        wanted = f"{distribution}[{extra}]" if extra else package
        return cls(f"{what} needs {package}", f"{package} is not installed", f"pip install '{wanted}'")


class DeviceError(EdgekitError):
    code = 4


class Interrupted(EdgekitError):
    code = EXIT_INTERRUPTED


@contextmanager
def os_errors(doing: str, path: Path | str) -> Iterator[None]:
    """Turn the operating system's refusals into errors that say what to do.

    Raises NoSpace, NoPermission or InputError in place of OSError.
    """
    try:
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(
                f"cannot {doing} {where}",
                "no space left on the disk",
                "free some space, then run the same command again: finished steps are kept",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise NoPermission(
                f"cannot {doing} {where}",
                "permission denied",
                "choose another folder with --out, or change its permissions",
            ) from error
        if error.errno == errno.ENOENT:
            raise InputError(f"cannot {doing} {where}", "no such file or folder", "check the path") from error
        if error.errno == errno.EISDIR:
            raise InputError(f"cannot {doing} {where}", "it is a folder", "name a file") from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise InputError(
                f"cannot {doing} {where}", "a file is where a folder is needed", "choose another folder with --out"
            ) from error
        raise


def suggest(name: str, known: tuple[str, ...]) -> str:
    """A hint for a misspelt name: the nearest ones, else all of them."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(known)}" if known else ""
