"""`edgekit train [TASK]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli._common import Answer, Voice, answers, out_option
from edgekit.errors import InputError


@answers("train", short_help="Train a network of a task, from scratch or from given weights.")
@click.argument("task", required=False)
@click.option("--data", metavar="SET", help="Data of your own in place of a task: a table, a folder by class, shards.")
@click.option("--model", default="", metavar="M", help="The network: one of the task's, or net.py:Net.")
@click.option("--epochs", type=click.IntRange(1), help="At most this many epochs.")
@click.option("--batch", type=click.IntRange(1), help="Samples per step.")
@click.option("--lr", type=float, help="The highest learning rate of the one-cycle schedule.")
@click.option("--seed", type=int, help="Seed of initial weights and sample order.")
@click.option(
    "--init", default=None, metavar="X", help="Start from weights: a .safetensors file or a plain checkpoint."
)
@click.option("--accelerator", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="What to train on.")
@out_option
def command(task: str | None, data: str | None, model: str, out: Path | None, voice: Voice, **fields: Any) -> Answer:
    """Train a network of TASK: mnist (where it is left out), fashion-mnist, a class of your own (tasks.py:Houses), or
    data (houses.csv, a folder of images by class). The weights of the best epoch on validation data are kept."""
    from edgekit import api, recipe

    if task and data:
        raise InputError(f"{task} is trained on its own data", f"--data names {data}", "give the one or the other")
    given = {name: value for name, value in fields.items() if value is not None}
    outcome = api.train(
        task or data or recipe.STARTER, model=model, out=out, progress=voice.progress, say=voice.say, **given
    )

    def show() -> None:
        for artifact in outcome.artifacts:
            click.echo(f"{artifact.path}")

    return Answer.of(outcome, show, {"history": [a.details.get("history") for a in outcome.artifacts]})
