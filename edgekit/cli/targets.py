"""`edgekit targets list | show NAME | add NAME | check NAME | clean NAME`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command
from edgekit.core.errors import DeviceError, InputError


@click.group("targets", short_help="The boards, phones and machines edgekit knows.")
def command() -> None:
    """The boards, phones and machines edgekit knows: files in targets/, here, in your config, and shipped."""


@edgekit_command("list", full="targets list", short_help="One line per target.")
def _list(reporter: Reporter) -> CommandResult:
    """One line per target."""
    from edgekit.measure import targets

    found = [targets.load(name) for name in targets.names()]

    def show() -> None:
        from edgekit.report import tables

        known = tables.table(*map(tables.words, ("target", "device", "what it is")))
        for target in found:
            tables.add(known, target.name, target.device, target.title)
        tables.show([known])

    return CommandResult(show, result=[dataclasses.asdict(target) for target in found])


@edgekit_command("show", full="targets show", short_help="Everything about one target.")
@click.argument("name")
def _show(name: str, reporter: Reporter) -> CommandResult:
    """Everything about the target NAME; for this machine, what was read from it."""
    from edgekit.measure import targets

    target = targets.load(name)

    def show() -> None:
        from edgekit.report import tables

        fields = tables.table(tables.words(), tables.words())
        for field, value in dataclasses.asdict(target).items():
            if isinstance(value, dict):
                value = ", ".join(f"{k} {v}".strip() for k, v in value.items())
            tables.add(fields, field, " ".join(value) if isinstance(value, tuple) else str(value))
        tables.add(fields, "isa class", target.isa_class)
        tables.show([fields])

    return CommandResult(show, result={**dataclasses.asdict(target), "isa_class": target.isa_class})


@edgekit_command("add", full="targets add", short_help="Read a device and keep it as a target of your own.")
@click.argument("name")
@click.option("--ssh", default="", metavar="[USER@]HOST[:PORT]", help="Where it is; an ssh alias will do.")
@click.option("--adb", default="", metavar="SERIAL", help="A phone: what `adb devices` calls it, or host:port.")
@click.option(
    "--library", "libraries", multiple=True, metavar="RUNTIME=PATH", help="A runtime's library built for the phone."
)
@click.option("--like", default="", metavar="T", help="A known target: its runtimes and notes are taken over.")
@click.option("--python", default="python3", metavar="PATH", help="The Python to use there (default: python3).")
@click.option("--replace", is_flag=True, help="Overwrite a target of your own with that name.")
def _add(
    name: str, ssh: str, adb: str, libraries: tuple[str, ...], like: str, python: str, replace: bool, reporter: Reporter
) -> CommandResult:
    """Connect to a device, read what it is, and keep it as the target NAME in your own configuration. Nothing is
    changed there. Over ssh its host key must be known: connect to it once with ssh before."""
    from edgekit.measure import targets
    from edgekit.workflows.targets import add

    if bool(ssh) == bool(adb):
        raise InputError("say how it is reached", next=f"edgekit targets add {name} --ssh user@host, or --adb SERIAL")
    if libraries and not adb:
        raise InputError("--library is for phones", "elsewhere a runtime comes with its package", "leave it out")
    own = {}
    for word in libraries:
        runtime, _, library = word.partition("=")
        if not library:
            raise InputError(f"--library {word!r} names no path", next="write it so: --library onnxruntime=PATH")
        own[runtime] = str(Path(library).expanduser().absolute())
    target = add.add(name, "adb" if adb else "ssh", adb or ssh, like, python, own)
    path = targets.write(target, replace=replace)

    def show() -> None:
        click.echo(f"{target.name}: {target.title}")
        click.echo(f"{target.arch} ({target.isa_class}), {target.cores} cores, {target.memory_mb:,} MB")
        click.echo(f"kept in {path}; try: edgekit targets check {name}")

    return CommandResult(show, result={**dataclasses.asdict(target), "isa_class": target.isa_class, "file": str(path)})


@edgekit_command("check", full="targets check", short_help="Can it be measured on? What to do where not.")
@click.argument("name")
def _check(name: str, reporter: Reporter) -> CommandResult:
    """Is the target NAME reachable, and has it what is needed: disk, Python, runtimes, clock, temperature.

    An emulated board is started for it, and its system made where it is missing.
    """
    from edgekit.measure import targets
    from edgekit.workflows.targets.check import check

    found = list(check(targets.load(name)))
    failed = [each for each in found if each.state == "failed"]

    def show() -> None:
        from edgekit.report import tables

        table = tables.table(tables.words(), tables.words(), tables.words())
        for each in found:
            mark = {"ok": "ok", "warning": "!", "failed": "FAILED"}[each.state]
            tables.add(table, mark, each.what, each.found + (f"\nnext: {each.next}" if each.next else ""))
        tables.show([table])

    error = [DeviceError(f"{name} cannot be measured on", failed[0].found, failed[0].next)] if failed else []
    return CommandResult(show, result=[dataclasses.asdict(each) for each in found], failures=error)


@edgekit_command("clean", full="targets clean", short_help="Remove what edgekit put on a device.")
@click.argument("name")
def _clean(name: str, reporter: Reporter) -> CommandResult:
    """Remove the files, environments and results that edgekit keeps on the target NAME; the target itself stays."""
    from edgekit.measure import targets

    device = targets.device(targets.load(name))
    if device.clean is None:
        raise InputError(f"nothing is kept on {name}", "it is no device elsewhere", "edgekit clean RUN removes a run")
    found = device.clean()
    return CommandResult(
        lambda: click.echo(f"removed {found['root']} on {name}: {found['bytes'] / 1e6:,.1f} MB"), result=found
    )


for _command in (_list, _show, _add, _check, _clean):
    command.add_command(_command)
