"""`edgekit prune [ARTIFACT]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli.export import split
from edgekit.cli.shared import CommandResult, Reporter, edgekit_command, out_option
from edgekit.cli.shared.output import echo
from edgekit.cli.shared.quantities import FACTOR, POINTS, SHARE


@edgekit_command("prune", short_help="Remove channels and attention heads, then fine-tune.")
@click.argument("artifact", required=False)
@click.option("--ratio", type=SHARE, metavar="R", help="Share of the channels to remove, such as 0.5 or 50%.")
@click.option("--macs", type=SHARE, metavar="R", help="Share of the MACs to keep at most.")
@click.option("--parameters", type=SHARE, metavar="R", help="Share of the parameters to keep at most.")
@click.option("--speedup", type=FACTOR, metavar="X", help="Speedup to reach, measured on the target, such as 1.5.")
@click.option("--target", default="host", envvar="EDGEKIT_TARGET", metavar="T", help="The target of --speedup.")
@click.option("--runtimes", callback=split, default="", metavar="R,…", help="Runtimes to speed up in (default: all).")
@click.option("--importance", type=click.Choice(["magnitude", "taylor", "bn-scale"]), help="Importance of a channel.")
@click.option("--global", "scope", flag_value="global", help="Rank channels across layers (default: in each layer).")
@click.option("--unstructured", "structure", flag_value="none", help="Single weights: not supported; says why.")
@click.option("--round-to", type=click.IntRange(1), help="Keep channels a multiple of this (default 8).")
@click.option("--rounds", type=click.IntRange(1), help="Rounds of pruning and training (default 1).")
@click.option("--epochs", type=click.IntRange(0), help="Training epochs after each round (default 4; 0: none).")
@click.option("--sparse-epochs", type=click.IntRange(0), help="bn-scale: epochs of sparsity training first.")
@click.option("--lr", type=float, help="Peak learning rate.")
@click.option("--batch", type=click.IntRange(1), help="Batch size.")
@click.option("--samples", type=click.IntRange(0), help="Train on the first N samples only (0: all).")
@click.option("--seed", type=int, help="Seed of the sample order.")
@click.option("--teacher", default=None, metavar="ARTIFACT", help="Teacher for distillation (default: none).")
@click.option("--distil", metavar="METHOD,…", help="logits, features, attention; the unpruned network is the teacher.")
@click.option("--accelerator", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="Device to train on.")
@click.option(
    "--max-drop", "max_drop_pp", type=POINTS, metavar="PP", help="Accuracy budget in percentage points (default 0.5)."
)
@click.option("--strict", is_flag=True, help="An undecided budget fails, too.")
@click.option("--val", default="", metavar="SET", help="Validation samples (default: the task's validation split).")
@click.option(
    "--name", default="", metavar="CHAIN", help="Name of the chain (default: from the goal, such as prune50)."
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
    """Prune ARTIFACT (RUN, RUN/NAME, or net.py:make; default: the newest run's float model): remove whole channels and
    heads, by --ratio or until --macs, --parameters or a measured --speedup is reached, then fine-tune the rest. Exit 1
    if the budget is missed; the artifact is kept."""
    from edgekit.workflows import prune

    step_fields = {key: value for key, value in fields.items() if value is not None and value != ()}
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
        **step_fields,
    )

    def show() -> None:
        for artifact in outcome.artifacts:
            if disturbance := artifact.details["pruned"].get("disturbed"):
                echo(f"warning: the speedup was measured on a disturbed machine ({disturbance}): edgekit bench")
            echo(f"{artifact.path}")

    return CommandResult.of(outcome, show, {"pruned": [a.details.get("pruned") for a in outcome.artifacts]})
