"""`edgekit targets list | show NAME | add NAME | check NAME | clean NAME`."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command
from edgekit.cli.shared.output import echo
from edgekit.core.errors import DeviceError, InputError


@click.group("targets", short_help="List, add, check and clean the devices that edgekit knows.")
def command() -> None:
    """Boards, phones and machines that edgekit knows: files in ./targets/, in your configuration, and shipped ones."""


@edgekit_command("list", full="targets list", short_help="List all targets.")
def _list(reporter: Reporter) -> CommandResult:
    """List all targets: name, device, title."""
    from edgekit.measure import targets

    known = [targets.load(name) for name in targets.names()]

    def show() -> None:
        from edgekit.report import tables

        table = tables.table(*map(tables.words, ("target", "device", "title")))
        for target in known:
            tables.add(table, target.name, target.device, target.title)
        tables.show([table])

    return CommandResult(show, result=[dataclasses.asdict(target) for target in known])


@edgekit_command("show", full="targets show", short_help="Show one target.")
@click.argument("name")
def _show(name: str, reporter: Reporter) -> CommandResult:
    """Show the target NAME; for this machine, with what edgekit probed."""
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


@edgekit_command("add", full="targets add", short_help="Probe a device and add it as a target of your own.")
@click.argument("name")
@click.option("--ssh", default="", metavar="[USER@]HOST[:PORT]", help="Address of the device, or an ssh alias.")
@click.option("--adb", default="", metavar="SERIAL", help="A phone: its serial in `adb devices`, or host:port.")
@click.option(
    "--library", "libraries", multiple=True, metavar="RUNTIME=PATH", help="A runtime's library built for the phone."
)
@click.option("--like", default="", metavar="T", help="A known target whose runtimes and notes to copy.")
@click.option("--python", default="python3", metavar="PATH", help="The Python on the device (default: python3).")
@click.option("--replace", is_flag=True, help="Overwrite a target of your own with that name.")
def _add(
    name: str, ssh: str, adb: str, libraries: tuple[str, ...], like: str, python: str, replace: bool, reporter: Reporter
) -> CommandResult:
    """Connect to a device, probe it, and add it to your own configuration as the target NAME. Nothing is changed on the
    device. ssh must already know its host key: connect to it once with ssh first."""
    from edgekit.measure import targets
    from edgekit.workflows.targets import add

    if bool(ssh) == bool(adb):
        next = f"edgekit targets add {name} --ssh user@host, or --adb SERIAL"
        raise InputError("one of --ssh and --adb is required", next=next)
    if libraries and not adb:
        why = "on other devices a runtime comes with its package"
        raise InputError("--library is for phones only", why, "leave it out")
    library_paths = {}
    for word in libraries:
        runtime, _, library = word.partition("=")
        if not library:
            raise InputError(f"--library {word!r} names no path", next="write --library onnxruntime=PATH")
        library_paths[runtime] = str(Path(library).expanduser().absolute())
    target = add.add(name, "adb" if adb else "ssh", adb or ssh, like, python, library_paths)
    path = targets.write(target, replace=replace)

    def show() -> None:
        echo(f"{target.name}: {target.title}")
        echo(f"{target.arch} ({target.isa_class}), {target.cores} cores, {target.memory_mb:,} MB")
        echo(f"written to {path}. Next: edgekit targets check {name}")

    return CommandResult(show, result={**dataclasses.asdict(target), "isa_class": target.isa_class, "file": str(path)})


@edgekit_command("check", full="targets check", short_help="Check that a target can be measured on.")
@click.argument("name")
def _check(name: str, reporter: Reporter) -> CommandResult:
    """Check that the target NAME is reachable and has what measuring requires: disk, Python, runtimes, clock,
    temperature. For each problem, the next command is shown.

    An emulated board is started for the check; its system image is built if it is missing.
    """
    from edgekit.measure import targets
    from edgekit.workflows.targets.check import check

    results = list(check(targets.load(name)))
    failed = [each for each in results if each.state == "failed"]

    def show() -> None:
        from edgekit.report import tables

        table = tables.table(tables.words(), tables.words(), tables.words())
        for each in results:
            mark = {"ok": "ok", "warning": "!", "failed": "FAILED"}[each.state]
            tables.add(table, mark, each.what, each.found + (f"\nnext: {each.next}" if each.next else ""))
        tables.show([table])

    errors = [DeviceError(f"{name} cannot be measured on", failed[0].found, failed[0].next)] if failed else []
    return CommandResult(show, result=[dataclasses.asdict(each) for each in results], failures=errors)


@edgekit_command("clean", full="targets clean", short_help="Remove edgekit's files from a device.")
@click.argument("name")
def _clean(name: str, reporter: Reporter) -> CommandResult:
    """Remove edgekit's files, environments and results from the target NAME; the target itself stays known."""
    from edgekit.measure import targets

    device = targets.device(targets.load(name))
    if device.clean is None:
        raise InputError(f"edgekit keeps no files on {name}", "it is not a remote device", "edgekit clean RUN")
    removed = device.clean()
    return CommandResult(
        lambda: echo(f"removed {removed['root']} on {name}: {removed['bytes'] / 1e6:,.1f} MB"), result=removed
    )


for _command in (_list, _show, _add, _check, _clean):
    command.add_command(_command)
