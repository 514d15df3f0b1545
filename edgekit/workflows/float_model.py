"""Warnings before anything is made: samples unlike what the model takes, and a float model that only guesses."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from edgekit import networks
from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError
from edgekit.core.progress import stage
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature
from edgekit.measure.context import RunContext, log
from edgekit.measure.execute import runtimes_for

#: samples whose range is looked at
SAMPLES = 256

#: samples that go through the network to its first BatchNorm
BATCH = 32

#: values this many times larger or smaller than those that a model takes are of another scale: 0 to 255 is 255 times
#: 0 to 1, and 50 to 100 times what normalization makes of it
OTHER_SCALE = 12.0


class _Seen(Exception):
    """Ends a run of a network that has shown enough."""


def warn(context: RunContext, model: Artifact) -> None:
    """Say, and keep in the outcome's notes, what makes the results on these samples doubtful."""
    if context.val is None:
        return
    root = context.store.root(model)
    ranges = list(range_warnings(context.val, model, root))
    for warning in ranges or filter(None, [batch_norm_warning(context.val, root)]):
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
        with stage(context.progress, f"running {root.name}"):
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


def batch_norm_warning(data: SampleSet, root: Artifact) -> str:
    """A sentence if the first BatchNorm sees a variance unlike what it recorded in training; else "".

    A network can be run on any samples, so what makes that fail is reported elsewhere.
    """
    if root.kind.format != "torch":
        return ""
    try:
        import torch
        from torch.nn.modules.batchnorm import _BatchNorm

        network = networks.load(root.path)
    except (ImportError, EdgekitError) as error:  # another format of the run is quantized without torch, or its code
        log.debug("the samples were not compared with the first BatchNorm: %s", error)
        return ""
    ratios: list[float] = []

    def seen(module: _BatchNorm, given: tuple[torch.Tensor, ...]) -> None:
        recorded, tracked = module.running_var, module.num_batches_tracked
        if not ratios and recorded is not None and tracked is not None and tracked > 0:
            observed = given[0].float().transpose(0, 1).flatten(1).var(1)
            ratios.append(float((observed / (recorded + module.eps)).median().sqrt()))
            raise _Seen

    for module in (module for module in network.modules() if isinstance(module, _BatchNorm)):
        module.register_forward_pre_hook(seen)
    try:
        with torch.inference_mode():
            network(*(torch.from_numpy(np.array(data.inputs[spec.name][:BATCH])) for spec in root.inputs))
    except _Seen:
        pass
    except Exception as error:
        log.debug("the samples were not compared with the first BatchNorm: %s", error)
    if not ratios or 1 / OTHER_SCALE <= ratios[0] <= OTHER_SCALE:
        return ""
    times = f"{ratios[0]:.3g} times what they had in training"
    cause = "are they not normalized?" if ratios[0] > 1 else "are they normalized already?"
    return f"the samples in {data.name} give the first BatchNorm values of {times}: {cause} give --signature"


def _span(signature: object, root: Artifact, name: str) -> tuple[tuple[float, float] | None, str]:
    """The least and greatest value of an input, and where it is from."""
    if isinstance(signature, InputSignature) and (span := signature.span()) is not None:
        return span, "the signature's are"
    example = root.details.get("statistics", {}).get(name)
    return ((example["min"], example["max"]), "the example's are") if example and example["std"] > 0 else (None, "")
