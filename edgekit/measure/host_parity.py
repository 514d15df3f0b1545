"""How near the outputs of a device are to this machine's, in the same runtime, over the same samples."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import DeviceError, InputError, Missing
from edgekit.core.measurement import Run
from edgekit.core.samples import SampleSet
from edgekit.core.statistics import MAX_DB
from edgekit.core.target import Target
from edgekit.measure import targets, verify
from edgekit.measure.execute import execute

Outputs = Mapping[str, NDArray[Any]]

if TYPE_CHECKING:
    from edgekit.measure.context import RunContext

#: SQNR below which a device does not round otherwise, but computes something else: another version's int8 kernels were
#: 46 dB apart, OpenVINO's int8 on Arm (2026.4.1), which is known to be wrong, 11 dB
LEAST_DB = 30.0
#: dB below an artifact's own distance to what it was made from: where int8 disturbs much, so may another rounding
MARGIN_DB = 6.0
#: below that a difference is larger than the outputs
NOTHING_ALIKE_DB = 0.0
#: what an output that is zero here may be there
NEGLIGIBLE = 1e-6


def compare_with_host(artifact: Artifact, run: Run, target: Target, data: SampleSet, context: RunContext) -> Run:
    """A run elsewhere, with how near its outputs are to this machine's in the same runtime among its facts.

    No such fact where this machine has not got the runtime, or saturates what the artifact's scheme sums up. Too far
    apart, the run is invalid: its accuracy may look right on few samples, and is luck.
    """
    host = targets.load("host")
    if targets.is_here(target) or not run.outputs or run.runtime not in host.runtimes:
        return run
    if verify.saturates(artifact, host):
        return run
    try:
        here = execute(artifact, host, data, context.plan, runtime=run.runtime, latency=False).outputs
    except Missing:
        return run
    except (InputError, DeviceError) as error:  # the device's own, newer library may take what this one refuses
        context.say(f"            {artifact.name} on {target.name} is not compared with this machine: {error}")
        return run
    if set(here) - set(run.outputs):
        return run
    parity = statistics.parity("host", here, run.outputs)
    same = all(
        np.array_equal(value, run.outputs[name], equal_nan=value.dtype.kind == "f") for name, value in here.items()
    )
    sqnr = parity.sqnr_db if np.isfinite(parity.sqnr_db) else None
    agreement = {
        "with": "host",
        "bit_identical": same,
        "max_abs": parity.max_abs,
        "sqnr_db": sqnr,
        "top1_agreement": parity.top1_agreement,
        "samples": len(data),
        "same_shapes": _same_shapes(run.outputs, here),
    }
    wrong = "" if same else _wrong(artifact, run, here)
    context.say(f"            {artifact.name} on {target.name}: {wrong or _alike(agreement)}")
    run = dataclasses.replace(run, facts={**run.facts, "agreement": {**agreement, "wrong": wrong}})
    return dataclasses.replace(run, invalid=(*run.invalid, wrong)) if wrong else run


def _wrong(artifact: Artifact, run: Run, here: Outputs) -> str:
    """Why what a device computes is not this artifact, or ""."""
    next = "take another runtime or precision for it"
    for name, value in here.items():
        if run.outputs[name].shape != value.shape:
            shapes = f"{list(run.outputs[name].shape)}, here {list(value.shape)}"
            return f"{run.runtime} computes it otherwise there: output {name} has the shape {shapes}; {next}"
    least, found = _least(artifact), _real_sqnr(here, run.outputs)
    if found is None or found >= least:
        return ""
    return (
        f"{run.runtime} computes it otherwise there: its outputs agree with this machine's to {found:.1f} dB, "
        f"{least:.0f} are the least; {next}"
    )


def _same_shapes(there: Outputs, here: Outputs) -> bool:
    return all(there[name].shape == value.shape for name, value in here.items())


def _least(artifact: Artifact) -> float:
    """What is quantized and was not checked here may be any distance away: how much its roundings matter is unknown."""
    finding = verify.read(artifact)
    if finding and finding.parity:
        named = zip(finding.parity.per_output.values(), artifact.outputs, strict=False)
        real = [sqnr for sqnr, spec in named if not spec.dtype.startswith(("int32", "int64", "bool"))]
        return min(LEAST_DB, min(real, default=finding.parity.sqnr_db) - MARGIN_DB)
    return NOTHING_ALIKE_DB if artifact.kind.precision in ("int8", "dynamic") else LEAST_DB


def _real_sqnr(here: Outputs, there: Outputs) -> float | None:
    """SQNR of the output that differs most, None where all are classes or words: one rounding changes a whole one.

    Of all samples together, or of the one in the middle, whichever is higher: where a list is sorted, or cut by a
    threshold, a rounding moves whole rows of a few samples, and what is computed wrongly is wrong everywhere.
    """
    found = [_output_sqnr(value, there[name]) for name, value in here.items() if value.dtype.kind == "f"]
    return min((sqnr for sqnr in found if sqnr is not None), default=None)


def _output_sqnr(here: NDArray[Any], there: NDArray[Any]) -> float | None:
    """None for whole numbers, and where nothing but rounding stands against nothing. Equal infinities agree."""
    signal, noise = np.zeros(len(here)), np.zeros(len(here))
    whole, largest = True, 0.0
    for index, (a, b) in enumerate(zip(here, there, strict=True)):  # outputs may be larger than memory
        r, o = np.asarray(a, np.float64), np.asarray(b, np.float64)
        same = ~np.isfinite(r) & ((r == o) | (np.isnan(r) & np.isnan(o)))
        r, o = np.where(same, 0.0, r), np.where(same, 0.0, o)
        if not (np.isfinite(r).all() and np.isfinite(o).all()):
            return -MAX_DB
        whole = whole and bool((r == np.rint(r)).all() and (o == np.rint(o)).all())
        signal[index], noise[index] = np.sum(r * r), np.sum((r - o) ** 2)
        largest = max(largest, float(np.max(np.abs(r - o), initial=0.0)))
    if whole or (not signal.any() and largest < NEGLIGIBLE):
        return None
    middle = np.median([statistics.decibels(s, n) for s, n in zip(signal, noise, strict=True)])
    return max(statistics.decibels(float(signal.sum()), float(noise.sum())), float(middle))


def _alike(agreement: Mapping[str, Any]) -> str:
    if agreement["bit_identical"]:
        return f"all {agreement['samples']:,} outputs bit-identical to the host's"
    top1 = agreement["top1_agreement"]
    said = f", the same class for {top1:.2%}" if top1 is not None else ""
    return f"outputs within {agreement['max_abs']:.2g} of the host's{said}"
