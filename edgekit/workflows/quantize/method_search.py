"""The quantization ladder: int8 that keeps its accuracy, by the cheapest means that does, for one format at a time.

    dynamic      int8 weights, activations quantized on the fly: for recurrent networks and transformers
    min-max      static int8, ranges from the extremes of the calibration samples
    percentile   the same statistics, the rarest values clipped
    mse          the same statistics, ranges of the least squared error
    equalize     cross-layer equalization of the torch network first, then the best ranges so far
    gptq         Hessian-based rounding of the torch network's weights first, then the best ranges so far
    bias         the better of those once more, and what is left of each channel's mean error taken out of its bias
    keep-float   the operators that add most noise stay in float: two, four, eight of them
    qat          quantization-aware training, where there are a torch network and training data

Every rung is an artifact in the run folder, so a run that was interrupted goes on behind the last finished one. They
are compared on one half of the validation samples, in the runtime that will run them; the best is confirmed on the
other half and takes the plain name. With a budget the climb ends at the first rung that keeps it; without one, the
rungs that need no training are all tried, and the one whose outputs are nearest to the float model's is taken: among
models that keep the accuracy, SQNR tells them apart where top-1 is noise. Between static and dynamic int8 that both
keep it, the faster is taken.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from edgekit import networks
from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact
from edgekit.core.errors import BudgetMissed, CannotConvert, DeviceError, EdgekitError, InputError
from edgekit.core.files import write_atomically
from edgekit.core.samples import SampleSet
from edgekit.core.step import Step
from edgekit.core.target import PRESETS
from edgekit.measure.context import Outcome, RunContext
from edgekit.measure.execute import execute_all, runtimes_for
from edgekit.measure.verify import Verifier
from edgekit.runs.attempts import METHODS_FILE, _read
from edgekit.runs.graph import Node
from edgekit.runs.store import Store
from edgekit.sets import halves
from edgekit.workflows import make
from edgekit.workflows.quantize.attempts import COSTLY, METHODS, RANGE_METHODS, Attempt, SearchRecord, _kept_latencies

#: operators with a state that is carried along, as the formats name them
RECURRENT = ("LSTM", "GRU", "RNN", "Sequence", "Cell", "WHILE", "TensorIterator", "Loop")

FEW_SAMPLES = 32


#: method → what makes its artifacts (`methods.METHOD_STEPS`)
Methods = Mapping[str, Callable[["MethodSearch"], Iterator[Artifact]]]


class MethodSearch:
    """What the rungs share: the float model they are judged against, the networks behind it, and what was tried."""

    def __init__(
        self,
        context: RunContext,
        reference: Artifact,
        fields: Mapping[str, Any],
        budget: bool,
        suffix: str,
        steps: Methods,
    ) -> None:
        assert context.val is not None
        first, self.second = halves(context.val)
        self.context = dataclasses.replace(context, val=first, outcome=Outcome())
        self.outer, self.reference, self.fields, self.budget, self.suffix = (
            context,
            reference,
            dict(fields),
            budget,
            suffix,
        )
        self.steps = steps
        self.format, self.target = reference.kind.format, context.targets[0]
        self.store: Store = context.store
        verifier = self.context.verifier
        assert verifier is not None
        self.verifier: Verifier = verifier
        self.here = verifier.target
        runtime = next(iter(runtimes_for(reference, self.target)), "")
        self.record = SearchRecord(self.plain("int8"), self.target.name, runtime, reference)
        self.before = _read(self.store).get(self.record.name, {})
        self.known = {entry["id"]: float(entry["seconds"]) for entry in self.before.get("attempts", []) if entry["id"]}
        self.failure: EdgekitError | None = None

    # --- the climb ----------------------------------------------------------------------------------------------

    def run(self, methods: tuple[str, ...]) -> SearchRecord:
        """Climb, confirm, measure. Raises what stopped it where no rung made anything."""
        self._doubt()
        for method in (name for name in METHODS if name in methods):
            if method == "dynamic" and not self.suits_dynamic():
                continue
            if method in COSTLY and self.best and self.best.within_budget:
                continue
            if method not in ("dynamic", *RANGE_METHODS) and not self.best and self.failure:
                break  # int8 as such is not possible, and the other rungs end in it, too
            self.context.say(f"  method    {method}, for {self.record.name}")
            for attempt in self.attempts_of(method):
                self.record.attempts.append(attempt)
                self.context.say(f"            {_described(attempt)}")
                self.save()
            if self.best and (self.best.finding.unverified or self._done()):  # type: ignore[union-attr]
                break
        if self.best is None:
            raise self.failure or InputError("there is nothing to try", f"methods: {', '.join(methods)}")
        self._measure()
        self.record.best = self._decided()
        self._confirm()
        self.save()
        return self.record

    @property
    def best(self) -> Attempt | None:
        """The best attempt so far."""
        return max((a for a in self.record.attempts if a.usable), key=lambda a: a.rank_key, default=None)

    def _decided(self) -> Attempt | None:
        """The best attempt; where static and dynamic int8 both keep the budget, the faster of the two, if one is."""
        fit = [a for a in self.record.attempts if a.usable and a.within_budget and a.latency and a.artifact]
        kinds: dict[str, Attempt] = {}
        for attempt in sorted(fit, key=lambda a: a.rank_key):
            assert attempt.artifact is not None
            kinds[attempt.artifact.kind.precision] = attempt
        if len(kinds) == 2:
            first, second = kinds.values()
            assert first.latency is not None and second.latency is not None
            ratio = statistics.latency_ratio(first.latency, second.latency, paired=True)
            if ratio.differs:
                return first if ratio.value < 1 else second
        return self.best

    def _doubt(self) -> None:
        step = self.step("calibrate")
        if text := step.sets(self.context.task).get("calibration"):
            data = self.context.set(text, self.reference.inputs)
            assert self.context.val is not None
            for doubt in calibration_warnings(data, min(step.samples, len(data)), self.context.val):  # type: ignore[attr-defined]
                self.context.say(f"  careful   {doubt}")

    def _done(self) -> bool:
        return self.budget and self.best is not None and self.best.state == "met"

    def attempts_of(self, method: str) -> Iterator[Attempt]:
        """The rung's attempts; one that cannot be made is an attempt with the reason."""
        started = time.monotonic()
        try:
            for artifact in self.steps[method](self):
                finding = self.verifier.check(artifact, "accuracy", self.reference)
                seconds = self.known.get(artifact.id, time.monotonic() - started)
                name = artifact.name.partition("~")[2] or method
                yield Attempt(name, artifact, finding, round(seconds, 1), finding.failed and finding.reason)
                started = time.monotonic()
        except EdgekitError as error:
            if error.code not in (1, 2, 3) or (error.code == 2 and self.best is None):
                raise
            self.failure = self.failure or error
            yield Attempt(method, seconds=round(time.monotonic() - started, 1), failed=str(error))

    # --- making artifacts ---------------------------------------------------------------------------------------

    def plain(self, precision: str) -> str:
        return self.chained(f"{self.format}-{precision}") + (self.suffix if precision == "int8" else "")

    def chained(self, name: str) -> str:
        return f"{self.reference.chain}.{name}" if self.reference.chain else name

    def make(self, name: str, step: Step, inputs: Mapping[str, Artifact]) -> Artifact:
        """The artifact under that name, reused where it is there."""
        make.check_installed([Node(name, step, {})])
        if "~" in name:
            self.record.made.add(name)
        return make.make_one(Node(name, step, {}), inputs, self.context)

    def step(self, name: str, **fields: Any) -> Step:
        cls = registry.load("steps", name)
        known = {f.name for f in dataclasses.fields(cls)}
        step: Step = cls(**{k: v for k, v in {**self.fields, **fields}.items() if k in known})
        return step.resolve(self.target)

    def verified(self, artifact: Artifact) -> Artifact:
        """The artifact, where its arrow keeps the outputs it should."""
        step = registry.load("steps", artifact.step)
        finding = self.verifier.check(artifact, step.preserves)
        if finding.failed in ("parity", "runtime") and (error := finding.error()):
            raise error
        return artifact

    def int8(self, model: Artifact, label: str, variant: str = "", **fields: Any) -> Artifact:
        """Static int8 of a float model, from one pass over the calibration samples that all methods share."""
        before = f"~{variant}" if variant else ""
        found = self.make(self.chained(f"ranges~{self.format}{before}"), self.step("calibrate"), {"parent": model})
        step = self.step(f"{self.format}_int8", ranges=found.name, calibration="", **fields)
        return self.make(f"{self.plain('int8')}~{label}", step, {"parent": model, "ranges": found})

    def exported(self, network: Artifact, variant: str) -> Artifact:
        """A changed network in this format, by the step and the fields that made the float model."""
        made_here = self.reference.step == f"to_{self.format}"
        fields = self.reference.fields if made_here else {}
        step = self.step(f"to_{self.format}", **fields)
        return self.verified(self.make(self.chained(f"{self.format}~{variant}"), step, {"parent": network}))

    def network(self) -> Artifact:
        """The torch network behind the float model. Raises InputError where there is none and none can be made."""
        artifact: Artifact | None = self.reference
        while artifact is not None:
            if artifact.kind.format == "torch" and not artifact.kind.traits:
                return artifact
            artifact = self.store.parent(artifact)
        if self.format == "onnx":
            return self.verified(self.make(self.chained("torch"), self.step("to_torch"), {"parent": self.reference}))
        raise CannotConvert(f"there is no torch network behind {self.reference.name}", "it came as a file of its own")

    def range_method(self) -> str:
        """The way of choosing ranges that did best so far."""
        tried = [a for a in self.record.attempts if a.method in RANGE_METHODS and a.usable]
        return max(tried, key=lambda a: a.rank_key).method if tried else "mse"

    def suits_dynamic(self) -> bool:
        """Is it attention without convolutions, or does it, or the network behind it, carry a state along?"""
        facts = registry.load("formats", self.format).describe(self.reference.path / self._file(self.reference))
        types = [operator.type for operator in facts.operators]
        attends = any("SOFTMAX" in t.upper() for t in types) and not any("CONV" in t.upper() for t in types)
        if attends or any(word in type for type in types for word in RECURRENT):
            return True
        try:
            network = self.network() if self.format != "onnx" else None
        except EdgekitError:
            return False
        if network is None:
            return False
        from torch import nn

        return any(isinstance(m, nn.RNNBase | nn.RNNCellBase) for m in networks.load(network.path).modules())

    @staticmethod
    def _file(artifact: Artifact) -> str:
        return str(registry.load("formats", artifact.kind.format).file)

    # --- after it -----------------------------------------------------------------------------------------------

    def _confirm(self) -> None:
        """The best under its plain name, checked on the half it was not chosen on."""
        record, best = self.record, self.record.best
        assert best is not None and best.artifact is not None and best.finding is not None
        precision = best.artifact.kind.precision
        record.chosen = self.store.copy(best.artifact, self.plain(precision))
        context = self.outer
        confirming = Verifier(self.store, self.here, self.second, context.scorer, context.gates, context.plan)
        record.confirmed = confirming.check(record.chosen, "accuracy", self.reference)
        context.say(f"  chosen    {record.chosen.name}: {best.method}; {make.describe(record.confirmed)}")
        if record.slower and best.ratio:
            many = f"{best.ratio.value:.2f} times as long as {self.reference.name}"
            context.say(f"            {record.chosen.name} takes {many} here: not recommended for speed")
        context.outcome.reused += self.context.outcome.reused

    def error(self) -> EdgekitError | None:
        """Why the answer is no: the budget was missed on either half."""
        best, confirmed = self.record.best, self.record.confirmed
        assert best is not None and best.finding is not None and confirmed is not None
        if confirmed.failed or best.finding.failed != "budget":
            return confirmed.error()
        what = f"no method keeps {self.record.name} within the budget"
        next = "the best attempt is kept; allow more with --max-drop, or use the float model"
        return BudgetMissed(what, f"the best: {best.finding.reason}", next)

    def _measure(self) -> None:
        """Latency of every attempt and of the float model, interleaved, by the quick plan."""
        record = self.record
        if not record.runtime or self.target.device in ("null", "qemu"):  # they have no times
            return
        tried = [a for a in record.attempts if a.artifact is not None and a.usable]
        models = [self.reference, *(a.artifact for a in tried if a.artifact)]
        plan = dataclasses.replace(self.context.plan, **PRESETS["quick"])
        kept = _kept_latencies(self.before, models, plan)
        if kept is None:
            assert self.context.val is not None
            pairs = [(model, record.runtime) for model in models]
            try:
                runs = execute_all(
                    pairs, self.target, self.context.val, plan, outputs=False, progress=self.context.progress
                )
            except (DeviceError, InputError) as error:  # a kind of board, or one that is not there now
                self.context.say(f"            no latency from {self.target.name}: {error}")
                return
            kept = [statistics.latency(run.processes, plan.threads, run.facts["batch"]) for run in runs]
        record.reference_latency = kept[0]
        timed = {
            id(attempt): dataclasses.replace(
                attempt, latency=found, ratio=statistics.latency_ratio(found, kept[0], paired=True)
            )
            for attempt, found in zip(tried, kept[1:], strict=True)
        }
        record.attempts = [timed.get(id(attempt), attempt) for attempt in record.attempts]

    def save(self) -> None:
        """`ladder.json` as it stands, so that a later run knows what each rung cost, and which artifacts are tries."""
        path = self.store.path / METHODS_FILE
        found = _read(self.store)
        found[self.record.name] = self.record.to_json()
        write_atomically(path, json.dumps(found, indent=1) + "\n")


def calibration_warnings(calibration: SampleSet, used: int, validation: SampleSet) -> Iterator[str]:
    """What may make the ranges wrong: few samples, or others than those the model will see."""
    if used < FEW_SAMPLES:
        yield f"only {used} calibration samples: {FEW_SAMPLES} or more give ranges to rely on"
    for name, values in calibration.inputs.items():
        other = validation.inputs.get(name)
        if other is None and len(calibration.inputs) == len(validation.inputs) == 1:
            other = next(iter(validation.inputs.values()))
        if other is None or name == "" or values.dtype.kind not in "fu" or values.shape[1:] != other.shape[1:]:
            continue
        a, b = (np.asarray(v[:256], np.float64) for v in (values[:used], other))
        spread = max(b.std(), 1e-12)
        if abs(a.mean() - b.mean()) > spread / 2 or not 0.5 <= a.std() / spread <= 2:
            shown = f"mean {a.mean():.3g} and {b.mean():.3g}, standard deviation {a.std():.3g} and {b.std():.3g}"
            yield f"calibration samples are unlike those of validation in {name!r}: {shown}"


def _described(attempt: Attempt) -> str:
    if attempt.finding is None:
        return f"not possible: {attempt.failed}"
    return make.describe(dataclasses.replace(attempt.finding, failed=""))
