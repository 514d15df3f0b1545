"""What commands share: options, the JSON object, progress, and the result that is printed at the end."""

from __future__ import annotations

import functools
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgekit.cli.shared import completion, github
from edgekit.cli.shared.output import echo_error, echo_failure, echo_json, printing
from edgekit.cli.shared.quantities import DURATION
from edgekit.core.errors import DeviceError, EdgekitError
from edgekit.core.printable import LogFormatter, printable
from edgekit.core.ticker import Ticker

if TYPE_CHECKING:
    from edgekit.core.artifact import Artifact
    from edgekit.core.measurement import Measurement
    from edgekit.measure.context import Outcome

T = TypeVar("T")
SCHEMA = "edgekit/1"

#: input name → its sizes, batch included; "" is the only input
Shapes = dict[str, tuple[int, ...]]


@dataclass
class CommandResult:
    """The result of a command. `show` prints it for people; --json prints the other fields."""

    show: Callable[[], None]
    artifacts: Sequence[Artifact] = ()
    measurements: Sequence[Measurement] = ()
    result: Any = None
    failures: Sequence[EdgekitError] = ()
    problems: list[dict[str, str]] = field(default_factory=list)

    @classmethod
    def of(cls, outcome: Outcome, show: Callable[[], None], result: Any = None) -> CommandResult:
        """`result` gets the checks of the conversions, the notes, and the sessions of measuring."""
        checks = {"findings": [asdict(finding) for finding in outcome.findings], "notes": outcome.notes}
        checks["sessions"] = [asdict(session) for session in outcome.sessions]
        if result is None or isinstance(result, dict):
            result = {**checks, **(result or {})}
        return cls(show, outcome.artifacts, outcome.measurements, result, outcome.failures)

    @property
    def code(self) -> int:
        """The highest exit code of the failures: a failed device takes precedence over a failed check."""
        return max((failure.code for failure in self.failures), default=0)


class Reporter:
    """Messages of a working command: lines and a progress bar on stderr, nothing with -q.

    `ticking`: a terminal shows the seconds that pass during a long step.
    """

    def __init__(self, quiet: bool, ticking: bool = False) -> None:
        self.quiet = quiet
        self._ticker = Ticker(sys.stderr) if ticking and not quiet and sys.stderr.isatty() else None

    def say(self, line: str) -> None:
        if not self.quiet:
            with self._ticker.hidden() if self._ticker else nullcontext():
                echo_error(line)

    def progress(self, items: Iterable[T], what: str, total: int | None = None) -> Iterator[T]:
        """A bar on a terminal, or the seconds of what has a single item; a few lines elsewhere."""
        if self.quiet:
            yield from items
            return
        if total == 1 and sys.stderr.isatty():
            with self._ticker.stage(what) if self._ticker else nullcontext():
                yield from items
            return
        if not sys.stderr.isatty():
            from edgekit.core.progress import in_lines

            yield from in_lines(items, what, total, self.say)
            return
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import track

        text, console = f"  {escape(printable(what))}", Console(stderr=True)
        with self._ticker.hidden() if self._ticker else nullcontext():
            yield from track(items, description=text, total=total, console=console, transient=True)


def edgekit_command(
    name: str, full: str = "", **settings: Any
) -> Callable[[Callable[..., CommandResult]], click.Command]:
    """A Click command whose function returns a CommandResult, which is printed; adds --json, -v and -q.

    `full` is the name in --json if it differs (a subcommand's).
    """

    def wrap(function: Callable[..., CommandResult]) -> click.Command:
        @functools.wraps(function)
        def call(as_json: bool, verbose: bool, quiet: bool, **options: Any) -> int:
            logging.raiseExceptions = False  # a log that cannot be written must not print a traceback
            if logging.lastResort:
                logging.lastResort.setFormatter(LogFormatter("%(message)s"))
            if verbose:
                _log_to_stderr()
            from edgekit.core.user_code import typed

            typed(options)
            try:
                result = function(reporter=Reporter(quiet, not as_json and not verbose), **options)
            except BrokenPipeError as error:  # Click would end the program as if stdout were meant
                what, why = "a program that edgekit wrote to has ended", str(error)
                raise DeviceError(what, why, "run the same command again; -v says more") from error
            with printing():
                _print(full or name, result, as_json)
            echo_failures(result.failures)
            for failure in result.failures:
                github.annotate("error", failure.what, failure.why or failure.what)
            return result.code

        command: click.Command = click.command(name, **settings)(call)  # type: ignore[no-untyped-call]
        command.params += [
            click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object and nothing else on stdout."),
            click.Option(["-v", "--verbose"], is_flag=True, help="Log details on stderr."),
            click.Option(["-q", "--quiet"], is_flag=True, help="Print nothing while working."),
        ]
        for parameter in command.params:
            if parameter.metavar is None and isinstance(parameter.type, click.types.IntParamType):
                parameter.metavar = "N"  # Click's word is INTEGER RANGE
            elif parameter.metavar is None and isinstance(parameter.type, click.types.FloatParamType):
                parameter.metavar = "X"
        completion.attach(command, full or name)
        return command

    return wrap


def _print(name: str, result: CommandResult, as_json: bool) -> None:
    if as_json:
        echo_json(_document(name, result))
    else:
        result.show()


def echo_failures(failures: Sequence[EdgekitError]) -> None:
    """One line for each reason, with all that failed for it."""
    groups: dict[tuple[str, str], list[str]] = {}
    for failure in failures:
        groups.setdefault((failure.why or failure.what, failure.next), []).append(failure.what)
    for (reason, next), whats in groups.items():
        subjects = [what for what in dict.fromkeys(whats) if what != reason]
        echo_failure(": ".join(filter(None, ["; ".join(subjects), reason])), next)


def out_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--out",
        type=click.Path(path_type=Path),
        envvar="EDGEKIT_OUT",
        metavar="RUN",
        help="The run folder (an artifact stays in its own).",
    )(function)


def shape_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--shape",
        "shapes",
        multiple=True,
        callback=_shapes,
        metavar="[NAME=]1x3x320x320",
        help="The sizes of an input whose axes are open; repeat.",
    )(function)


def metric_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--metric",
        type=click.Choice(completion.METRICS),
        callback=lambda ctx, parameter, value: value or "",
        help="Of a model without a task, where labels are classes (default: by its signature).",
    )(function)


def target_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--target",
        "target_names",
        multiple=True,
        envvar="EDGEKIT_TARGET",
        metavar="T",
        help="A target to measure on; repeat.",
    )(function)


def plan_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """--quick, --thorough, --threads, --batch, --precision, …: the measurement plan."""
    options = [
        click.option("--quick", "preset", flag_value="quick", help="Fewer, shorter processes, for a first look."),
        click.option(
            "--thorough", "preset", flag_value="thorough", help="More, longer processes, for small differences."
        ),
        click.option("--threads", callback=_counts, metavar="N[,N…]", help="Threads of the runtime; several: a sweep."),
        click.option("--batch", type=click.IntRange(1), help="Samples per inference (default 1)."),
        click.option(
            "--precision", type=click.Choice(["fp32", "bf16"]), help="Compute precision of float (default fp32)."
        ),
        click.option("--processes", type=click.IntRange(1), help="Timing processes per artifact (default 15)."),
        click.option("--samples", type=click.IntRange(0), help="Measure accuracy on the first N samples (0: all)."),
        click.option("--prompt", type=click.IntRange(1), help="Language models: tokens of the prompt (default 64)."),
        click.option("--new-tokens", type=click.IntRange(1), help="Tokens to generate after it (default 32)."),
        click.option(
            "--sustained",
            type=DURATION,
            metavar="TIME",
            help="Also a sustained load (10m, 30s): temperature, clock, latency.",
        ),
    ]
    for option in reversed(options):
        function = option(function)
    return function


def plan_of(options: dict[str, Any]) -> dict[str, Any]:
    """The plan's overrides in a command's options; `threads` is a tuple, one entry per measurement."""
    from edgekit.core.target import PRESETS

    plan: dict[str, Any] = dict(PRESETS[options["preset"]]) if options["preset"] else {}
    names = ("threads", "batch", "precision", "processes", "samples", "prompt", "new_tokens", "sustained")
    overrides = {name: options[name] for name in names}
    return {**plan, **{name: value for name, value in overrides.items() if value is not None}}


def _counts(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    """ "1,2,4" → (1, 2, 4)."""
    if value is None:
        return None
    words = [word.strip() for word in str(value).split(",")]
    if not all(re.fullmatch(r"0*[1-9][0-9]{0,8}", word) for word in words):
        raise click.BadParameter(f"{value!r} is not a positive integer, or several with commas", ctx, parameter)
    return tuple(map(int, words))


def _shapes(ctx: click.Context, parameter: click.Parameter, words: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """ "x=1x3x320x320" → {"x": (1, 3, 320, 320)}; without a name, of the only input, under ""."""
    shapes = {}
    for word in words:
        name, _, sizes = word.rpartition("=")
        if not re.fullmatch(r"[1-9][0-9]{0,9}(x[1-9][0-9]{0,9})*", sizes):
            raise click.BadParameter(f"{word!r} is not a shape, such as x=1x3x320x320", ctx, parameter)
        shapes[name] = tuple(map(int, sizes.split("x")))
    return shapes


def document(
    command: str,
    *,
    artifacts: Sequence[Any] = (),
    measurements: Sequence[Any] = (),
    result: Any = None,
    problems: Sequence[Any] = (),
    error: Any = None,
) -> dict[str, Any]:
    """The object that --json prints (schema: edgekit/schema/edgekit-1.json)."""
    return {
        "schema": SCHEMA,
        "command": command,
        "artifacts": list(artifacts),
        "measurements": list(measurements),
        "result": result,
        "problems": list(problems),
        "error": error,
    }


def _document(name: str, result: CommandResult) -> dict[str, Any]:
    problems = list(result.problems)
    problems += [{"where": failure.what, "what": failure.why, "next": failure.next} for failure in result.failures]
    worst = max(result.failures, key=lambda failure: failure.code, default=None)
    error = worst and {"code": worst.code, "what": worst.what, "why": worst.why, "next": worst.next}
    return document(
        name,
        artifacts=[artifact_json(a) for a in result.artifacts],
        measurements=[asdict(m) for m in result.measurements],
        result=result.result,
        problems=problems,
        error=error,
    )


def artifact_json(artifact: Artifact) -> dict[str, Any]:
    return {
        "name": artifact.name,
        "id": artifact.id,
        "kind": str(artifact.kind),
        "step": artifact.step,
        "scheme": artifact.scheme,
        "parents": [parent.name for parent in artifact.parents],
        "path": str(artifact.path),
        "size_bytes": artifact.sizes.total,
        "weight_bytes": artifact.sizes.weights,
    }


def _log_to_stderr() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LogFormatter("%(levelname)s %(message)s"))
    logging.getLogger("edgekit").addHandler(handler)
    logging.getLogger("edgekit").setLevel(logging.DEBUG)
