"""What a long load does to a device: a measurement's facts["sustained"], and its picture beside the artifact."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from edgekit.core.artifact import Artifact
from edgekit.core.files import write_atomically
from edgekit.core.measurement import Measurement
from edgekit.core.samples import SampleSet
from edgekit.core.target import Target
from edgekit.measure.execute import sustain
from edgekit.report.sustained import picture, summary

if TYPE_CHECKING:
    from edgekit.measure.context import RunContext


def loaded(
    measurement: Measurement, artifact: Artifact, target: Target, data: SampleSet, flow: RunContext
) -> Measurement:
    """The measurement with a sustained run among its facts, kept as soon as it is there, and a picture beside it."""
    from edgekit.measure import context

    if "sustained" in measurement.facts:
        return measurement
    if measurement.provenance != "measured":
        flow.say(f"  skipped   {artifact.name} on {target.name}: sustained times are those of real machines only")
        return measurement
    seconds = flow.plan.sustained
    flow.say(f"  sustained {artifact.name} on {target.name} in {measurement.runtime}: {seconds:g} s …")
    found = dict(sustain(artifact, measurement.runtime, target, data, flow.plan))
    energy, source = found.pop("energy_mj", None), found.pop("energy_source", "")
    facts = {**measurement.facts, "sustained": found}
    if energy is not None:
        facts |= {"energy_mj": energy, "energy_source": source}
    made = dataclasses.replace(measurement, facts=facts)
    with context.recording:
        flow.store.add(made)
        path = artifact.path / f"sustained-{target.name}-{measurement.runtime}.svg"
        write_atomically(path, picture(found, f"{artifact.name} on {target.name}, {measurement.runtime}"))
    flow.say(f"            {summary(found)}; {path}")
    return made
