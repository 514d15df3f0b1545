"""The check after every conversion, on real samples in the real runtime.

An exporter must preserve the outputs (SQNR against its parent), a compressor the accuracy (paired, against the chain's
float root). The finding is stored with the artifact in `verify.json`, the evidence of a failure in `evidence.npz`.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgekit.core import statistics
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.errors import BudgetMissed, EdgekitError, ParityFailed
from edgekit.core.files import write_atomically
from edgekit.core.json import from_json
from edgekit.core.measurement import Metric, Parity, Verdict
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.core.task import Scorer, Scores
from edgekit.measure.execute import execute, runtimes_for
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store
from edgekit.sets import edges

FINDING, EVIDENCE = "verify.json", "evidence.npz"
EVIDENCE_SAMPLES = 32


@dataclass(frozen=True)
class Finding:
    """The result of one conversion's check. `failed` names the failed check, "" for none.

    `unverified` gives the reason if nothing here can execute the artifact exactly.
    """

    artifact: str
    id: str
    key: str
    step: str
    preserves: str
    failed: Literal["", "parity", "budget", "runtime"] = ""
    reason: str = ""
    unverified: str = ""
    parity: Parity | None = None
    metric: Metric | None = None
    verdict: Verdict | None = None

    def error(self) -> EdgekitError | None:
        """The failure as an error that names the artifact and its step, or None."""
        if not self.failed:
            return None
        kind = BudgetMissed if self.failed == "budget" else ParityFailed
        what = f"{self.artifact} failed its check after {self.step}"
        next = f"edgekit verify --layers; the samples that differ most are in {self.artifact}/{EVIDENCE}"
        return kind(what, self.reason, next)


class Verifier:
    """Checks conversions on one target and one set; a parent's outputs are computed once for all its children.

    `bytes`: the images of the set are not normalized yet.
    """

    bytes = False

    def __init__(
        self, store: Store, target: Target, data: SampleSet, scorer: Scorer | None, gates: Gates, plan: Plan
    ) -> None:
        self.store, self.target, self.data = store, target, data
        self.scorer = scorer if data.labels is not None else None
        self.gates, self.plan = gates, dataclasses.replace(plan, samples=0, precision="fp32")
        self._outputs: dict[str, Mapping[str, Any]] = {}
        self._of_bytes: Verifier | None = None  # for models that normalize images themselves

    def check(self, artifact: Artifact, preserves: str, against: Artifact | None = None) -> Finding:
        """The finding for one artifact, from `verify.json` if the same check was made before.

        `preserves` is what its step must preserve: "outputs" or "accuracy".
        """
        parent = against or self._float_model(artifact)
        key = self._key(artifact, parent)
        stored = read(artifact)
        if stored and stored.key == key:
            return stored
        verifier = self._with_bytes(artifact) if edges.takes_bytes(artifact.inputs) else self
        finding = verifier._check(artifact, parent, preserves, key)
        write_atomically(artifact.path / FINDING, json.dumps(dataclasses.asdict(finding), indent=1) + "\n")
        return finding

    def _float_model(self, artifact: Artifact) -> Artifact | None:
        """The reference: its parent, or the parent's float export if it was quantized before it was lowered."""
        parent = self.store.parent(artifact)
        if parent is None or not artifact.kind.precision or parent.kind.format == artifact.kind.format:
            return parent
        exports = (a for a in self.store.current() if a.kind == Kind(artifact.kind.format))
        return next((a for a in exports if (link := a.parent()) and link.id == parent.id), parent)

    def _with_bytes(self, artifact: Artifact) -> Verifier:
        """This verifier with images as bytes, which every other model gets normalized."""
        if self._of_bytes is None:
            self._of_bytes = copy.copy(self)
            self._of_bytes.data = edges.as_bytes(self.data, self.store.root(artifact).inputs)
            self._of_bytes._outputs = {}
            self._of_bytes.bytes = True
        return self._of_bytes

    def outputs(self, artifact: Artifact) -> Mapping[str, Any]:
        if artifact.id not in self._outputs:
            data = edges.from_bytes(self.data, artifact.inputs) if self.bytes else self.data
            run = execute(artifact, self.target, data, self.plan, latency=False)
            self._outputs[artifact.id] = run.outputs
        return self._outputs[artifact.id]

    def _key(self, artifact: Artifact, parent: Artifact | None) -> str:
        """Identifies a check: both artifacts, the samples, the gates, the target, runtimes and compute precision."""
        target, scored = self.target, "scored" if self.scorer else "not scored"
        where = f"{target.name} ({target.isa_class}: {', '.join(target.runtimes)}; {self.plan.precision})"
        return f"{artifact.id}/{parent.id if parent else ''}/{self.data.sha256[:16]}/{self.gates}/{where}/{scored}"

    def _check(self, artifact: Artifact, parent: Artifact | None, preserves: str, key: str) -> Finding:
        finding = Finding(artifact.name, artifact.id, key, artifact.step, preserves)
        if not runtimes_for(artifact, self.target):
            why = f"no runtime for {artifact.kind} on {self.target.name}"
            return dataclasses.replace(finding, unverified=why)
        if saturates(artifact, self.target):
            why = f"{self.target.name} saturates {artifact.scheme}: verify it with --target DEVICE"
            return dataclasses.replace(finding, unverified=why)
        outputs = self.outputs(artifact)
        not_finite = [name for name, value in outputs.items() if not np.isfinite(value).all()]
        if not_finite:
            why = f"output {not_finite[0]!r} holds NaN or infinity"
            finding = dataclasses.replace(finding, failed="runtime", reason=why)
            self._evidence(artifact, outputs, outputs)
            return finding
        if parent is None:
            return dataclasses.replace(finding, metric=self._metric(outputs, None, None))
        parity = statistics.parity(parent.name, self.outputs(parent), outputs)
        finding = dataclasses.replace(finding, parity=parity)
        if preserves == "outputs" and parity.sqnr_db < self.gates.min_sqnr_db:
            minimum = self.gates.min_sqnr_db
            why = f"SQNR against {parent.name} is {parity.sqnr_db:.1f} dB; at least {minimum:g} dB is required"
            finding = dataclasses.replace(finding, failed="parity", reason=why)
            self._evidence(artifact, self.outputs(parent), outputs)
        return self._budget(finding, artifact, outputs)

    def _budget(self, finding: Finding, artifact: Artifact, outputs: Mapping[str, Any]) -> Finding:
        """Add the accuracy against the chain's float root, and for a compressor the verdict on its budget."""
        root = self.store.root(artifact)
        if self.scorer is None or finding.failed:
            return finding
        reference, scores = self._scores(self.outputs(root)), self._scores(outputs)
        metric = statistics.metric(scores, self.data.sha256, reference, root.name)
        finding = dataclasses.replace(finding, metric=metric)
        if finding.preserves != "accuracy":
            return finding
        verdict = statistics.verdict(reference, scores, self.gates.max_drop_pp, "val")
        finding = dataclasses.replace(finding, verdict=verdict)
        if verdict.state == "missed" or (verdict.state == "undecided" and self.gates.strict):
            allowed = f"a drop of {self.gates.max_drop_pp:g} is allowed"
            why = f"{_change(metric)} {root.name} (budget {verdict.state}); {allowed}"
            finding = dataclasses.replace(finding, failed="budget", reason=why)
            self._evidence(artifact, self.outputs(root), outputs)
        return finding

    def _scores(self, outputs: Mapping[str, Any]) -> Scores:
        assert self.scorer is not None and self.data.labels is not None
        return self.scorer(outputs, self.data.labels)

    def _metric(self, outputs: Mapping[str, Any], reference: Scores | None, against: str | None) -> Metric | None:
        if self.scorer is None:
            return None
        return statistics.metric(self._scores(outputs), self.data.sha256, reference, against)

    def _evidence(self, artifact: Artifact, reference: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Write the samples that differ most, with the outputs of both artifacts."""
        first, second = next(iter(reference.values())), next(iter(outputs.values()))
        count = min(EVIDENCE_SAMPLES, len(second))
        worst = np.arange(count)
        if first.shape == second.shape:
            error = np.abs(np.asarray(first, np.float64) - second).reshape(len(first), -1).max(axis=1)
            worst = np.argsort(-np.nan_to_num(error, nan=np.inf), kind="stable")[:count]
        arrays = {f"input_{name}": value[worst] for name, value in self.data.inputs.items()}
        arrays |= {f"expected_{name}": value[worst] for name, value in reference.items()}
        arrays |= {f"got_{name}": value[worst] for name, value in outputs.items()}
        np.savez(artifact.path / EVIDENCE, index=worst, **arrays)  # type: ignore[arg-type]


def _change(metric: Metric) -> str:
    """ "0.30 points below" (a drop), "0.10 points above" (a gain), "1.20 % worse than"."""
    assert metric.drop_pp is not None
    below, above = ("points below", "points above") if metric.unit == "fraction" else ("% worse than", "% better than")
    return f"{abs(metric.drop_pp):.2f} {above if metric.drop_pp < 0 else below}"


def read(artifact: Artifact) -> Finding | None:
    """The stored finding of this artifact, or None if there is none or the artifact has changed."""
    path = artifact.path / FINDING
    if not path.is_file():
        return None
    try:
        data = json.loads(path.read_text())
        nested = {"parity": Parity, "metric": Metric, "verdict": Verdict}
        finding = Finding(**{**data, **{name: from_json(kind, data[name]) for name, kind in nested.items()}})
    except (ValueError, TypeError, KeyError):
        return None
    return finding if finding.id == artifact.id else None


def saturates(artifact: Artifact, target: Target) -> bool:
    """Would this target's instructions saturate the sums of the artifact's scheme?

    Without VNNI, x86 adds two int8 products in 16 bits; in ONNX Runtime and OpenVINO this holds for signed and unsigned
    activations. LiteRT widens first.
    """
    full = artifact.scheme.startswith(("u8s8", "s8s8")) and "reduced" not in artifact.scheme
    return full and artifact.kind.format != "tflite" and target.isa_class == "x86"
