"""`edgekit train [TASK]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from edgekit.cli.shared import CommandResult, Reporter, edgekit_command, out_option
from edgekit.cli.shared.output import echo
from edgekit.core.errors import InputError

#: options whose values are fields of the train step, in the order of --help
FIELDS: Sequence[Callable[..., Any]] = (
    click.option("--epochs", type=click.IntRange(1), help="Epochs at most."),
    click.option("--batch", type=click.IntRange(1), help="Batch size, over all processes."),
    click.option("--accumulate", type=click.IntRange(1), help="Batches per optimizer step (default 1)."),
    click.option("--lr", type=float, help="Peak learning rate."),
    click.option("--optimizer", type=click.Choice(["sgd", "adam", "adamw"]), help="Optimizer (default adamw)."),
    click.option(
        "--schedule",
        type=click.Choice(["one-cycle", "cosine", "step", "constant"]),
        help="Learning-rate schedule (default one-cycle).",
    ),
    click.option("--warmup", type=float, metavar="EPOCHS", help="Epochs of warm-up (one-cycle has its own)."),
    click.option("--weight-decay", type=float, help="Weight decay (default 0.01)."),
    click.option("--patience", type=click.IntRange(1), help="Stop after N epochs without improvement."),
    click.option(
        "--monitor", type=click.Choice(["loss", "metric"]), help="What the best epoch is chosen by (default loss)."
    ),
    click.option("--loss", type=click.Choice(["cross-entropy", "mse", "bce"]), help="Loss (default: the task's own)."),
    click.option("--label-smoothing", type=float, help="Label smoothing of cross-entropy, such as 0.1."),
    click.option("--augment", type=click.Choice(["auto", "on", "off"]), help="The task's data augmentation."),
    click.option("--dropout", type=float, help="Dropout before the last layer, if the network has it."),
    click.option("--clip", type=float, help="Clip the gradient to this norm."),
    click.option(
        "--ema", type=float, metavar="DECAY", help="Exponential moving average of the weights, such as 0.999."
    ),
    click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Compute precision (default fp32)."),
    click.option("--compile", is_flag=True, default=None, help="Use torch.compile; needs a C++ compiler."),
    click.option("--seed", type=int, help="Seed of initial weights and sample order."),
    click.option(
        "--init", metavar="X", help="Start from weights: an artifact, a .safetensors file, a checkpoint, timm:NAME."
    ),
    click.option(
        "--fresh", multiple=True, metavar="PART", help="A part of the network that --init does not load; repeat."
    ),
    click.option("--freeze", multiple=True, metavar="PART", help="A part of the network that is not trained; repeat."),
    click.option("--unfreeze", type=click.IntRange(1), metavar="EPOCH", help="Train all parts from this epoch on."),
    click.option(
        "--lr-decay", type=float, help="Layer-wise learning-rate decay: factor per stage away from the output."
    ),
    click.option(
        "--lr-factor",
        "lr_factors",
        multiple=True,
        metavar="PART=X",
        help="A part trained at X times the learning rate.",
    ),
    click.option(
        "--lora", type=click.IntRange(1), metavar="RANK", help="Low-rank adaptation of the weights from --init."
    ),
    click.option("--lora-alpha", type=float, help="Scale of the adapters, over the rank (default twice the rank)."),
    click.option(
        "--lora-targets",
        callback=lambda ctx, parameter, text: tuple(filter(None, map(str.strip, (text or "").split(",")))),
        metavar="NAME,…",
        help="Layers to adapt (default: query, key and value of attention, else linear layers).",
    ),
    click.option("--lora-dropout", type=float, help="Dropout before the adapters."),
    click.option("--dora", is_flag=True, default=None, help="Weight-decomposed adapters (DoRA)."),
    click.option("--teacher", metavar="ARTIFACT", help="Teacher for distillation: a torch artifact."),
    click.option("--distil", metavar="METHOD,…", help="Distillation: logits, features, attention (default logits)."),
    click.option("--temperature", type=float, help="Temperature of the teacher's logits."),
    click.option("--alpha", type=float, help="The teacher's share of the loss; the rest is the labels'."),
    click.option("--folds", type=click.IntRange(2), help="Cross-validate first; then train on all samples."),
    click.option("--accelerator", type=click.Choice(["auto", "cpu", "cuda", "mps"]), help="Device to train on."),
)


def field_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(FIELDS):
        function = option(function)
    return function


@edgekit_command("train", short_help="Train a network, from scratch or from pretrained weights.")
@click.argument("task", required=False)
@click.option("--data", metavar="SET", help="Your own data instead of a task: a table, a folder by class, shards.")
@click.option("--model", default="", metavar="M", help="The network: one of the task's, or net.py:Net.")
@field_options
@click.option(
    "--resume/--no-resume",
    default=None,
    help="Require a training to resume / start again (default: resume if possible).",
)
@click.option(
    "--tensorboard",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="EDGEKIT_TENSORBOARD",
    metavar="DIR",
    help="Write TensorBoard logs to DIR.",
)
@click.option(
    "--curves",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.svg",
    help="Write a picture of loss and metric by epoch.",
)
@click.option("--workers", type=click.IntRange(0), help="Data-loading processes of a streamed set (default: by cores).")
@out_option
def command(
    task: str | None,
    data: str | None,
    model: str,
    out: Path | None,
    resume: bool | None,
    tensorboard: Path | None,
    curves: Path | None,
    workers: int | None,
    reporter: Reporter,
    **fields: Any,
) -> CommandResult:
    """Train a network of TASK: mnist (default), fashion-mnist, keyword-spotting, … (docs/tasks), a class of your own
    (tasks.py:Houses), or data (houses.csv, a folder of images by class). The weights of the best epoch on validation
    data are kept. With torchrun, several processes train together."""
    from edgekit.runs.recipe import STARTER
    from edgekit.training import processes
    from edgekit.workflows import train

    if task and data:
        raise InputError(f"{task} has its own data", f"--data names {data}", "give either a task or --data")

    if curves is not None and curves.suffix.lower() != ".svg":
        raise InputError(f"cannot write {curves}", "the picture is an SVG", f"--curves {curves.with_suffix('.svg')}")
    if curves is not None and not curves.parent.is_dir():
        raise InputError(f"cannot write {curves}", f"there is no folder {curves.parent}", "make it, or name another")
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
    cross_validations = [a.details["cross_validation"] for a in outcome.artifacts if "cross_validation" in a.details]

    for artifact in outcome.artifacts:
        if curves is not None:
            from edgekit.workflows.compare import notebook

            title = f"{artifact.path}: {artifact.details['model']}"
            notebook.plot_training(artifact.details["history"], title).save(curves)
            reporter.say(f"  wrote     {curves}")
        run = artifact.path.parent if artifact.name == "torch" else artifact.path
        reporter.say(f"  next      edgekit quantize {run} --int8 (or export --to onnx)")

    def show() -> None:
        for scores in cross_validations:
            echo(_mean_and_std(scores))
        for artifact in outcome.artifacts:
            echo(f"{artifact.path}")

    histories = [a.details.get("history") for a in outcome.artifacts]
    result: dict[str, Any] = {"history": histories}
    if cross_validations:
        result["cross_validation"] = cross_validations
    return CommandResult.of(outcome, show, result)


def _mean_and_std(scores: dict[str, Any]) -> str:
    """ "5 folds: accuracy 0.9712 ± 0.0041, loss 0.098 ± 0.011": means and standard deviations."""
    parts = [f"{name} {v['mean']:.4g} ± {v['std']:.2g}" for name, v in scores.items() if name != "folds"]
    return f"{len(scores['folds'])} folds: {', '.join(parts)}"
