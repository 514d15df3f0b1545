"""`edgekit quantize [ARTIFACT]`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli.export import split
from edgekit.cli.shared import CommandResult, Reporter, Shapes, edgekit_command, metric_option, out_option, shape_option
from edgekit.cli.shared.completion import METHODS
from edgekit.cli.shared.output import echo
from edgekit.cli.shared.quantities import POINTS

if TYPE_CHECKING:
    from edgekit.workflows.quantize.method_search import Effort


@edgekit_command("quantize", short_help="Make int8 or fp16 artifacts that keep the accuracy.")
@click.argument("artifact", required=False)
@click.option("--int8", "precision", flag_value="int8", default=True, help="Static int8 (the default).")
@click.option("--fp16", "precision", flag_value="fp16", help="Half precision.")
@click.option("--dynamic", "precision", flag_value="dynamic", help="Int8 weights, activations quantized on the fly.")
@click.option("--weights", type=click.Choice(["8", "4"]), help="Weights alone, in so many bits (transformers).")
@click.option(
    "--to", callback=split, default="", metavar="F,…", help="Formats (default: the artifact's own; for torch: all)."
)
@click.option("--calibration", default="", metavar="SET", help="Calibration samples (default: training data).")
@click.option("--val", default="", metavar="SET", help="Validation samples (default: the task's validation split).")
@click.option(
    "--max-drop", "max_drop_pp", type=POINTS, metavar="PP", help="Accuracy budget in percentage points (default 0.5)."
)
@metric_option
@click.option(
    "--methods",
    callback=split,
    default="",
    metavar="M,…",
    help=f"Try only these int8 methods: {', '.join(METHODS)}.",
)
@click.option("--fast", "effort", flag_value="fast", help="Int8 by one good method: seconds.")
@click.option("--thorough", "effort", flag_value="thorough", help="Int8 by every method that applies.")
@click.option("--no-latency", is_flag=True, help="Int8: time nothing; accuracy and size decide.")
@click.option("--strict", is_flag=True, help="An undecided budget fails, too.")
@click.option(
    "--target",
    default="host",
    envvar="EDGEKIT_TARGET",
    metavar="T",
    help="The target whose instruction set decides the scheme.",
)
@click.option("--input-type", type=click.Choice(["int8", "uint8", "float32"]), help="TFLite int8: of the inputs.")
@click.option("--output-type", type=click.Choice(["int8", "uint8", "float32"]), help="TFLite int8: of the outputs.")
@click.option("--layout", type=click.Choice(["nhwc"]), help="Images go in as NHWC (from a torch artifact).")
@click.option("--block", type=click.IntRange(0), metavar="N", help="--weights: how many share a scale (0: a channel).")
@click.option("--symmetric", flag_value="yes", help="--weights: without zero points (8 bits: the default).")
@click.option("--asymmetric", "symmetric", flag_value="no", help="--weights: with zero points (4 bits: the default).")
@click.option("--embeddings", type=click.Choice(["8", "4", "float"]), help="--weights: bits of embeddings (8).")
@click.option("--head", type=click.Choice(["8", "4", "float"]), help="--weights: bits of the last product (8).")
@click.option(
    "--weight-method",
    type=click.Choice(["auto", "rtn", "scale", "awq", "gptq"]),
    help="--weights: how they are rounded; auto: gptq with calibration samples, else scale.",
)
@click.option(
    "--accuracy-level",
    type=click.Choice(["0", "4"]),
    callback=lambda _context, _option, value: value and int(value),
    help="--weights, ONNX: 4 rounds activations to int8 in blocks at run time (default: for 4 bits and decoders).",
)
@click.option("--max-kl", type=float, metavar="NATS", help="--weights: most KL divergence from the float model.")
@click.option("--max-size", "max_mb", type=float, metavar="MB", help="--weights 4: 8 bits for as many as fit.")
@click.option("--fold-padding", is_flag=True, help="TFLite: less memory on microcontrollers, slower with XNNPACK.")
@shape_option
@out_option
def command(
    artifact: str | None,
    precision: str,
    weights: str | None,
    to: tuple[str, ...],
    calibration: str,
    val: str,
    max_drop_pp: float | None,
    max_kl: float | None,
    metric: str,
    methods: tuple[str, ...],
    effort: Effort | None,
    no_latency: bool,
    strict: bool,
    target: str,
    out: Path | None,
    shapes: Shapes,
    reporter: Reporter,
    **options: Any,
) -> CommandResult:
    """Quantize ARTIFACT (RUN, RUN/NAME, or a .onnx file; default: the newest run's float model) within an accuracy
    budget, verified on real samples. For int8, edgekit tries methods from min-max calibration to quantization-aware
    training and evaluates each in its runtime. Exit 1 if the budget is missed; the best attempt is kept."""
    from edgekit.report import tables
    from edgekit.report.method_search import search_table
    from edgekit.workflows import quantize

    outcome = quantize.quantize(
        artifact,
        precision=f"w{weights}" if weights else precision,
        to=to,
        calibration=calibration,
        val=val,
        max_drop_pp=max_drop_pp,
        max_kl=max_kl,
        metric=metric,
        methods=methods,
        effort=effort or "normal",
        latency=not no_latency,
        strict=strict,
        target=target,
        out=out,
        shapes=shapes,
        options={name: value for name, value in options.items() if _given(name, value)},
        progress=reporter.progress,
        say=reporter.say,
    )

    searches = [search.to_json() for search in outcome.searches]

    def show() -> None:
        tables.show(item for search in searches for item in search_table(search))
        for artifact in outcome.artifacts:
            echo(f"{artifact.path}")

    return CommandResult.of(outcome, show, {"searches": searches} if searches else None)


def _given(name: str, value: Any) -> bool:
    """Was an option given? A block of 0 and a level of 0 are."""
    return value is not None if name in ("block", "accuracy_level") else bool(value)
