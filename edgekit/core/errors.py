"""The errors shown to a user, and the exit code of each.

    EdgekitError                what happened, why, and the next command
    ├── CheckFailed     (1)     edgekit worked, and a check did not pass
    │   ├── ParityFailed        a step changed the outputs by more than its tolerance
    │   ├── BudgetMissed        a step lost more accuracy than the budget allows
    │   ├── GateFailed          a value is worse than the baseline by more than a limit allows
    │   ├── CannotConvert       an exporter does not support an operator of the network
    │   └── Diverged            the training loss became NaN or infinite
    ├── InputError      (2)     bad usage or bad input
    │   ├── RecipeError         every problem of a recipe, listed together
    │   ├── BrokenPlugin        a member of another package cannot be loaded, or lacks what it must offer
    │   ├── Locked              another edgekit process is using this run folder
    │   ├── NoSpace             the disk is full
    │   └── NoPermission        a file or folder may not be read or written
    ├── Missing         (3)     a package or program is not installed
    ├── DeviceError     (4)     a device cannot be reached, or failed
    └── Interrupted     (130)   a search was interrupted; its results so far are kept

70 is a bug in edgekit and is never raised on purpose. Any interrupted command ends with 128 plus the signal's number:
130 after SIGINT (Ctrl-C), 143 after SIGTERM, 129 after SIGHUP.
"""

from __future__ import annotations

import difflib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

#: The name to `pip install`; the import and the command are `edgekit`.
DISTRIBUTION = "edgekit-toolkit"

EXIT_BUG = 70

EXIT_INTERRUPTED = 130

#: a hint lists no more names than this
MOST_NAMES = 60


@dataclass(frozen=True)
class Problem:
    """One problem: where it is, what it is, and how to fix it."""

    where: str
    what: str
    next: str = ""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.next})" if self.next else "")


class EdgekitError(Exception):
    """The base of all errors: what happened, why, and what to do next.

    Attributes:
        what: What happened.
        why: The reason; "" where `what` says it.
        next: What to do next; "" where nothing is known to help.
        code: The exit code of the command line.

    Examples:
        >>> try:
        ...     edgekit.load("runs/none")
        ... except edgekit.EdgekitError as error:
        ...     print(error.what)
        'runs/none' is neither a run nor an artifact
    """

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
    """edgekit worked, and a check did not pass; the base of such errors.

    Examples:
        >>> issubclass(edgekit.BudgetMissed, edgekit.CheckFailed)
        True
    """

    code = 1


class ParityFailed(CheckFailed):
    """A step changed the outputs by more than its tolerance.

    Examples:
        >>> try:
        ...     onnx = edgekit.export("runs/mnist", "onnx")
        ... except edgekit.ParityFailed as error:
        ...     print(error.why)  # by how much, and over which samples
    """


class BudgetMissed(CheckFailed):
    """A step lost more accuracy than the budget allows.

    Attributes:
        models: From Python: what was made nevertheless; the best attempt is kept.

    Examples:
        >>> try:
        ...     edgekit.quantize("runs/mnist/onnx", methods=["min-max"], max_drop=-100)
        ... except edgekit.BudgetMissed as error:
        ...     print(error.models[-1].name)
        onnx-int8
    """


class GateFailed(CheckFailed):
    """A value is worse than the baseline by more than a limit allows."""


class CannotConvert(CheckFailed):
    """An exporter does not support an operator of the network, or it cannot be traced or pruned as wanted.

    Examples:
        >>> import torch
        >>> class Branches(torch.nn.Module):
        ...     def forward(self, x):
        ...         return x if x.sum() > 0 else -x
        >>> try:
        ...     edgekit.import_model(Branches(), example=torch.ones(1, 2))
        ... except edgekit.CannotConvert as error:
        ...     print(error.what)
        torch.export cannot trace Branches
    """


class Diverged(CheckFailed):
    """The training loss became NaN or infinite.

    Examples:
        >>> try:
        ...     edgekit.train("mnist", epochs=1, samples=256, optimizer="sgd", lr=1e30, out="runs/diverged")
        ... except edgekit.Diverged as error:
        ...     print(error.next)  # what to change
        lower the learning rate: lr=1e+29 (in a recipe, the step's lr)
    """


class InputError(EdgekitError):
    """Bad usage, or bad input.

    Examples:
        >>> try:
        ...     edgekit.predict("runs/mnist/onnx", np.zeros((2, 5)))
        ... except edgekit.InputError as error:
        ...     print(error.what)
        the input has shape (2, 5)
    """

    code = 2


class RecipeError(InputError):
    """An invalid recipe; `problems` holds every problem with it."""

    def __init__(self, where: str, problems: Sequence[Problem]) -> None:
        count = f"{len(problems)} problem" + ("s" if len(problems) > 1 else "")
        super().__init__(f"{where} has {count}", next="nothing was started; fix these problems and run it again")
        self._problems = tuple(problems)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._problems


class Unusable(InputError):
    """A runtime cannot load or run a model file."""


class BrokenPlugin(InputError):
    pass


class Locked(InputError):
    """Another edgekit process is using this run folder."""


class NoSpace(InputError):
    pass


class NoPermission(InputError):
    pass


class Missing(EdgekitError):
    """A package or program is not installed; `next` is the command that installs it.

    Examples:
        >>> try:
        ...     table = edgekit.compare("runs/mnist").to_pandas()
        ... except edgekit.Missing as error:
        ...     print(error.next)
    """

    code = 3

    @classmethod
    def install(cls, what: str, package: str, extra: str, distribution: str = DISTRIBUTION) -> Missing:
        """`what` needs `package`, which the named extra of a distribution brings ("": the package by itself)."""
        wanted = f"{distribution}[{extra}]" if extra else package
        return cls(f"{what} needs {package}", f"{package} is not installed", f"pip install '{wanted}'")


class DeviceError(EdgekitError):
    """A device cannot be reached, or failed.

    Examples:
        >>> try:
        ...     results = edgekit.bench("runs/mnist/onnx", target="host", quick=True, processes=1)
        ... except edgekit.DeviceError as error:
        ...     print(error.why)
    """

    code = 4


class Interrupted(EdgekitError):
    """A search was interrupted; its results so far are kept.

    Examples:
        >>> try:
        ...     best = edgekit.optimize("runs/mnist/onnx", trials=2, max_drop=5)
        ... except edgekit.Interrupted as error:
        ...     print(error.next)
    """

    code = EXIT_INTERRUPTED


@contextmanager
def os_errors(doing: str, path: Path | str) -> Iterator[None]:
    """Turn the operating system's errors into errors that say what to do.

    Raises NoSpace, NoPermission or InputError in place of OSError. What is to be read is looked at first: to open a
    named pipe can take for ever, and a device may never end.
    """
    try:
        if doing == "read":
            _check_regular(path)
        yield
    except OSError as error:
        where = error.filename or path
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise no_space(f"cannot {doing} {where}") from error
        if error.errno == errno.EFBIG:
            raise no_space(f"cannot {doing} {where}", TOO_LARGE) from error
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
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP) or error.filename:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise InputError(
                f"cannot {doing} {str(where)[:200]}", why[:1].lower() + why[1:], "check the path"
            ) from error
        raise


#: what the system says of a file that would exceed `ulimit -f` or the file system's largest size
TOO_LARGE = "File too large"
#: a full disk, in the system's words within a library's own text, and in those of SQLite and of C++'s streams
DISK_FULL = ("No space left on device", TOO_LARGE, "Disk quota exceeded", "disk is full", "iostream error")


def is_disk_full(text: str) -> bool:
    """Does the text of a library's exception, or of another program, report a full disk?"""
    return any(words in text for words in DISK_FULL)


def no_space(what: str, text: str = "") -> NoSpace:
    """The error of a full disk, or of a file that would be too large, if `text` says so."""
    if TOO_LARGE in text:
        why, next = "the file would be larger than the system allows", "raise the limit: ulimit -f unlimited"
        return NoSpace(what, why, next)
    next = "free some space, then run the same command again: finished steps are kept"
    return NoSpace(what, "no space left on the disk", next)


def _check_regular(path: Path | str) -> None:
    """Raises InputError for a pipe, a socket or a device."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116
    except (OSError, ValueError):  # opening it says more
        return
    device = "a device"
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: device, stat.S_IFBLK: device}
    if kind := kinds.get(stat.S_IFMT(mode)):
        raise InputError(f"cannot read {path}", f"it is {kind}, not a file", "copy what it gives into a file")


def suggest(name: str, known: tuple[str, ...]) -> str:
    """A hint for a misspelt name: the closest known names, or else all of them if they are not too many."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"known: {', '.join(known)}" if 0 < len(known) <= MOST_NAMES else ""
