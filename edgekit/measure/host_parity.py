"""How close the outputs of a device are to those of this machine, in the same runtime, over the same samples."""

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

#: a device with a lower SQNR does not just round differently, its outputs are wrong: int8 kernels of another version
#: had 46 dB, OpenVINO's int8 on Arm (2026.4.1), which is known to be wrong, 11 dB
MIN_SQNR_DB = 30.0
#: dB below the SQNR of the artifact against its parent: if int8 changes much, so may a different rounding
MARGIN_DB = 6.0
#: with a lower SQNR the difference is larger than the outputs
NO_SIGNAL_DB = 0.0
#: highest absolute value on the device of an output that is zero here
NEGLIGIBLE = 1e-6


def compare_with_host(artifact: Artifact, run: Run, target: Target, data: SampleSet, context: RunContext) -> Run:
    """A remote device's run; its facts get the agreement of its outputs with this machine's, in the same runtime.

    There is no such fact if this machine does not have the runtime, or saturates the sums of the artifact's scheme. A
    run whose outputs do not match is invalid: on few samples its accuracy may be right by chance.
    """
    host = targets.load("host")
    if targets.is_here(target) or not run.outputs or run.runtime not in host.runtimes:
        return run
    if verify.saturates(artifact, host):
        return run
    try:
        expected = execute(artifact, host, data, context.plan, runtime=run.runtime, latency=False).outputs
    except Missing:
        return run
    except (InputError, DeviceError) as error:  # the device's newer library may run what this one does not support
        context.say(f"            {artifact.name} on {target.name} is not compared with this machine: {error}")
        return run
    if set(expected) - set(run.outputs):
        return run
    parity = statistics.parity("host", expected, run.outputs, embedding=artifact.embedding)
    identical = all(
        np.array_equal(value, run.outputs[name], equal_nan=value.dtype.kind == "f") for name, value in expected.items()
    )
    sqnr = parity.sqnr_db if np.isfinite(parity.sqnr_db) else None
    agreement = {
        "with": "host",
        "bit_identical": identical,
        "max_abs": parity.max_abs,
        "sqnr_db": sqnr,
        "top1_agreement": parity.top1_agreement,
        "samples": len(data),
        "same_shapes": _same_shapes(run.outputs, expected),
    }
    mismatch = "" if identical else _mismatch_reason(artifact, run, expected)
    context.say(f"            {artifact.name} on {target.name}: {mismatch or _agreement_text(agreement)}")
    run = dataclasses.replace(run, facts={**run.facts, "agreement": {**agreement, "wrong": mismatch}})
    return dataclasses.replace(run, invalid=(*run.invalid, mismatch)) if mismatch else run


def _mismatch_reason(artifact: Artifact, run: Run, expected: Outputs) -> str:
    """Why the outputs of a device do not match the artifact's on this machine, or ""."""
    next = "use another runtime or precision there"
    for name, value in expected.items():
        if run.outputs[name].shape != value.shape:
            shapes = f"{list(run.outputs[name].shape)}, on this machine {list(value.shape)}"
            return f"outputs of {run.runtime} do not match this machine's: the shape of {name} is {shapes}; {next}"
    minimum, sqnr = _min_sqnr(artifact), _worst_sqnr(expected, run.outputs)
    if sqnr is None or sqnr >= minimum:
        return ""
    return (
        f"outputs of {run.runtime} do not match this machine's: SQNR {sqnr:.1f} dB, at least {minimum:.0f} dB is "
        f"required; {next}"
    )


def _same_shapes(outputs: Outputs, expected: Outputs) -> bool:
    return all(outputs[name].shape == value.shape for name, value in expected.items())


def _min_sqnr(artifact: Artifact) -> float:
    """The lowest SQNR that may be due to rounding. For a quantized artifact without a check it is unknown, so low."""
    finding = verify.read(artifact)
    if finding and finding.parity:
        outputs = zip(finding.parity.per_output.values(), artifact.outputs, strict=False)
        real = [sqnr for sqnr, spec in outputs if not spec.dtype.startswith(("int32", "int64", "bool"))]
        return min(MIN_SQNR_DB, min(real, default=finding.parity.sqnr_db) - MARGIN_DB)
    return NO_SIGNAL_DB if artifact.kind.precision in ("int8", "dynamic", "w4") else MIN_SQNR_DB


def _worst_sqnr(expected: Outputs, outputs: Outputs) -> float | None:
    """SQNR of the output that differs most; None if all are classes or tokens, where rounding may change a whole one.

    It is that of all samples together or of the median sample, whichever is higher: in a sorted or thresholded list
    rounding moves whole rows of a few samples, while a wrong kernel is wrong on all samples.
    """
    per_output = [_output_sqnr(value, outputs[name]) for name, value in expected.items() if value.dtype.kind == "f"]
    return min((sqnr for sqnr in per_output if sqnr is not None), default=None)


def _output_sqnr(expected: NDArray[Any], output: NDArray[Any]) -> float | None:
    """None for integers, and for zeros against negligible values. Equal infinities agree."""
    signal, noise = np.zeros(len(expected)), np.zeros(len(expected))
    whole, largest = True, 0.0
    for index, (a, b) in enumerate(zip(expected, output, strict=True)):  # outputs may be larger than memory
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


def _agreement_text(agreement: Mapping[str, Any]) -> str:
    if agreement["bit_identical"]:
        return f"all {agreement['samples']:,} outputs bit-identical to the host's"
    top1 = agreement["top1_agreement"]
    same_class = f", the same class for {top1:.2%}" if top1 is not None else ""
    return f"outputs within {agreement['max_abs']:.2g} of the host's{same_class}"
