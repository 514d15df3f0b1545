"""`edgekit prune [ARTIFACT]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.export import split
from edgekit.cli.shared import CommandResult, Reporter, edgekit_command, out_option


def _times(ctx: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """ "1.5" or "1.5x"."""
    if value is None:
        return None
    try:
        return float(str(value).lower().removesuffix("x"))
    except ValueError:
        raise click.BadParameter(f"{value!r} is not how many times faster, for example 1.5", ctx, parameter) from None


@edgekit_command("prune", short_help="Cut channels and attention heads, and train what is left.")
@click.argument("artifact", required=False)
@click.option("--ratio", type=float, metavar="R", help="Share of the channels that go, for example 0.5.")
@click.option("--macs", type=float, metavar="R", help="Share of the multiplications that may stay.")
@click.option("--parameters", type=float, metavar="R", help="Share of the parameters that may stay.")
@click.option("--speedup", callback=_times, metavar="X", help="How many times faster, measured on the target: 1.5.")
@click.option("--target", default="host", envvar="EDGEKIT_TARGET", metavar="T", help="Where a speedup is measured.")
@click.option("--runtimes", callback=split, default="", metavar="R,…", help="In which runtimes (default: in all).")
@click.option("--importance", type=click.Choice(["magnitude", "taylor", "bn-scale"]), help="What goes first.")
@click.option("--global", "scope", flag_value="global", help="Compare all layers' channels; else layer by layer.")
@click.option("--unstructured", "structure", flag_value="none", help="Single weights: refused, with the reason.")
@click.option("--round-to", type=click.IntRange(1), help="Channels stay multiples of this (default 8).")
@click.option("--rounds", type=click.IntRange(1), help="Cut and train this many times (default 1).")
@click.option("--epochs", type=click.IntRange(0), help="Of training after each cut (default 4; 0: none).")
@click.option("--sparse-epochs", type=click.IntRange(0), help="Of sparse learning first, for bn-scale.")
@click.option("--lr", type=float, help="The highest learning rate.")
@click.option("--batch", type=click.IntRange(1), help="Samples per step.")
@click.option("--samples", type=click.IntRange(0), help="Train on the first N samples only (0: all).")
@click.option("--seed", type=int, help="Seed of the sample order.")
@click.option("--teacher", default=None, metavar="ARTIFACT", help="Who teaches meanwhile (default: nobody).")
@click.option("--distil", metavar="WAY,…", help="Of logits, features, attention (the unpruned teaches).")
@click.option("--accelerator", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="What to train on.")
@click.option("--max-drop", "max_drop_pp", type=float, metavar="PP", help="Budget in percentage points (default 0.5).")
@click.option("--strict", is_flag=True, help="An undecided budget fails, too.")
@click.option("--val", default="", metavar="SET", help="Samples to verify on (default: the task's validation split).")
@click.option(
    "--name", default="", metavar="CHAIN", help="What the chain is called (default: after the goal, prune50)."
)
@out_option
def command(
    artifact: str | None,
    target: str,
    max_drop_pp: float | None,
    strict: bool,
    val: str,
    name: str,
    out: Path | None,
    reporter: Reporter,
    **fields: Any,
) -> CommandResult:
    """Prune ARTIFACT (RUN, RUN/NAME, or net.py:make; left out: the newest run's float model): whole channels and
    heads are cut, by --ratio or towards --macs, --parameters or a measured --speedup, and the rest is trained
    on. Exit 1 where the budget is missed; what was made is kept."""
    from edgekit.workflows import prune

    given = {key: value for key, value in fields.items() if value is not None and value != ()}
    outcome = prune.prune(
        artifact,
        name=name,
        target=target,
        val=val,
        max_drop_pp=max_drop_pp,
        strict=strict,
        out=out,
        progress=reporter.progress,
        say=reporter.say,
        **given,
    )

    def show() -> None:
        for made in outcome.artifacts:
            if spoilt := made.details["pruned"].get("disturbed"):
                click.echo(f"careful: the speedup was measured on a disturbed machine ({spoilt}): edgekit bench")
            click.echo(f"{made.path}")

    return CommandResult.of(outcome, show, {"pruned": [made.details.get("pruned") for made in outcome.artifacts]})
