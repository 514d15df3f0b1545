"""The command line: one file per command. Each file parses its options, calls the Python API and prints the result;
heavy packages are imported only when a command starts its work.
"""

from __future__ import annotations

import importlib
import io
import keyword
import logging
import os
import pkgutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from edgekit import __version__
from edgekit.cli.shared import document, github
from edgekit.cli.shared.output import discard, echo_error, echo_failure, echo_json, open_streams, printing
from edgekit.cli.shared.quantities import Quantity
from edgekit.cli.shared.trust import ask, can_ask
from edgekit.core import signals
from edgekit.core.errors import (
    EXIT_BUG,
    DeviceError,
    EdgekitError,
    InputError,
    is_disk_full,
    no_space,
    os_errors,
    suggest,
)

#: what Click raises if a group is called without a command; Click before 8.2 prints the help itself
NO_ARGUMENTS: tuple[type[click.UsageError], ...] = tuple(
    kind for kind in (getattr(click.exceptions, "NoArgsIsHelpError", None),) if kind
)


#: options with text that the `edgekit.toml` of a working directory may set, if it names no code
TEXTS = frozenset(
    "against calibration classes data distil dynamic fail-if freeze fresh lr-factor methods model "
    "runtime runtimes shape task threads to try val".split()
)

#: switches that it may not set: they stand for a confirmation, or change what a device runs
ACTIONS = frozenset({"replace", "rollback", "yes"})


class Commands(click.Group):
    """The commands are the files of this folder; each is imported when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        folder = str(Path(__file__).parent)
        names = (m.name for m in pkgutil.iter_modules([folder]) if not m.ispkg)
        return sorted(name.removesuffix("_") for name in names)  # import_.py: a keyword cannot be a module's name

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in self.list_commands(ctx):
            return None
        module = f"{name}_" if keyword.iskeyword(name) else name
        command: click.Command = importlib.import_module(f"edgekit.cli.{module}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Raises UsageError for an unknown command, suggesting similar ones."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            hint = suggest(args[0], tuple(self.list_commands(ctx)))
            raise click.UsageError(f"there is no command {args[0]!r} ({hint})")
        return super().resolve_command(ctx, args)


def _version(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"edgekit {__version__}")
        ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "EDGEKIT"})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
@click.pass_context
def group(ctx: click.Context) -> None:
    """Compress and deploy neural networks to edge devices: from a model, its data and a device, edgekit makes the
    smallest, fastest artifact that keeps the accuracy on that device, with the measurements that prove it.

    Start with `edgekit run`: it trains, exports, quantizes, verifies, measures and compares a small network.
    """
    if not ctx.obj:
        ctx.default_map = _settings(of_folder=ctx.invoked_subcommand != "trust")


def main(arguments: Sequence[str]) -> int:
    """Run a command and return the exit code; an error is printed as one line, with --json as one object."""
    as_json = "--json" in arguments
    for word in arguments:
        if not _is_unicode(word):
            shown = word[:200].encode("utf-8", "replace").decode()
            return _fail(as_json, "", 2, f"{shown!r} is not UTF-8 text", "", "rename that file or folder")
    words = [word for word in arguments if not word.startswith("-")]
    command = " ".join(words[: 2 if words[:1] == ["targets"] else 1])
    signals.install()
    if instruction := os.environ.get("_EDGEKIT_COMPLETE"):
        from edgekit.cli.shared import shells

        return shells.answer(group, instruction)
    log = logging.getLogger("edgekit")
    log.propagate = False  # libraries give the root logger handlers and levels
    log.setLevel(log.level or logging.WARNING)
    try:
        open_streams()
        with os_errors("read or write", "a file or stdout"):  # a full disk can show up anywhere
            asks_help = not {"--help", "-h"}.isdisjoint(arguments)
            code = group.main(list(arguments), prog_name="edgekit", standalone_mode=False, obj=asks_help)
        return code if isinstance(code, int) else 0
    except NO_ARGUMENTS as no_command:
        return _help(no_command.format_message())
    except click.exceptions.Exit as exit:
        return exit.exit_code
    except click.UsageError as error:
        help_command = f"edgekit {error.ctx.info_name} --help" if error.ctx and error.ctx.parent else "edgekit --help"
        return _fail(as_json, command, 2, error.format_message(), "", help_command)
    except (KeyboardInterrupt, click.Abort):
        return _interrupted(as_json, command)
    except EdgekitError as error:
        if signals.received():
            return _interrupted(as_json, command)
        return _fail(as_json, command, error.code, error.what, error.why, error.next, error)
    except SystemExit:
        if not isinstance(sys.stdout, io.TextIOBase):  # Click's stand-in, when the reader of --help has gone
            discard(sys.stdout)
            return 0
        what, next = "the code that was run ended the program", "remove its sys.exit()"
        return _fail(as_json, command, InputError.code, what, "", next)
    except MemoryError:
        return _fail(as_json, command, DeviceError.code, "out of memory", "", "use a smaller batch or model")
    except Exception as error:
        if signals.received():  # a library has turned KeyboardInterrupt into an error of its own
            return _interrupted(as_json, command)
        if os.environ.get("EDGEKIT_TRACEBACK"):
            raise
        from edgekit.core import registry

        if is_disk_full(str(error)):
            full = no_space("cannot write a file", str(error))
            return _fail(as_json, command, full.code, full.what, full.why, full.next)
        what = f"a bug in {registry.at_fault(error)}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
        next = "set EDGEKIT_TRACEBACK=1 to see the traceback, and report it"
        return _fail(as_json, command, EXIT_BUG, what, "", next)


def _help(text: str) -> int:
    """Print what the command takes. The exit code is 2 if stdout cannot be written."""
    try:
        with printing():
            click.echo(text)
    except EdgekitError as error:
        return _fail(False, "", error.code, error.what, error.why, error.next)
    return 0


def _is_unicode(text: str) -> bool:
    """Can it be written as UTF-8? The bytes of a file's name that are no UTF-8 are half surrogate pairs in Python."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _interrupted(as_json: bool, command: str) -> int:
    next = "run the same command again: it keeps finished steps"
    with suppress(OSError):  # after SIGHUP the terminal is gone
        _fail(as_json, command, signals.exit_code(), "interrupted", "", next)
    return signals.exit_code()


def _fail(
    as_json: bool, command: str, code: int, what: str, why: str, next: str, error: EdgekitError | None = None
) -> int:
    problems = error.problems if error else ()
    if as_json:
        error_json = {"code": code, "what": what, "why": why, "next": next}
        problems_json = [{"where": p.where, "what": p.what, "next": p.next} for p in problems]
        with suppress(EdgekitError), printing():  # the line on stderr says why
            echo_json(document(command, problems=problems_json, error=error_json))
    reason = what + (f": {why}" if why else "")
    echo_failure(reason, next)
    for text in dict.fromkeys(map(str, problems)):
        echo_error(f"  {text}")
    github.annotate("error", "edgekit", reason.removesuffix(".") + (f". Next: {next}" if next else ""))
    return code


def _settings(of_folder: bool) -> dict[str, Any]:
    """Defaults of options: the user's config, overridden by `./edgekit.toml` if the user trusts this folder. A table
    sets the options of one command, a plain key the option of every command that has it.

    Raises InputError for an unknown command or option, a folder that is not trusted, and what its file may not set.
    """
    merged: dict[str, Any] = {}
    from edgekit.core import paths, trust

    if (path := paths.user_config() / trust.SETTINGS).is_file():
        _merge(path, merged)
    if of_folder and (local := paths.settings()):
        what = f"{trust.SETTINGS} of this folder is not used"
        if not trust.is_inside(local, local.parent):
            why, next = "it is a link that leads out of the folder", "copy the file, and trust it: edgekit trust"
            raise InputError(what, why, next)
        if not trust.is_trusted(local.parent) and not (can_ask() and ask(local.parent)):
            why = "the folder is not trusted, or has changed since"
            raise InputError(what, why, f"edgekit trust shows what it sets, and asks; or remove {trust.SETTINGS}")
        _merge(local, merged, restricted=True)
    return merged


def _merge(path: Path, merged: dict[str, Any], restricted: bool = False) -> None:
    """Add a settings file to `merged`, under Click's names of the options; it overrides earlier values. A `restricted`
    one may not write files, name a device or run code.
    """
    context = click.Context(group)
    commands = {name: _options(name, context) for name in group.list_commands(context)}
    all_options = tuple(sorted({option for options in commands.values() for option in options}))
    from edgekit.core.config import read_toml

    for key, value in read_toml(path).items():
        if key in commands and not isinstance(value, dict):
            raise InputError(f"{path}: {key} must be a table, not {value!r}", next=f"write [{key}] above its options")
        if key not in commands and isinstance(value, dict):
            raise InputError(f"{path}: there is no command {key!r}", next=suggest(key, tuple(commands)))
        settings = value if isinstance(value, dict) else {key: value}
        for option, setting in settings.items():
            known = tuple(commands[key]) if key in commands else all_options
            if option not in known:
                raise InputError(f"{path}: there is no option {option!r}", next=suggest(option, known))
            for name in [key] if key in commands else [n for n, options in commands.items() if option in options]:
                parameter = commands[name][option]
                if restricted and not _harmless(option, parameter, setting):
                    why = "a folder's own settings may not write files, name a device, run code or confirm a question"
                    next = f"give --{option} on the command line, or set it in your own configuration"
                    raise InputError(f"{path}: {option} = {setting!r} is refused", why, next)
                try:
                    values = _values(parameter, setting, click.Context(click.Command(name)))
                except click.UsageError as error:
                    what, why = f"{path}: {option} = {str(setting)[:60]!r} cannot be used", error.message.rstrip(".")
                    raise InputError(what, why[:1].lower() + why[1:], f"edgekit {name} --help") from error
                merged.setdefault(name, {}).update(values)


def _values(parameter: click.Option, setting: Any, context: click.Context) -> dict[str, Any]:
    """The option's value in Click's map of defaults; nothing for a flag that is false. Raises UsageError."""
    if isinstance(setting, dict) or (isinstance(setting, list) and not parameter.multiple):
        raise click.BadParameter("it takes one value", context, parameter)
    if parameter.is_flag != isinstance(setting, bool):
        raise click.BadParameter("it is true or false" if parameter.is_flag else "it takes a value", context, parameter)
    if parameter.is_flag and not parameter.is_bool_flag:  # --quick and --thorough have one value between them
        return {str(parameter.name): parameter.flag_value} if setting else {}
    value = [setting] if parameter.multiple and not isinstance(setting, list) else setting
    if any(isinstance(entry, dict | list | bool) for entry in (value if isinstance(value, list) else ())):
        raise click.BadParameter("it takes a list of texts or numbers", context, parameter)
    if not isinstance(parameter.type, click.Path):  # what it names may be made by another command
        parameter.process_value(context, value)
    return {str(parameter.name): value}


def _harmless(option: str, parameter: click.Option, setting: Any) -> bool:
    """May the `edgekit.toml` of a working directory set this: a number, a switch or a choice, or one of `TEXTS`?"""
    if option in ACTIONS:
        return False
    if parameter.is_flag or isinstance(
        parameter.type, click.Choice | click.types.IntParamType | click.types.FloatParamType | Quantity
    ):
        return True
    from edgekit.core.user_code import is_reference, references_in

    words = setting if isinstance(setting, list) else [setting]
    return option in TEXTS and not any(is_reference(name) for word in words for name in references_in(str(word)))


def _options(name: str, context: click.Context) -> dict[str, click.Option]:
    """A command's options by their long names, without the dashes."""
    command = group.get_command(context, name)
    options = [p for p in command.params if isinstance(p, click.Option)] if command else []
    return {word.removeprefix("--"): p for p in options for word in p.opts if word.startswith("--")}
