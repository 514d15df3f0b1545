"""`edgekit train [TASK]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command, out_option
from edgekit.core.errors import InputError

#: options whose values are fields of the train step, in the order that --help shows
FIELDS: Sequence[Callable[..., Any]] = (
    click.option("--epochs", type=click.IntRange(1), help="At most this many epochs."),
    click.option("--batch", type=click.IntRange(1), help="Samples per step, over all processes."),
    click.option("--accumulate", type=click.IntRange(1), help="Batches per step of the optimizer (default 1)."),
    click.option("--lr", type=float, help="The highest learning rate."),
    click.option("--optimizer", type=click.Choice(["sgd", "adam", "adamw"]), help="Default adamw."),
    click.option(
        "--schedule", type=click.Choice(["one-cycle", "cosine", "step", "constant"]), help="Default one-cycle."
    ),
    click.option("--warmup", type=float, metavar="EPOCHS", help="Epochs of warm-up (one-cycle has its own)."),
    click.option("--weight-decay", type=float, help="Default 0.01."),
    click.option("--patience", type=click.IntRange(1), help="Stop after so many epochs that were no better."),
    click.option(
        "--monitor", type=click.Choice(["loss", "metric"]), help="What the best epoch is chosen by (default loss)."
    ),
    click.option("--loss", type=click.Choice(["cross-entropy", "mse", "bce"]), help="In place of the task's own."),
    click.option("--label-smoothing", type=float, help="Of cross-entropy, for example 0.1."),
    click.option("--augment", type=click.Choice(["auto", "on", "off"]), help="The task's data augmentation."),
    click.option("--dropout", type=float, help="Before the last layer, where the network has it."),
    click.option("--clip", type=float, help="The gradient's highest norm."),
    click.option("--ema", type=float, metavar="DECAY", help="Keep a running mean of the weights, for example 0.999."),
    click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Compute precision (default fp32)."),
    click.option("--compile", is_flag=True, default=None, help="Through torch.compile; needs a C++ compiler."),
    click.option("--seed", type=int, help="Seed of initial weights and sample order."),
    click.option(
        "--init", metavar="X", help="Start from weights: an artifact, a .safetensors file, a checkpoint, timm:NAME."
    ),
    click.option("--fresh", multiple=True, metavar="PART", help="A part of the network that --init leaves alone."),
    click.option("--freeze", multiple=True, metavar="PART", help="A part of the network that does not learn."),
    click.option("--unfreeze", type=click.IntRange(1), metavar="EPOCH", help="From this epoch on everything learns."),
    click.option("--lr-decay", type=float, help="Each stage further from the output learns slower by this factor."),
    click.option("--lr-factor", "lr_factors", multiple=True, metavar="PART=X", help="A part that learns at X times."),
    click.option("--teacher", metavar="ARTIFACT", help="A torch artifact to learn from as well (distillation)."),
    click.option("--distil", metavar="METHOD,…", help="Of logits, features, attention (default logits)."),
    click.option("--temperature", type=float, help="Softens the teacher's logits."),
    click.option("--alpha", type=float, help="The teacher's share of the loss; the labels have the rest."),
    click.option("--folds", type=click.IntRange(2), help="Cross-validate first; the network kept learns from all."),
    click.option("--accelerator", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="What to train on."),
)


def field_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(FIELDS):
        function = option(function)
    return function


@edgekit_command("train", short_help="Train a network of a task, from scratch or from given weights.")
@click.argument("task", required=False)
@click.option("--data", metavar="SET", help="Data of your own in place of a task: a table, a folder by class, shards.")
@click.option("--model", default="", metavar="M", help="The network: one of the task's, or net.py:Net.")
@field_options
@click.option(
    "--resume/--no-resume", default=None, help="Insist on going on / start anew (default: go on where it was stopped)."
)
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="EDGEKIT_TENSORBOARD",
    metavar="DIR",
    help="Write a log for TensorBoard.",
)
@click.option("--workers", type=click.IntRange(0), help="Processes that decode a streamed set (default: by cores).")
@out_option
def command(
    task: str | None,
    data: str | None,
    model: str,
    out: Path | None,
    resume: bool | None,
    tensorboard: Path | None,
    workers: int | None,
    reporter: Reporter,
    **fields: Any,
) -> CommandResult:
    """Train a network of TASK: mnist (where it is left out), fashion-mnist, keyword-spotting, … (docs/tasks), a class
    of your own (tasks.py:Houses), or data (houses.csv, a folder of images by class). The weights of the best epoch on
    validation data are kept. Started by torchrun, several processes train together."""
    from edgekit.runs.recipe import STARTER
    from edgekit.training import processes
    from edgekit.workflows import train

    if task and data:
        raise InputError(f"{task} is trained on its own data", f"--data names {data}", "give the one or the other")

    if processes.world_size() > 1:  # torch looks once: its own warning says that no parameter is left out
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if processes.rank():  # one of several: only the first speaks
        reporter = Reporter(True)
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    outcome = train.train(
        task or data or STARTER,
        model=model,
        out=out,
        progress=reporter.progress,
        say=reporter.say,
        resume=resume,
        tensorboard=tensorboard,
        workers=workers,
        **{name: value for name, value in fields.items() if value not in (None, ())},
    )
    crossed = [a.details["cross_validation"] for a in outcome.artifacts if "cross_validation" in a.details]

    def show() -> None:
        for found in crossed:
            click.echo(_spread(found))
        for artifact in outcome.artifacts:
            click.echo(f"{artifact.path}")

    histories = [a.details.get("history") for a in outcome.artifacts]
    return CommandResult.of(outcome, show, {"history": histories} | ({"cross_validation": crossed} if crossed else {}))


def _spread(found: dict[str, Any]) -> str:
    """ "5 folds: accuracy 0.9712 ± 0.0041, loss 0.098 ± 0.011": means and standard deviations."""
    parts = [f"{name} {v['mean']:.4g} ± {v['std']:.2g}" for name, v in found.items() if name != "folds"]
    return f"{len(found['folds'])} folds: {', '.join(parts)}"
