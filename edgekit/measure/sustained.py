"""The effect of a sustained load on a device: a measurement's facts["sustained"]."""

from __future__ import annotations

import dataclasses

from edgekit.core.artifact import Artifact
from edgekit.core.measurement import Measurement
from edgekit.core.samples import SampleSet
from edgekit.core.target import Target
from edgekit.measure.context import RunContext, results_lock
from edgekit.measure.execute import sustain


def add_sustained(
    measurement: Measurement, artifact: Artifact, target: Target, data: SampleSet, context: RunContext
) -> Measurement:
    """Run a sustained load and add it to the measurement's facts, which are stored at once."""
    if "sustained" in measurement.facts:
        return measurement
    if measurement.provenance != "measured":
        context.say(f"  skipped   {artifact.name} on {target.name}: a sustained load is measured on real machines only")
        return measurement
    seconds = context.plan.sustained
    context.say(f"  sustained {artifact.name} on {target.name} in {measurement.runtime}: {seconds:g} s …")
    windows = dict(sustain(artifact, measurement.runtime, target, data, context.plan))
    energy, source = windows.pop("energy_mj", None), windows.pop("energy_source", "")
    facts = {**measurement.facts, "sustained": windows}
    if energy is not None:
        facts |= {"energy_mj": energy, "energy_source": source}
    measurement = dataclasses.replace(measurement, facts=facts)
    with results_lock:
        context.store.add(measurement)
    return measurement
