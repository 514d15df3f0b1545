"""The check after every conversion, in the real runtime.

An exporter must preserve the outputs (SQNR against its parent), a compressor the accuracy (paired, against the chain's
float root). Without data, exporters are checked on random inputs, on which a compressor cannot be verified. The finding
is stored with the artifact in `verify.json`, the evidence of a failure in `evidence.npz`.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgekit.core import statistics
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.errors import BudgetMissed, DeviceError, EdgekitError, InputError, ParityFailed
from edgekit.core.json import read as read_json
from edgekit.core.json import record
from edgekit.core.local_paths import names_only
from edgekit.core.measurement import Metric, Parity, Run, Verdict
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.core.task import Scorer, Scores, chosen_metric
from edgekit.measure import matching, targets
from edgekit.measure.execute import execute, execute_steps, runtimes_for
from edgekit.runs import written
from edgekit.runs.recipe import Gates
from edgekit.runs.store import Store
from edgekit.sets import edges, take

FINDING, EVIDENCE = "verify.json", "evidence.npz"
EVIDENCE_SAMPLES = 32
#: samples of a model with states that are computed position by position
STEPWISE_SAMPLES = 4
#: goes up when a check becomes stricter: findings of earlier checks are made again
CHECKS = 5


@dataclass(frozen=True)
class Finding:
    """The result of one conversion's check. `failed` names the failed check, "" for none.

    `unverified` gives the reason if it could not be checked. `on`: the samples of the check, in words; `random`: they
    are random numbers. `matched`: which inputs and outputs were taken for which, if their names or layouts differ.
    `stepwise_db`: of a model with states, the SQNR of outputs computed position by position against those of one call.

    Examples:
        >>> (finding,) = edgekit.verify("runs/mnist/onnx")
        >>> finding.failed, finding.parity.against
        ('', 'torch')
    """

    artifact: str
    id: str
    key: str
    step: str
    preserves: str
    failed: Literal["", "parity", "budget", "floor", "runtime"] = ""
    reason: str = ""
    unverified: str = ""
    on: str = ""
    random: bool = False
    matched: tuple[str, ...] = ()
    parity: Parity | None = None
    metric: Metric | None = None
    verdict: Verdict | None = None
    stepwise_db: float | None = None

    def error(self) -> EdgekitError | None:
        """The failure as an error that names the artifact and its step, or None.

        Examples:
            >>> (finding,) = edgekit.verify("runs/mnist/onnx")
            >>> finding.error() is None
            True
        """
        if not self.failed:
            return None
        kind = BudgetMissed if self.failed in ("budget", "floor") else ParityFailed
        what = f"{self.artifact} failed its check after {self.step}"
        next = f"edgekit verify --layers; the samples that differ most are in {self.artifact}/{EVIDENCE}"
        if self.failed == "runtime" and not self.parity:
            next = "use another format, or replace what the message names in the network"
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
        self._against: Artifact | None = None
        self._runs: dict[tuple[str, str], Run] = {}
        self._of_bytes: Verifier | None = None  # for models that normalize images themselves

    def check(self, artifact: Artifact, preserves: str, against: Artifact | None = None) -> Finding:
        """The finding for one artifact, from `verify.json` if the same check was made before, and did run.

        `preserves` is what its step must preserve: "outputs" or "accuracy". `against`: a model that it need not have
        been made from. Raises InputError if the samples do not fit, or the two models cannot be matched.
        """
        self._against = against
        parent = against or self._float_model(artifact)
        key = self._key(artifact, parent)
        stored = read(artifact)
        if stored and stored.key == key and stored.failed != "runtime":  # a runtime may have been updated
            return stored
        verifier = self._with_bytes(artifact) if edges.takes_bytes(artifact.inputs) else self
        finding = verifier._check(artifact, parent, preserves, key)
        if artifact.states and not (finding.failed or finding.unverified):
            finding = verifier._stepwise(finding, artifact, preserves)
        written.write_beside(artifact, FINDING, json.dumps(names_only(dataclasses.asdict(finding)), indent=1) + "\n")
        return finding

    def _float_model(self, artifact: Artifact) -> Artifact | None:
        """The reference: its parent, or the parent's float export if it was quantized before it was lowered."""
        parent = self.store.parent(artifact)
        if parent is None or not artifact.kind.precision or parent.kind.format == artifact.kind.format:
            return parent
        exports = (a for a in self.store.current() if a.kind == Kind(artifact.kind.format))
        return next((a for a in exports if (link := a.parent()) and link.id == parent.id), parent)

    def outputs(self, artifact: Artifact, data: SampleSet | None = None) -> Mapping[str, Any]:
        """Output name → array of an artifact for all samples (default: those of this verifier), computed once.

        Raises InputError if it cannot run them, Missing, DeviceError.
        """
        return self._run(artifact, data or self.data).outputs

    def reuse(self, other: Verifier, rows: slice) -> None:
        """Take over what another has run on the same target: these samples are `rows` of its own."""
        if self.data is other.data:  # a single sample is both halves
            rows = slice(None)
        for (id, digest), run in other._runs.items():
            if digest == other.data.sha256:
                outputs = {name: values[rows] for name, values in run.outputs.items()}
                self._runs[id, self.data.sha256] = dataclasses.replace(run, outputs=outputs)

    def _reference(self, artifact: Artifact, parent: Artifact, data: SampleSet) -> Mapping[str, Any]:
        """The outputs of what the artifact is compared with, for the artifact's samples."""
        if parent is self._against:
            data, _ = matching.inputs(data, artifact.inputs, parent.inputs)
        return self.outputs(parent, data)

    def _aligned(
        self, artifact: Artifact, reference: Mapping[str, Any], outputs: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], list[str]]:
        """The artifact's outputs as those of the model that it need not have been made from, and how."""
        if self._against is None:
            return outputs, []
        _, notes = matching.inputs(self.data, artifact.inputs, self._against.inputs)
        aligned, more = matching.outputs(reference, outputs)
        return aligned, notes + more

    def _run(self, artifact: Artifact, data: SampleSet) -> Run:
        key = artifact.id, data.sha256
        if key not in self._runs:
            data = edges.from_bytes(data, artifact.inputs) if self.bytes else data
            self._runs[key] = execute(artifact, self.target, data, self.plan, latency=False)
        return self._runs[key]

    def _with_bytes(self, artifact: Artifact) -> Verifier:
        """This verifier with images as bytes, which every other model gets normalized."""
        if self._of_bytes is None:
            self._of_bytes = copy.copy(self)
            self._of_bytes.data = edges.as_bytes(self.data, self.store.root(artifact).inputs)
            self._of_bytes._runs = {}
            self._of_bytes.bytes = True
        return self._of_bytes

    def _key(self, artifact: Artifact, parent: Artifact | None) -> str:
        """Identifies a check: both artifacts, the samples, the gates, the target, runtimes and compute precision."""
        target, scored = self.target, "scored" if self.scorer else "not scored"
        scored += f" by {name}" if (name := chosen_metric(self.scorer)) else ""
        where = f"{target.name} ({target.isa_class}: {', '.join(target.runtimes)}; {self.plan.precision})"
        models = f"{artifact.id}/{parent.id if parent else ''}"
        return f"{models}/{self.data.sha256}/{self.gates}/{where}/{scored}/{CHECKS}"

    def _check(self, artifact: Artifact, parent: Artifact | None, preserves: str, key: str) -> Finding:
        finding = Finding(artifact.name, artifact.id, key, artifact.step, preserves)
        if not runtimes_for(artifact, self.target):
            why = f"no runtime for {artifact.kind} on {self.target.name}"
            return dataclasses.replace(finding, unverified=why)
        if saturates(artifact, self.target):
            why = f"{self.target.name} saturates {artifact.scheme}: verify it with --target DEVICE"
            return dataclasses.replace(finding, unverified=why)
        finding = dataclasses.replace(finding, on=samples_of(self.data), random=self.data.random)
        if parent is None:
            return self._alone(finding, artifact)
        try:
            reference = self._reference(artifact, parent, self.data)
        except InputError as error:
            if not self.data.random or not error.what.startswith("cannot run"):
                raise
            why = f"{parent.name} cannot run random inputs ({error.why}): pass --val SET, or --shape for open sizes"
            return dataclasses.replace(finding, unverified=why)
        if not _finite(reference) and self.data.random:
            why = f"{parent.name} returns NaN or infinity for random inputs: pass --val SET"
            return dataclasses.replace(finding, unverified=why)
        finding = self._compared(finding, artifact, parent)
        if finding.random and not finding.failed and (constant := _constant(reference)):
            what = "the same" if len(constant) == len(reference) else f"the same {constant[0]}"
            why = f"{parent.name} returns {what} for all random inputs: pass --val SET"
            return dataclasses.replace(finding, unverified=why)
        if preserves == "accuracy" and not finding.failed and finding.parity:
            judged = self.scorer is not None or finding.random
            if why := statistics.below_floor(finding.parity, judged, self.gates.max_kl):
                self._evidence(artifact, reference, self._aligned(artifact, reference, self.outputs(artifact))[0])
                return dataclasses.replace(finding, failed="floor", reason=why)
        if finding.random and preserves == "accuracy" and not finding.failed and finding.parity:
            why = f"only random inputs (SQNR {finding.parity.sqnr_db:.0f} dB against {parent.name}): pass --val SET"
            return dataclasses.replace(finding, unverified=why)
        if finding.failed:
            return finding
        outputs, _ = self._aligned(artifact, reference, self.outputs(artifact))
        return self._budget(finding, artifact, outputs)

    def _alone(self, finding: Finding, artifact: Artifact) -> Finding:
        """The check of an artifact without a parent: it runs, and its outputs are finite."""
        outputs = self.outputs(artifact)
        if why := _not_finite(outputs):
            self._evidence(artifact, outputs, outputs)
            return dataclasses.replace(finding, failed="runtime", reason=why)
        return dataclasses.replace(finding, metric=self._metric(outputs, None, None))

    def _stepwise(self, finding: Finding, artifact: Artifact, preserves: str) -> Finding:
        """The check of the states, which a request uses: half of each of a few samples at once, the rest one by one."""
        data = take(self.data, STEPWISE_SAMPLES)
        length = next(iter(data.inputs.values())).shape[1]
        whole = {name: values[: len(data)] for name, values in self.outputs(artifact).items()}
        try:
            steps = execute_steps(artifact, self.target, data, stepwise=max(1, length // 2))
        except (InputError, DeviceError) as error:
            if isinstance(error, DeviceError) and not targets.is_here(self.target):
                raise
            return dataclasses.replace(finding, failed="runtime", reason=f"it does not run step by step: {error}")
        sqnr = statistics.parity(artifact.name, whole, steps).sqnr_db
        finding = dataclasses.replace(finding, stepwise_db=sqnr)
        least = statistics.MIN_SQNR_DB if preserves == "accuracy" else self.gates.min_sqnr_db
        if sqnr >= least:
            return finding
        self._evidence(artifact, whole, steps)
        why = f"computed position by position its outputs differ from those of one call: {sqnr:.1f} dB"
        return dataclasses.replace(finding, failed="parity", reason=f"{why}, and {least:g} dB is the least")

    def _compared(self, finding: Finding, artifact: Artifact, parent: Artifact) -> Finding:
        """Compare the outputs with the parent's, on all samples, and on those of other sizes that the parent runs."""
        for data in (self.data, *self.data.more):
            where = "" if data is self.data else f" (for inputs of {_sizes(data)})"
            if where and not self._can_run(artifact, parent, data):
                continue
            try:
                outputs = self.outputs(artifact, data)
            except (InputError, DeviceError) as error:
                if isinstance(error, DeviceError) and not targets.is_here(self.target):
                    raise
                self._reference(artifact, parent, data)  # raises what is wrong with the samples, not with the file
                why = f"{artifact.step} made a file that does not run: {error}"
                return dataclasses.replace(finding, failed="runtime", reason=why + where)
            reference = self._reference(artifact, parent, data)
            outputs, notes = self._aligned(artifact, reference, outputs)
            finding = dataclasses.replace(finding, matched=tuple(dict.fromkeys([*finding.matched, *notes])))
            if why := _not_finite(outputs) or _difference(reference, outputs, parent, artifact):
                if not where:
                    self._evidence(artifact, reference, outputs)
                failed: Literal["runtime", "parity"] = "runtime" if _not_finite(outputs) else "parity"
                return dataclasses.replace(finding, failed=failed, reason=why + where)
            per_position = _has_class_per_position(artifact, reference, data)
            parity = statistics.parity(parent.name, reference, outputs, per_position, parent.embedding)
            if finding.parity is None or parity.sqnr_db < finding.parity.sqnr_db:
                finding = dataclasses.replace(finding, parity=parity)
            if finding.preserves == "outputs" and parity.sqnr_db < self.gates.min_sqnr_db:
                minimum = f"at least {self.gates.min_sqnr_db:g} dB is required"
                why = f"SQNR against {parent.name} is {parity.sqnr_db:.1f} dB{where}; {minimum}"
                if not where:
                    self._evidence(artifact, reference, outputs)
                return dataclasses.replace(finding, failed="parity", reason=why)
        if finding.preserves == "outputs" and (why := self._batch_problem(artifact, parent)):
            return dataclasses.replace(finding, failed="runtime", reason=why)
        return finding

    def _can_run(self, artifact: Artifact, parent: Artifact, data: SampleSet) -> bool:
        """Are these sizes open in the artifact, and does the parent run them, with finite outputs?"""
        arrays = list(data.inputs.values())
        if len(arrays) != len(artifact.inputs):
            return False
        for index, spec in enumerate(artifact.inputs):
            array = data.inputs.get(spec.name, arrays[index])
            sizes = spec.shape if array.ndim > len(spec.shape) else spec.shape[1:]
            if any(size not in (None, actual) for size, actual in zip(sizes, array.shape[1:], strict=False)):
                return False
        try:
            return _finite(self._reference(artifact, parent, data))
        except (InputError, DeviceError):
            return False

    def _batch_problem(self, artifact: Artifact, parent: Artifact) -> str:
        """Why an open batch axis is none: its parent computes several samples at once, and it does not."""
        if self._against is not None:
            return ""
        together, alone = (self._run(one, self.data).output_batch for one in (parent, artifact))
        is_open = all(spec.shape and spec.shape[0] is None for spec in artifact.inputs)
        if not is_open or together < 2 or alone != 1:
            return ""
        why = f"but several samples at once give other outputs than one by one, unlike in {parent.name}"
        return f"its batch axis is open, {why}"

    def _budget(self, finding: Finding, artifact: Artifact, outputs: Mapping[str, Any]) -> Finding:
        """Add the accuracy against the chain's float root, and for a compressor the verdict on its budget."""
        if self.scorer is None:
            return finding
        root = self._against or self.store.root(artifact)
        before = self._reference(artifact, root, self.data)
        if self._against is not None:  # the metric knows the outputs by the names that the artifact gives them
            outputs = self.outputs(artifact)
            before, _ = matching.outputs(outputs, before)
        reference, scores = self._scores(before), self._scores(outputs)
        metric = statistics.metric(scores, self.data.sha256, reference, root.name)
        finding = dataclasses.replace(finding, metric=metric)
        if finding.preserves != "accuracy":
            return finding
        verdict = statistics.verdict(reference, scores, self.gates.max_drop_pp, "val", self.data.labels)
        finding = dataclasses.replace(finding, verdict=verdict)
        if verdict.state == "missed" or (verdict.state == "undecided" and self.gates.strict):
            allowed = f"a drop of {self.gates.max_drop_pp:g} is allowed"
            why = verdict.reason or f"{_change(metric)} {root.name} (budget {verdict.state}); {allowed}"
            finding = dataclasses.replace(finding, failed="budget", reason=why)
            self._evidence(artifact, before, outputs)
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
        content = io.BytesIO()
        np.savez(content, index=worst, **arrays)  # type: ignore[arg-type]
        written.write_beside(artifact, EVIDENCE, content.getvalue())


def samples_of(data: SampleSet) -> str:
    """ "64 random inputs", "500 samples of val"."""
    if data.random:
        return f"{len(data)} random inputs"
    short = re.sub(r"\?.*?(?=:(?:train|val|test)\b|, half|$)", "", names_only(data.name))  # without a SET's options
    return f"{len(data)} samples of {short}"


def _sizes(data: SampleSet) -> str:
    return ", ".join("x".join(map(str, array.shape)) for array in data.inputs.values())


def _constant(outputs: Mapping[str, Any]) -> list[str]:
    """The outputs that are the same for all samples: any model that returns a constant would be as right."""
    return [name for name, array in outputs.items() if len(array) > 1 and (array == array[:1]).all()]


def _has_class_per_position(artifact: Artifact, outputs: Mapping[str, Any], data: SampleSet) -> bool:
    """Is the first output (samples, positions, classes), by its signature, or by labels (samples, positions)?"""
    first = next(iter(outputs.values()))
    if first.ndim != 3:
        return False
    kind = getattr(artifact.outputs[0].signature, "kind", "")
    if kind:
        return kind in ("logits", "probabilities")
    labels = data.labels
    return artifact.outputs[0].name == "logits" or (
        labels is not None and labels.dtype.kind in "iu" and labels.shape == first.shape[:2]
    )


def _finite(outputs: Mapping[str, Any]) -> bool:
    return not _not_finite(outputs)


def _not_finite(outputs: Mapping[str, Any]) -> str:
    names = [name for name, value in outputs.items() if not np.isfinite(value).all()]
    return f"output {names[0]!r} holds NaN or infinity" if names else ""


def _difference(reference: Mapping[str, Any], outputs: Mapping[str, Any], parent: Artifact, artifact: Artifact) -> str:
    """Which output has another shape than the parent's; "" if none has."""
    difference = statistics.shape_difference(reference, outputs)
    return f"{difference} (of {parent.name} and {artifact.name})" if difference else ""


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
        finding = record(Finding, read_json(path), path)
    except InputError:
        return None
    return finding if finding.id == artifact.id else None


def saturates(artifact: Artifact, target: Target) -> bool:
    """Would this target's instructions saturate the sums of the artifact's scheme?

    Without VNNI, x86 adds two int8 products in 16 bits; in ONNX Runtime and OpenVINO this holds for signed and unsigned
    activations. LiteRT widens first.
    """
    full = artifact.scheme.startswith(("u8s8", "s8s8")) and "reduced" not in artifact.scheme
    return full and artifact.kind.format != "tflite" and target.isa_class == "x86"
