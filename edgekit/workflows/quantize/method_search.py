"""The method search: int8 that keeps its accuracy by the cheapest method, for one format at a time.

    dynamic      dynamic quantization: int8 weights, activations quantized at run time; for recurrent networks and
                 transformers
    weight-only  int8 weights, computed in float: where no int8 is faster than float
    min-max      static int8, min-max calibration: ranges are the extremes over the calibration samples
    percentile   static int8, percentile calibration: outliers are clipped
    mse          static int8, MSE calibration: ranges minimise the squared quantization error
    equalize     cross-layer equalization of the torch network, then the best calibration method so far
    gptq         GPTQ, Hessian-based rounding of the torch network's weights, then the best calibration method so far
    bias         GPTQ on the better of the networks above, with bias correction of each channel's remaining mean error
    keep-float   mixed precision: the two, four or eight operators that add the most noise stay in float
    qat          quantization-aware training, if there are a torch network and training data

The three static methods share one calibration pass. Each attempt is an artifact in the run folder, so an interrupted
search resumes after the last finished attempt. Attempts are evaluated on one half of the validation samples, in the
target's runtime; the best is confirmed on the other half and copied to the plain name. With a budget the search ends
at the first method that keeps it. Without one, all methods that need no training are tried and the highest SQNR
against the float model wins: among models that keep the accuracy, differences in top-1 are noise. Of static, dynamic
and weight-only int8 within the budget the fastest is chosen.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import numpy as np

from edgekit import networks
from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.errors import BudgetMissed, CannotConvert, EdgekitError, InputError
from edgekit.core.local_paths import names_only
from edgekit.core.measurement import Latency
from edgekit.core.samples import SampleSet
from edgekit.core.step import Step
from edgekit.measure.context import Outcome, RunContext
from edgekit.measure.verify import Verifier
from edgekit.runs import written
from edgekit.runs.attempts import METHODS_FILE, read_attempts
from edgekit.runs.graph import Node
from edgekit.runs.store import Store
from edgekit.sets import FIRST_HALF, SECOND_HALF, halves
from edgekit.workflows import make
from edgekit.workflows.inspect import output_tail
from edgekit.workflows.inspect.output_tail import OutputTail
from edgekit.workflows.kernels import WORTH
from edgekit.workflows.quantize import attempt_times, placement, remaining, tail_placement
from edgekit.workflows.quantize.attempts import (
    COSTLY,
    GAIN_DB,
    METHODS,
    RANGE_METHODS,
    SELDOM,
    WITHOUT_SAMPLES,
    Attempt,
    SearchRecord,
)

#: recurrent operators, as the formats name them
RECURRENT = ("LSTM", "GRU", "RNN", "Sequence", "Cell", "WHILE", "TensorIterator", "Loop")

FEW_SAMPLES = 32

Effort = Literal["fast", "normal", "thorough"]

#: method → what makes its artifacts (`methods.METHOD_STEPS`)
Methods = Mapping[str, Callable[["MethodSearch"], Iterator[Artifact]]]


class MethodSearch:
    """The search on one float model: its networks, its attempts, and the steps that the methods share.

    `effort`: "fast" tries one method and takes the placement from the kernel table, "thorough" tries all. `earlier`:
    searches on other formats of the same network, whose best changed network is the only one that is tried again: its
    weights are the same in every runtime.
    """

    def __init__(
        self,
        context: RunContext,
        reference: Artifact,
        format: str,
        fields: Mapping[str, Any],
        budget: bool,
        suffix: str,
        steps: Methods,
        effort: Effort = "normal",
        earlier: Sequence[SearchRecord] = (),
    ) -> None:
        assert context.val is not None
        first, self.second = halves(context.val)
        self.context = dataclasses.replace(context, val=first, outcome=Outcome())
        self.outer_context, self.reference, self.fields, self.budget, self.suffix = (
            context,
            reference,
            dict(fields),
            budget,
            suffix,
        )
        self.steps = steps
        self.format, self.target = format, context.targets[0]
        self.int8_step = registry.load("steps", f"{format}_int8")
        self.int8_fields = {field.name for field in dataclasses.fields(self.int8_step)}
        self.store: Store = context.store
        verifier, whole = self.context.verifier, context.verifier
        assert verifier is not None and whole is not None
        self.verifier: Verifier = verifier
        self.here = verifier.target
        self.verifier.reuse(whole, FIRST_HALF)
        runtime = next((name for name in self.target.runtimes if registry.runtime(name).takes(format)), "")
        machine = attempt_times.machine(self.target, runtime)
        self.record = SearchRecord(self.plain("int8"), self.target.name, machine, runtime, reference)
        stored = read_attempts(self.store).get(self.record.name, {})
        #: what an earlier search recorded on this machine: times of another are not this one's
        self.stored: Mapping[str, Any] = stored if machine and stored.get("machine") == machine else {}
        entries = [entry for entry in stored.get("attempts", []) if entry["id"]]
        self.known_seconds = {entry["id"]: float(entry["seconds"]) for entry in entries}
        current = {artifact.id for artifact in self.store.current()}
        #: method, or another part of a search (`remaining`) → the seconds that it takes; none if it is only reused
        self.seen: dict[str, float] = {entry["method"]: 0.0 for entry in entries if entry["id"] in current}
        self.failure: EdgekitError | None = None
        self.effort, self.earlier = effort, earlier
        self.methods: tuple[str, ...] = METHODS
        self.tried = 0
        for record in earlier:
            self.seen.update(record.seconds)
        self.placed = placement.Candidate()
        self.tail_in_float = True
        self._tails: dict[str, OutputTail | None] = {}
        self.timed = True
        #: the sessions of measuring so far: the ids of the artifacts, in order → their latencies
        self.measured: dict[tuple[str, ...], list[Latency]] = {}
        if not runtime:
            self.untimed(f"{self.target.name} has no runtime for it")
        elif not registry.load("devices", self.target.device).timed:
            self.untimed(f"{self.target.name} is not timed")

    def untimed(self, why: str) -> None:
        """Time nothing from here on."""
        self.timed, self.record.not_timed = False, why

    # --- the search ---------------------------------------------------------------------------------------------

    def run(self, methods: tuple[str, ...]) -> SearchRecord:
        """Try the methods, measure, confirm. Raises the first failure if no method makes an artifact."""
        self.methods = methods
        self._warn_about_calibration()
        self._place(methods)
        for method in (name for name in METHODS if name in methods):
            if why := self.unsupported(method):
                self.context.say(f"  skipped   {method}: {why}")
                continue
            if method == "weight-only" or (method == "dynamic" and not self.suits_dynamic()):
                continue  # tried below, where nothing else is faster than float
            if method in self._needless():
                continue
            if method not in (*WITHOUT_SAMPLES, *RANGE_METHODS) and not self.best and self.failure:
                break  # int8 as such is not possible, and the remaining methods need it, too
            self._try(method, self._to_follow(method))
            if self.best and (self.best.finding.unverified or self._budget_met()):  # type: ignore[union-attr]
                break
        for method in filter(self._may_try, WITHOUT_SAMPLES):
            if self.best is None:
                if self.record.attempts:
                    self.context.say(f"            no static int8 model can be used: {method}")
                self._try(method, [])
        if self.best is None:
            raise self.failure or self._nothing_usable(methods)
        others = list(filter(self._may_try, WITHOUT_SAMPLES))
        if not (others and (not self.best.within_budget or self._placed_is_not_faster())):
            attempt_times.measure(self)
        if others and (not self.best.within_budget or self._placed_is_not_faster() or self._not_faster()):
            why = "int8 is not faster than float here" if self.best.within_budget else "no static int8 is near enough"
            self.context.say(f"            {why}: {' and '.join(others)}, too")
            for method in others:
                self._try(method, [])
            attempt_times.measure(self)
        self.record.best = self._choose()
        self._confirm()
        self.save()
        return self.record

    def _needless(self) -> tuple[str, ...]:
        """The methods that are left out once an attempt is within the budget: costly ones, and unless all are asked for
        what seldom brings more than a few tenths of a decibel."""
        return self._left_out_in_budget if self.best and self.best.within_budget else ()

    @property
    def _left_out_in_budget(self) -> tuple[str, ...]:
        return COSTLY if self.effort == "thorough" or "gptq" not in self.methods else (*COSTLY, *SELDOM)

    def _to_follow(self, method: str) -> list[str]:
        """The methods after this one, if the budget is kept by then, which it usually is."""
        left_out = self._left_out_in_budget if self.best is None or self.best.within_budget else ()
        later = METHODS[METHODS.index(method) + 1 :]
        left_out = (*left_out, *WITHOUT_SAMPLES)
        return [name for name in later if name in self.methods and name not in left_out and not self.unsupported(name)]

    @property
    def settled(self) -> str:
        """The changed network that did best in an earlier format, as the method that made it; "" if none did."""
        if self.effort == "thorough" or not self.earlier:
            return ""
        tried = [a for a in self.earlier[0].attempts if a.usable and a.method not in (*WITHOUT_SAMPLES, *RANGE_METHODS)]
        best = max(tried, key=lambda attempt: attempt.rank_key, default=None)
        return best.method if best and best.method in ("equalize", "gptq", "equalize-gptq") else ""

    def gained(self, method: str) -> bool:
        """Is an attempt of this method nearer to float than all range methods are?"""
        nearness = {a.method: a.finding.parity.sqnr_db for a in self.record.attempts if a.usable and a.finding.parity}  # type: ignore[union-attr]
        others = [db for name, db in nearness.items() if name in RANGE_METHODS]
        return method in nearness and nearness[method] >= max(others, default=0) + GAIN_DB

    def _try(self, method: str, to_follow: Sequence[str]) -> None:
        self.tried += 1
        place = remaining.place_in_search(self.tried, [method, *to_follow], self.seen)
        self.context.say(f"  method    {method}, for {self.record.name}: {place}")
        with self.timing(method):
            for attempt in self.attempts_of(method):
                self.record.attempts.append(attempt)
                self.context.say(f"            {_outcome(attempt)}")
                self.save()

    @contextmanager
    def timing(self, part: str) -> Iterator[None]:
        """Keep the most time that a part of the search took: it may be reused later."""
        started = time.monotonic()
        yield
        seconds = max(self.record.seconds.get(part, 0.0), time.monotonic() - started)
        self.seen[part] = self.record.seconds[part] = seconds

    def _nothing_usable(self, methods: tuple[str, ...]) -> EdgekitError:
        """The last check that failed, if every artifact that was made failed its own."""
        errors = [a.finding.error() for a in self.record.attempts if a.finding and a.finding.failed]
        return next(filter(None, reversed(errors)), None) or InputError(
            "no method applies to this model", f"methods: {', '.join(methods)}"
        )

    def _may_try(self, method: str) -> bool:
        """Is it asked for, possible, and not tried yet?"""
        tried = any(attempt.method == method for attempt in self.record.attempts)
        return method in self.methods and not tried and not self.unsupported(method)

    def _not_faster(self) -> bool:
        """Is every attempt that was timed hardly faster than float, or slower?"""
        ratios = [attempt.ratio.value for attempt in self.record.attempts if attempt.ratio]
        return bool(ratios) and min(ratios) > WORTH

    def _placed_is_not_faster(self) -> bool:
        """Was the placement, whose kernels all attempts so far have, measured to be hardly faster than float?"""
        if not self.timed or any(a.usable and a.method in WITHOUT_SAMPLES for a in self.record.attempts):
            return False
        return self.placed.ratio is not None and self.placed.ratio.value > WORTH

    @property
    def best(self) -> Attempt | None:
        """The best attempt so far."""
        return max((a for a in self.record.attempts if a.usable), key=lambda a: a.rank_key, default=None)

    def _place(self, methods: tuple[str, ...]) -> None:
        """Choose the operators that compute in float in every static attempt; none if int8 as such is not possible."""
        static = [method for method in methods if method not in WITHOUT_SAMPLES]
        if not static or "weights_only" not in self.int8_fields or self.fields.get("weights_only"):
            return
        method = next(filter(RANGE_METHODS.__contains__, static), RANGE_METHODS[-1])
        try:
            found = placement.place(self, method)
            self.placed = found.chosen
            found = dataclasses.replace(found, tail=tail_placement.place(self, method))
        except EdgekitError as error:  # the attempts meet it, too, and report it
            if error.code not in (1, 2, 3):
                raise
            return
        self.record.placement = found
        self.tail_in_float = found.tail is None or found.tail.in_float
        if found.operators:
            self.context.say(f"  placement {placement.described(found)}")
        if found.tail:
            self.context.say(f"  placement {found.tail.described()}")

    def _choose(self) -> Attempt | None:
        """The best attempt, unless another kind of int8 within the budget is significantly faster."""
        eligible = [a for a in self.record.attempts if a.usable and a.within_budget and a.latency]
        best, *others = sorted(eligible, key=lambda a: a.rank_key, reverse=True) if eligible else [self.best]
        for attempt in others:
            assert best and attempt and best.latency and attempt.latency
            ratio = statistics.latency_ratio(attempt.latency, best.latency, paired=True)
            if ratio.differs and ratio.value < 1:
                best = attempt
        return best

    def _warn_about_calibration(self) -> None:
        step = self.step("calibrate" if "ranges" in self.int8_fields else f"{self.format}_int8")
        if text := step.sets(self.context.task).get("calibration"):
            data = self.context.set(text, self.reference.inputs)
            assert self.context.val is not None
            used = min(dataclasses.asdict(step).get("samples", len(data)), len(data))  # type: ignore[call-overload]
            for warning in calibration_warnings(data, used, self.context.val):
                self.context.note(warning, "warning")

    def unsupported(self, method: str) -> str:
        """Why the method does not apply to this format, "" if it does."""
        dynamic = f"{self.format}_dynamic"
        needed = {"dynamic": dynamic, "weight-only": dynamic, "qat": f"qat_{self.format}"}.get(method)
        if needed and needed not in registry.names("steps"):
            return f"there is no step {needed}"
        if "ranges" in self.int8_fields:
            return ""
        own = f"{self.format}_int8 calibrates by itself"
        if method in RANGE_METHODS and method not in self.int8_step.methods:
            return f"{own}, by {', '.join(self.int8_step.methods)}"
        return f"{own}, and keeps no operators in float" if method == "keep-float" else ""

    def _budget_met(self) -> bool:
        return self.budget and self.best is not None and self.best.state == "met"

    def attempts_of(self, method: str) -> Iterator[Attempt]:
        """The method's attempts; if it fails, the last attempt has the reason."""
        started = time.monotonic()
        try:
            for artifact in self.steps[method](self):
                finding = self.context.check(self.verifier, artifact, "accuracy", self.reference)
                seconds = self.known_seconds.get(artifact.id, time.monotonic() - started)
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
        """The artifact of that name, made or reused."""
        make.check_installed([Node(name, step, {})])
        if "~" in name:
            self.record.made.add(name)
        calibrates = registry.step_name(step) == "calibrate"
        with self.timing(remaining.CALIBRATE) if calibrates else nullcontext():
            return make.make_one(Node(name, step, {}), inputs, self.context)

    def step(self, name: str, **fields: Any) -> Step:
        cls = registry.load("steps", name)
        known = {f.name for f in dataclasses.fields(cls)}
        step: Step = cls(**{k: v for k, v in {**self.fields, **fields}.items() if k in known})
        return step.resolve(self.target)

    def verified(self, artifact: Artifact) -> Artifact:
        """The artifact, its step verified. Raises the failure if its outputs differ from the parent's.

        Only with --thorough: an int8 model that is made from it is compared with the float model in any case.
        """
        if self.effort != "thorough" and artifact.step != "to_torch":
            return artifact
        step = registry.load("steps", artifact.step)
        finding = self.context.check(self.verifier, artifact, step.preserves)
        if finding.failed in ("parity", "runtime") and (error := finding.error()):
            raise error
        return artifact

    @property
    def start(self) -> Artifact:
        """What the int8 step takes: the float model, or the network where it is quantized before it is lowered."""
        return self.taken_by(f"{self.format}_int8")

    def taken_by(self, step: str) -> Artifact:
        lowered = Kind(self.format) not in registry.load("steps", step).accepts
        return self.network() if lowered else self.reference

    def int8(self, model: Artifact, label: str, variant: str = "", **fields: Any) -> Artifact:
        """Static int8 of a float model, from one pass over the calibration samples that all methods share.

        A step that takes no ranges makes a pass of its own.
        """
        if "ranges" not in self.int8_fields:
            step = self.step(f"{self.format}_int8", **fields)
            return self.make(f"{self.plain('int8')}~{label}", step, {"parent": model})
        suffix = f"~{variant}" if variant else ""
        ranges = self.make(self.chained(f"ranges~{self.format}{suffix}"), self.step("calibrate"), {"parent": model})
        if "weights_only" not in self.fields:
            placed = fields.get("weights_only", self.placed.operators(placement.operators(model)))
            tail = self.output_tail(model) if self.tail_in_float else None
            fields["weights_only"] = tuple(dict.fromkeys((*placed, *(tail.operators if tail else ()))))
        step = self.step(f"{self.format}_int8", ranges=ranges.name, calibration="", **fields)
        return self.make(f"{self.plain('int8')}~{label}", step, {"parent": model, "ranges": ranges})

    def output_tail(self, model: Artifact) -> OutputTail | None:
        """Of a float model; of a network that is quantized before lowering, None."""
        if model.id not in self._tails:
            self._tails[model.id] = output_tail.of_model(model)
        return self._tails[model.id]

    def exported(self, network: Artifact, variant: str) -> Artifact:
        """A changed network as the int8 step takes it, exported as the float model was."""
        if Kind(self.format) not in self.int8_step.accepts:
            return network
        exported_here = self.reference.step == f"to_{self.format}"
        fields = self.reference.fields if exported_here else {}
        step = self.step(f"to_{self.format}", **fields)
        return self.verified(self.make(self.chained(f"{self.format}~{variant}"), step, {"parent": network}))

    def network(self) -> Artifact:
        """The torch network behind the float model. Raises CannotConvert if there is none and none can be made."""
        for artifact in self.store.ancestry(self.reference):
            if artifact.kind.format == "torch" and not artifact.kind.traits:
                return artifact
        if Kind(self.format) in registry.load("steps", "to_torch").accepts:
            return self.verified(self.make(self.chained("torch"), self.step("to_torch"), {"parent": self.reference}))
        raise CannotConvert(f"there is no torch network behind {self.reference.name}", "it was imported as a file")

    def range_method(self) -> str:
        """The calibration method that did best so far."""
        attempts = [a for a in self.record.attempts if a.method in RANGE_METHODS and a.usable]
        offered = RANGE_METHODS if "ranges" in self.int8_fields else self.int8_step.methods
        return max(attempts, key=lambda a: a.rank_key).method if attempts else offered[-1]

    def suits_dynamic(self) -> bool:
        """Has it attention without convolutions, or is it, or the network behind it, recurrent?"""
        format = registry.load("formats", self.reference.kind.format)
        facts = format.describe(self.reference.path / self._file(self.reference))
        types = [operator.type for operator in facts.operators]
        attention = any("SOFTMAX" in t.upper() for t in types) and not any("CONV" in t.upper() for t in types)
        if attention or any(word in type for type in types for word in RECURRENT):
            return True
        try:
            network = self.network() if format.lowers_recurrence else None
        except EdgekitError:
            return False
        if network is None:
            return False
        from torch import nn

        return any(isinstance(m, nn.RNNBase | nn.RNNCellBase) for m in networks.load(network.path).modules())

    @staticmethod
    def _file(artifact: Artifact) -> str:
        return str(registry.load("formats", artifact.kind.format).file)

    # --- after the search ---------------------------------------------------------------------------------------

    def _confirm(self) -> None:
        """Copy the best attempt to its plain name, and verify it on the other half; copy the best static one, too."""
        record, best = self.record, self.record.best
        assert best is not None and best.artifact is not None and best.finding is not None
        precision = best.artifact.kind.precision
        record.chosen = self.store.copy(best.artifact, self.plain(precision))
        kept_budget = [a for a in record.attempts if a.usable and a.within_budget and a.artifact]
        static = [a for a in kept_budget if a.artifact and a.artifact.kind.precision == "int8"]
        if static and precision != "int8":
            kept = max(static, key=lambda attempt: attempt.rank_key)
            assert kept.artifact is not None
            self.store.copy(kept.artifact, self.plain("int8"))
            self.context.say(f"  kept      {self.plain('int8')}: {kept.method}, the best static one")
        context = self.outer_context
        confirming = Verifier(self.store, self.here, self.second, context.scorer, context.gates, context.plan)
        if context.verifier is not None:
            confirming.reuse(context.verifier, SECOND_HALF)
        record.confirmed = context.check(confirming, record.chosen, "accuracy", self.reference)
        context.say(f"  chosen    {record.chosen.name}: {best.method}; {make.describe(record.confirmed)}")
        if not best.within_budget and (quick := self._much_faster(best)) is not None:
            lost = "" if quick.finding is None else f"; {make.describe(dataclasses.replace(quick.finding, failed=''))}"
            assert quick.artifact is not None and quick.ratio is not None
            context.say(f"  faster    {quick.artifact.name}: {quick.ratio.value:.2f} times float's p50{lost}")
        if record.slower and best.ratio:
            ratio = f"{best.ratio.value:.2f} times as long as {self.reference.name}"
            context.say(f"            {record.chosen.name} takes {ratio} here: not recommended for speed")
        context.outcome.reused += self.context.outcome.reused
        context.outcome.notes += [n for n in self.context.outcome.notes if n not in context.outcome.notes]

    def _much_faster(self, best: Attempt) -> Attempt | None:
        """The fastest attempt above the floor, if it is faster than the best one beyond doubt."""
        above = [a for a in self.record.attempts if a.usable and a.finding and a.finding.failed != "floor"]
        timed = [a for a in above if a.latency and a.ratio]
        fastest = min(timed, key=lambda a: a.latency.p50, default=None)  # type: ignore[union-attr]
        if fastest is None or best.latency is None or fastest.latency is None:
            return None
        ratio = statistics.latency_ratio(fastest.latency, best.latency, paired=True)
        return fastest if ratio.differs and ratio.value < WORTH else None

    def error(self) -> EdgekitError | None:
        """The failure, if the budget was missed on either half."""
        best, confirmed, chosen = self.record.best, self.record.confirmed, self.record.chosen
        assert best is not None and best.finding is not None and confirmed is not None and chosen is not None
        if best.finding.failed == "floor":
            what = f"no method keeps {self.record.name} near enough to {self.reference.name}"
            next = "use the float model or --fp16; the best attempt is kept. Are the calibration samples typical?"
            return BudgetMissed(what, f"the best: {best.finding.reason}", next)
        if not confirmed.failed and best.finding.failed == "budget":
            what = f"no method keeps {self.record.name} within the budget"
            next = "the best attempt is kept; allow more with --max-drop, or use the float model"
            return BudgetMissed(what, f"the best: {best.finding.reason}", next)
        before, after = self.reference.sizes.total, chosen.sizes.total
        if not confirmed.failed and self.record.grown:
            why = f"{after:,} bytes, and {self.reference.name} has {before:,}: its graph is larger than its weights"
            return BudgetMissed(f"{chosen.name} is larger than the float model", why, "use the float model")
        return confirmed.error()

    def save(self) -> None:
        """Write the record so far: a later run reads what each attempt cost, and which artifacts are attempts."""
        records = read_attempts(self.store)
        records[self.record.name] = self.record.to_json()
        written.write(self.store.path, METHODS_FILE, json.dumps(names_only(records), indent=1) + "\n")


def calibration_warnings(calibration: SampleSet, used: int, validation: SampleSet) -> Iterator[str]:
    """Warnings about samples that may give wrong ranges: too few, or distributed unlike those of validation."""
    if used < FEW_SAMPLES:
        yield f"only {used} calibration samples: reliable ranges take {FEW_SAMPLES} or more"
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
            yield f"calibration samples of {name!r} are distributed unlike those of validation: {shown}"


def _outcome(attempt: Attempt) -> str:
    if attempt.finding is None:
        return f"not possible: {attempt.failed}"
    return make.describe(dataclasses.replace(attempt.finding, failed=""))
