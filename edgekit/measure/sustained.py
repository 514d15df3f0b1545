"""What a long load does to a device: a measurement's facts["sustained"]."""

from __future__ import annotations

import dataclasses

from edgekit.core.artifact import Artifact
from edgekit.core.measurement import Measurement
from edgekit.core.samples import SampleSet
from edgekit.core.target import Target
from edgekit.measure.context import RunContext, recording
from edgekit.measure.execute import sustain


def loaded(
    measurement: Measurement, artifact: Artifact, target: Target, data: SampleSet, context: RunContext
) -> Measurement:
    """The measurement with a sustained run among its facts, stored as soon as it is there."""
    if "sustained" in measurement.facts:
        return measurement
    if measurement.provenance != "measured":
        context.say(f"  skipped   {artifact.name} on {target.name}: sustained times are those of real machines only")
        return measurement
    seconds = context.plan.sustained
    context.say(f"  sustained {artifact.name} on {target.name} in {measurement.runtime}: {seconds:g} s …")
    found = dict(sustain(artifact, measurement.runtime, target, data, context.plan))
    energy, source = found.pop("energy_mj", None), found.pop("energy_source", "")
    facts = {**measurement.facts, "sustained": found}
    if energy is not None:
        facts |= {"energy_mj": energy, "energy_source": source}
    made = dataclasses.replace(measurement, facts=facts)
    with recording:
        context.store.add(made)
    return made
