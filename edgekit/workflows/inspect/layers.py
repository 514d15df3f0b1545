"""Where did it go wrong? A model against the float model it was made from, operator by operator, on the same samples.

For every tensor that both have: SQNR = 10 log10(Σ r² / Σ (r - o)²) in dB, r the float model's values and o the other's,
summed over samples. The ratio noise / signal of independent errors adds up, so what an operator adds of its own is the
ratio of what it writes less the worst ratio of what it reads (an estimate: errors may also cancel).
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
from edgekit.core.files import write_atomically
from edgekit.core.progress import Progress, quiet
from edgekit.core.samples import SampleSet
from edgekit.core.statistics import MAX_DB, decibels
from edgekit.core.step import Context
from edgekit.runs.store import Store
from edgekit.steps.shared.calibrated import CalibratedStep, model_file
from edgekit.workflows.inspect import pairs
from edgekit.workflows.inspect.pairs import Node

SAMPLES = 32
#: below this, noise is a hundredth of the signal's power: among ten logits, the first two begin to change places
LOW_DB = 20.0
#: losing so much in one operator is not what rounding does where the ranges fit
FALL_DB = 10.0
#: losing so much, an operator has doubled the noise
HALF_DB = 3.0
#: more than this, int8 does not hold of a bell curve whose range is six standard deviations either way (37 dB, by
#: step² / 12): what was nearer before has not fallen when it comes down to here
FINE_DB = 40.0
#: the file beside an artifact that keeps what was found
KEPT = "layers.json"


@dataclass(frozen=True)
class LayerFinding:
    """How near an operator's output is. `name` is that in the float model's reader, so `keep_float` takes it.

    `type` names those that belong to it as well (Conv+Relu), `tensor` is the last one's output. `inputs_db`: of the
    worst of what it reads. `lost_db`: how far the output falls below that, FINE_DB at most counting as its start.
    `own_db`: what the output would have with exact inputs. MAX_DB is exact. `beside`: the operators that write what it
    reads, then those that read the same.
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
        """Much further off than what it was given; or far off, and at least half of that its own."""
        return self.lost_db >= FALL_DB or (self.sqnr_db < LOW_DB and self.lost_db >= HALF_DB)


def layers(
    artifact: Artifact, parent: Artifact, data: SampleSet, *, samples: int = SAMPLES, progress: Progress = quiet
) -> list[LayerFinding]:
    """One finding for each operator whose output both models have, in graph order, over the first `samples` samples.

    Values that are infinite in the float model, and tensors that are zero throughout, are left out. No more than one
    sample's tensors are held. Raises InputError where the formats differ, or the samples do not fit.
    """
    if artifact.kind.format != parent.kind.format:
        why = f"one is {artifact.kind}, the other {parent.kind}: their operators are not the same"
        raise InputError(f"{artifact.name} and {parent.name} cannot be compared operator by operator", why)
    step, context = CalibratedStep(samples=samples), Context(None, {"calibration": data}, _named(progress), _LOG)
    signal: dict[str, float] = {}
    noise: dict[str, float] = {}
    try:
        both = pairs.pair(artifact.kind.format, model_file(parent), model_file(artifact))
        for feed in step.feeds(parent, context):
            for name, reference, other in both.run(feed):
                if reference.shape == other.shape:
                    s, n = _energies(reference, other)
                    signal[name], noise[name] = signal.get(name, 0.0) + s, noise.get(name, 0.0) + n
    except (EdgekitError, OSError, MemoryError):
        raise
    except Exception as error:  # every runtime has its own
        why = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"{artifact.name} cannot be looked into", why) from error
    return findings(both.nodes, {name: noise[name] / s for name, s in signal.items() if s > 0})


_LOG = logging.getLogger("edgekit")


def _named(progress: Progress) -> Progress:
    """The same under another name than calibration's."""

    def renamed(items: Any, what: str, total: int | None = None) -> Any:
        return progress(items, "comparing layers", total)

    return renamed


def _energies(reference: NDArray[Any], other: NDArray[Any]) -> tuple[float, float]:
    """Sum of r² and of (r - o)², where r is finite; infinite noise where o is not."""
    r, o = np.asarray(reference, np.float64).ravel(), np.asarray(other, np.float64).ravel()
    if not (known := np.isfinite(r)).all():
        r, o = r[known], o[known]
    difference = r - o
    noise = float(difference @ difference)
    return float(r @ r), noise if math.isfinite(noise) else math.inf


def findings(nodes: Sequence[Node], ratios: Mapping[str, float]) -> list[LayerFinding]:
    """From tensor → noise / signal. A tensor that was not compared is taken to be as far off as what it came from."""
    known: dict[str, float] = {}
    found = []
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
        found.append(LayerFinding(node.name, node.type, worst, after, start, lost, own, _beside(node, nodes)))
    return found


def _beside(node: Node, nodes: Sequence[Node]) -> tuple[str, ...]:
    read = set(node.reads)
    around = [other for other in nodes if read & {*other.writes}] + [other for other in nodes if read & {*other.reads}]
    return tuple(dict.fromkeys(other.name for other in around if other.name not in ("", node.name)))


def first(found: Sequence[LayerFinding]) -> LayerFinding | None:
    """The first operator that diverges, in graph order; None where all is well.

    Either limit alone would not do: an absolute one names a late operator where the damage began early, and a tensor
    that happens to be small where the output is fine; a relative one misses a network that gets worse a little
    everywhere. There, if the last operator is far off, it is the first that is.
    """
    falls = next((finding for finding in found if finding.diverges), None)
    if falls is None and found and found[-1].sqnr_db < LOW_DB:
        return next(finding for finding in found if finding.sqnr_db < LOW_DB)
    return falls


def noisiest(found: Sequence[LayerFinding]) -> list[LayerFinding]:
    """The operators that add noise of their own, most first."""
    return sorted((f for f in found if f.name and f.own_db < MAX_DB), key=lambda finding: finding.own_db)


def rank(found: Sequence[LayerFinding]) -> tuple[str, ...]:
    """Names for `keep_float`: the operator that adds most noise of its own, those beside it, the next one, and so on.

    What an operator adds may well be the rounding of its input, which it makes larger. That stays as long as an
    operator on the tensor's other side is quantized, in ONNX Runtime and LiteRT; and ONNX Runtime makes the weights of
    a Conv int8 again where it stands alone between quantized ones (its WeightBiasQuantization).
    """
    return tuple(dict.fromkeys(name for finding in noisiest(found) for name in (finding.name, *finding.beside)))


# --- beside the artifact -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerReport:
    """What `layers` found between an artifact and `against`; `why` says why it found nothing."""

    id: str
    against: str
    samples: int
    layers: tuple[LayerFinding, ...] = ()
    why: str = ""

    @property
    def first(self) -> LayerFinding | None:
        return first(self.layers)

    @property
    def sensitive(self) -> list[LayerFinding]:
        return noisiest(self.layers)


def compare_layers(
    store: Store, artifact: Artifact, against: Artifact | None, data: SampleSet, progress: Progress = quiet
) -> LayerReport:
    """The artifact against its parent (or `against`), kept in `layers.json` beside it."""
    parent = against or store.parent(artifact)
    count = min(SAMPLES, len(data))
    if parent is None:
        found = LayerReport(artifact.id, "", 0, why=f"{artifact.name} was made from no other model")
    else:
        try:
            seen = tuple(layers(artifact, parent, data, progress=progress))
            found = LayerReport(artifact.id, parent.name, count, seen, "" if seen else "no tensor is in both")
        except EdgekitError as error:
            found = LayerReport(artifact.id, parent.name, 0, why=error.why or error.what)
    write_atomically(artifact.path / KEPT, json.dumps(asdict(found), indent=1) + "\n")
    return found


def read(artifact: Artifact) -> LayerReport | None:
    """What was kept of this very artifact, or None."""
    try:
        data = json.loads((artifact.path / KEPT).read_text())
        seen = (LayerFinding(**{**entry, "beside": tuple(entry["beside"])}) for entry in data["layers"])
        found = LayerReport(**{**data, "layers": tuple(seen)})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if found.id == artifact.id else None
