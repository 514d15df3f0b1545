"""`edgekit targets list | show NAME`."""

from __future__ import annotations

import dataclasses

import click

from edgekit.cli._common import Answer, Voice, answers


@click.group("targets", short_help="The boards, phones and machines edgekit knows.")
def command() -> None:
    """The boards, phones and machines edgekit knows: files in targets/, here, in your config, and shipped."""


@answers("list", full="targets list", short_help="One line per target.")
def _list(voice: Voice) -> Answer:
    """One line per target."""
    from edgekit import targets

    found = [targets.load(name) for name in targets.names()]

    def show() -> None:
        for target in found:
            click.echo(f"{target.name:<16} {target.device:<7} {target.title}")

    return Answer(show, result=[dataclasses.asdict(target) for target in found])


@answers("show", full="targets show", short_help="Everything about one target.")
@click.argument("name")
def _show(name: str, voice: Voice) -> Answer:
    """Everything about the target NAME; for this machine, what was read from it."""
    from edgekit import targets

    target = targets.load(name)

    def show() -> None:
        for field, value in dataclasses.asdict(target).items():
            if isinstance(value, dict):
                value = ", ".join(f"{k} {v}".strip() for k, v in value.items())
            click.echo(f"{field:<10} {' '.join(value) if isinstance(value, tuple) else value}")
        click.echo(f"{'isa class':<10} {target.isa_class}")

    return Answer(show, result={**dataclasses.asdict(target), "isa_class": target.isa_class})


command.add_command(_list)
command.add_command(_show)
