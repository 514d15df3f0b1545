"""`edgekit train [TASK]`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgekit.cli._common import Answer, Voice, answers, out_option


@answers("train", short_help="Train a network of a task, from scratch or from given weights.")
@click.argument("task", required=False, default="mnist")
@click.option("--model", default="", metavar="M", help="The network (default: the task's first).")
@click.option("--epochs", type=click.IntRange(1), help="At most this many epochs.")
@click.option("--lr", type=float, help="The highest learning rate of the one-cycle schedule.")
@click.option("--seed", type=int, help="Seed of initial weights and sample order.")
@click.option(
    "--init", default=None, metavar="X", help="Start from weights: a .safetensors file or a plain checkpoint."
)
@click.option("--accelerator", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="What to train on.")
@out_option
def command(task: str, model: str, out: Path | None, voice: Voice, **fields: Any) -> Answer:
    """Train a network of TASK (mnist, fashion-mnist); left out: mnist. The weights of the best epoch on validation
    data are kept."""
    from edgekit import api

    given = {name: value for name, value in fields.items() if value is not None}
    outcome = api.train(task, model=model, out=out, progress=voice.progress, say=voice.say, **given)

    def show() -> None:
        for artifact in outcome.artifacts:
            click.echo(f"{artifact.path}")

    return Answer.of(outcome, show, {"history": [a.details.get("history") for a in outcome.artifacts]})
