"""Compare a model with its float parent, operator by operator, on the same samples.

For every tensor of both: SQNR = 10 log10(Σ r² / Σ (r - o)²) in dB, r the float model's values and o the other's, summed
over samples. The noise-to-signal ratios of independent errors add up, so an operator's own noise is the ratio of its
output less the worst ratio of its inputs (an estimate: errors may also cancel).
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError, InputError
from edgekit.core.json import read as read_json
from edgekit.core.json import record
from edgekit.core.progress import Progress, quiet
from edgekit.core.samples import SampleSet
from edgekit.core.statistics import MAX_DB, decibels
from edgekit.core.step import Context
from edgekit.runs import written
from edgekit.runs.store import Store
from edgekit.steps.shared.calibrated import CalibratedStep, model_file
from edgekit.workflows.inspect import matched_tensors
from edgekit.workflows.inspect.matched_tensors import Node

SAMPLES = 32
#: at this SQNR noise is a hundredth of the signal's power: among ten logits, the first two begin to change places
LOW_DB = 20.0
#: a larger loss in one operator is not rounding in well-chosen ranges
FALL_DB = 10.0
#: an operator that loses this much has doubled the noise
HALF_DB = 3.0
#: int8 of a normal distribution in a range of six standard deviations either way reaches 37 dB (by step² / 12): an
#: SQNR that falls from above to this value is no loss
FINE_DB = 40.0
#: the report's file in an artifact's folder
LAYERS_FILE = "layers.json"


@dataclass(frozen=True)
class LayerFinding:
    """The error of an operator's output. `name` is as the float model's reader gives it, so `keep_float` accepts it.

    `type` includes the operators fused into it (Conv+Relu), `tensor` is the output of the last one. `inputs_db`: the
    SQNR of its worst input. `lost_db`: how far the output falls below that, of which at most FINE_DB count. `own_db`:
    the SQNR the output would have with exact inputs. MAX_DB is exact. `beside`: the neighbours, first the operators
    that write its inputs, then those that read them too.
    """

    name: str
    type: str
    tensor: str
    sqnr_db: float
    inputs_db: float
    lost_db: float
    own_db: float
    beside: tuple[str, ...] = ()

    @property
    def diverges(self) -> bool:
        """Is it much worse than its inputs; or bad, and at least half of the noise its own?"""
        return self.lost_db >= FALL_DB or (self.sqnr_db < LOW_DB and self.lost_db >= HALF_DB)


def layers(
    artifact: Artifact, parent: Artifact, data: SampleSet, *, samples: int = SAMPLES, progress: Progress = quiet
) -> list[LayerFinding]:
    """One finding for each operator whose output both models have, in graph order, over the first `samples` samples.

    Values that are infinite in the float model, and tensors that are all zeros, are left out. Memory holds the tensors
    of one sample. Raises InputError if the formats differ, or the samples do not fit.
    """
    if artifact.kind.format != parent.kind.format:
        why = f"one is {artifact.kind}, the other {parent.kind}: their operators are not the same"
        raise InputError(f"{artifact.name} and {parent.name} cannot be compared operator by operator", why)
    step, context = CalibratedStep(samples=samples), Context(None, {"calibration": data}, _relabelled(progress), _LOG)
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    try:
        matched = matched_tensors.match(artifact.kind.format, model_file(parent), model_file(artifact))
        for feed in step.feeds(parent, context):
            for name, reference, other in matched.run(feed):
                if reference.shape == other.shape:
                    s, n = _energies(reference, other)
                    signal[name], noise[name] = signal.get(name, 0.0) + s, noise.get(name, 0.0) + n
    except (EdgekitError, OSError, MemoryError):
        raise
    except Exception as error:  # every runtime has its own
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"the tensors of {artifact.name} cannot be read", why) from error
    return findings(matched.nodes, {name: noise[name] / s for name, s in signal.items() if s > 0})


_LOG = logging.getLogger("edgekit")


def _relabelled(progress: Progress) -> Progress:
    """The same progress, labelled as a comparison instead of calibration."""

    def renamed(items: Any, what: str, total: int | None = None) -> Any:
        return progress(items, "comparing layers", total)

    return renamed


def _energies(reference: NDArray[Any], other: NDArray[Any]) -> tuple[float, float]:
    """Sum of r² and of (r - o)² over finite r; the noise is infinite if an o is not finite."""
    r, o = np.asarray(reference, np.float64).ravel(), np.asarray(other, np.float64).ravel()
    if not (finite := np.isfinite(r)).all():
        r, o = r[finite], o[finite]
    difference = r - o
    noise = float(difference @ difference)
    return float(r @ r), noise if math.isfinite(noise) else math.inf


def findings(nodes: Sequence[Node], ratios: Mapping[str, float]) -> list[LayerFinding]:
    """The findings from tensor → noise / signal. A tensor that was not compared gets the worst ratio of its inputs."""
    known: dict[str, float] = {}
    layer_findings = []
    for node in nodes:
        before = max((known.get(name, 0.0) for name in node.reads), default=0.0)
        known |= {name: ratios.get(name, before) for name in node.writes}
        compared = [name for name in node.writes if name in ratios]
        if not compared:
            continue
        worst = max(compared, key=lambda name: ratios[name])
        after, start = decibels(1.0, ratios[worst]), decibels(1.0, before)
        lost = max(0.0, min(start, FINE_DB) - after)
        own = decibels(1.0, max(0.0, ratios[worst] - before)) if math.isfinite(before) else MAX_DB
        neighbours = _neighbours(node, nodes)
        layer_findings.append(LayerFinding(node.name, node.type, worst, after, start, lost, own, neighbours))
    return layer_findings


def _neighbours(node: Node, nodes: Sequence[Node]) -> tuple[str, ...]:
    read = set(node.reads)
    around = [other for other in nodes if read & {*other.writes}] + [other for other in nodes if read & {*other.reads}]
    return tuple(dict.fromkeys(other.name for other in around if other.name not in ("", node.name)))


def first_diverging(layers: Sequence[LayerFinding]) -> LayerFinding | None:
    """The first operator that diverges, in graph order; None if none does.

    One limit alone is not enough: an absolute limit names a late operator although the error began early, or a small
    tensor although the output is fine; a relative limit misses a network that gets a little worse everywhere. For
    such a network, if the last operator is below LOW_DB, it is the first one below.
    """
    diverging = next((layer for layer in layers if layer.diverges), None)
    if diverging is None and layers and layers[-1].sqnr_db < LOW_DB:
        return next(layer for layer in layers if layer.sqnr_db < LOW_DB)
    return diverging


def noisiest(layers: Sequence[LayerFinding]) -> list[LayerFinding]:
    """The operators that add noise of their own, the noisiest first."""
    return sorted((layer for layer in layers if layer.name and layer.own_db < MAX_DB), key=lambda layer: layer.own_db)


def rank(layers: Sequence[LayerFinding]) -> tuple[str, ...]:
    """Names for `keep_float`: the operator that adds the most noise, its neighbours, the next operator, and so on.

    The noise of an operator is often the rounding of its input, amplified. In ONNX Runtime and LiteRT the input stays
    rounded as long as the operator on its other side is quantized; and ONNX Runtime quantizes the weights of a float
    Conv between quantized operators again (its WeightBiasQuantization).
    """
    return tuple(dict.fromkeys(name for layer in noisiest(layers) for name in (layer.name, *layer.beside)))


# --- the report --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerReport:
    """The findings of `layers` between an artifact and `against`; `why` is the reason if there are none."""

    id: str
    against: str
    samples: int
    layers: tuple[LayerFinding, ...] = ()
    why: str = ""

    @property
    def first_diverging(self) -> LayerFinding | None:
        return first_diverging(self.layers)

    @property
    def sensitive(self) -> list[LayerFinding]:
        return noisiest(self.layers)


def compare_layers(
    store: Store, artifact: Artifact, against: Artifact | None, data: SampleSet, progress: Progress = quiet
) -> LayerReport:
    """Compare the artifact with its parent (or `against`), and write the report to its `layers.json`."""
    parent = against or store.parent(artifact)
    count = min(SAMPLES, len(data))
    if parent is None:
        report = LayerReport(artifact.id, "", 0, why=f"{artifact.name} was made from no other model")
    else:
        try:
            compared = tuple(layers(artifact, parent, data, progress=progress))
            why = "" if compared else "the models have no tensor in common"
            report = LayerReport(artifact.id, parent.name, count, compared, why)
        except EdgekitError as error:
            report = LayerReport(artifact.id, parent.name, 0, why=error.why or error.what)
    written.write_beside(artifact, LAYERS_FILE, json.dumps(asdict(report), indent=1) + "\n")
    return report


def read(artifact: Artifact) -> LayerReport | None:
    """The stored report of this artifact; None if there is none, or if it is another artifact's."""
    try:
        report = record(LayerReport, read_json(artifact.path / LAYERS_FILE), LAYERS_FILE)
    except InputError:
        return None
    return report if report.id == artifact.id else None
