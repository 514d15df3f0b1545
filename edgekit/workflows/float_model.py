"""Warnings before anything is made: samples unlike what the model takes, and a float model that only guesses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature
from edgekit.measure.context import RunContext
from edgekit.measure.execute import runtimes_for

#: samples whose range is looked at
SAMPLES = 256

#: values this many times larger or smaller than those that a model takes are of another scale: 0 to 255 is 255 times
#: 0 to 1, and 50 to 100 times what normalization makes of it
OTHER_SCALE = 12.0


def warn(context: RunContext, model: Artifact) -> None:
    """Say, and keep in the outcome's notes, what makes the results on these samples doubtful."""
    if context.val is None:
        return
    for warning in range_warnings(context.val, model, context.store.root(model)):
        context.note(warning, "warning")
    if reason := _guessing(context, model):
        advice = "is its preprocessing or its class order wrong? give --signature"
        context.note(f"the float model is no better than chance on {context.val.name}: {reason}: {advice}", "WARNING")


def _guessing(context: RunContext, model: Artifact) -> str:
    """Why the float model is no better than chance on the labelled samples; "" if it is, or if it cannot be run."""
    data, verifier, root = context.val, context.verifier, context.store.root(model)
    if data is None or data.labels is None or verifier is None or verifier.scorer is None:
        return ""
    if not runtimes_for(root, verifier.target):
        return ""
    try:
        return statistics.chance(verifier.scorer(verifier.outputs(root), data.labels), data.labels)
    except EdgekitError:  # the checks of the conversions report it
        return ""


def range_warnings(data: SampleSet, model: Artifact, root: Artifact) -> Iterator[str]:
    """One sentence for each input whose samples are of another scale than the signature or the example.

    Such are grey levels from 0 to 255 for a network of normalized images, and the reverse.
    """
    for spec in model.inputs:
        values = data.inputs.get(spec.name)
        if values is None and len(model.inputs) == len(data.inputs) == 1:
            values = next(iter(data.inputs.values()))
        span, source = _span(spec.signature, root, spec.name)
        if values is None or span is None or "float" not in spec.dtype or values.dtype.kind not in "iuf":
            continue
        low, high = float(np.min(values[:SAMPLES])), float(np.max(values[:SAMPLES]))
        taken, given = max(map(abs, span)), max(abs(low), abs(high))
        if not taken or not given or 1 / OTHER_SCALE <= given / taken <= OTHER_SCALE:
            continue
        cause = "are they not normalized?" if given > taken else "are they normalized already?"
        ranges = f"from {low:.3g} to {high:.3g}, {source} from {span[0]:.3g} to {span[1]:.3g}"
        yield f"the samples of {spec.name!r} in {data.name} are {ranges}: {cause} give --signature"


def _span(signature: object, root: Artifact, name: str) -> tuple[tuple[float, float] | None, str]:
    """The least and greatest value of an input, and where it is from."""
    if isinstance(signature, InputSignature) and (span := signature.span()) is not None:
        return span, "the signature's are"
    example = root.details.get("statistics", {}).get(name)
    return ((example["min"], example["max"]), "the example's are") if example and example["std"] > 0 else (None, "")
