"""What may be tried: dimensions with a few choices each, and the chain of steps that a point of them stands for.

Every dimension is discrete, so that trials share what they have in common (one training serves many exports) and no
point is tried twice.
"""

from __future__ import annotations

import dataclasses
import inspect
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.core import errors, registry
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.errors import InputError
from edgekit.core.registry import step_name
from edgekit.core.step import Step
from edgekit.core.target import Target
from edgekit.core.task import Task
from edgekit.measure import targets
from edgekit.runs.attempts import TRY
from edgekit.runs.store import tools
from edgekit.workflows.quantize.attempts import RANGE_METHODS

Value = str | int | float

Point = Mapping[str, Value]

#: dimension → what it means; the order is that of every table
MEANINGS: Mapping[str, str] = {
    "model": "the task's networks",
    "width": "the network's channels, times its own",
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "dropout": "dropout before the last layer",
    "ratio": "share of the channels that is pruned",
    "precision": "float, fp16, dynamic, int8",
    "rung": "how int8 is found",
    "runtime": "what executes it",
    "threads": "threads it may use",
    "batch": "samples per inference",
}

#: those that need a training
TRAINED = ("model", "width", "lr", "weight_decay", "dropout", "ratio")

PRECISIONS = ("float", "fp16", "dynamic", "int8")

#: rungs that change the torch network first
NETWORK_RUNGS = ("equalize", "gptq", "qat")

#: what is tried unless told otherwise, the default first
WIDTHS, LRS, DECAYS, DROPOUTS, RATIOS = (
    (1.0, 0.5, 0.75),
    (0.003, 0.001, 0.006),
    (0.01, 0.0, 0.1),
    (0.0, 0.2),
    (0.0, 0.3),
)

WHOLE = ("threads", "batch")

#: enumerated whole up to this many points
ENUMERABLE = 100_000


@dataclass(frozen=True)
class Dimension:
    """A name and its choices, in order; `default` is where the search starts from."""

    name: str
    choices: tuple[Value, ...]
    default: Value


@dataclass(frozen=True)
class Space:
    """The dimensions, and what turns a point into steps: a task to train on (`start` None), or an artifact.

    `fields` go to every step that has them (calibration); `training` to the train step (epochs, samples, seed).
    """

    dimensions: tuple[Dimension, ...]
    target: Target
    task: Task | None
    start: Artifact | None = None
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    training: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def dimension(self, name: str) -> Dimension:
        return next(d for d in self.dimensions if d.name == name)

    def point(self, **values: Value) -> Point:
        """A canonical point: the defaults, but for `values`."""
        return self.canonical({d.name: values.get(d.name, d.default) for d in self.dimensions})

    def canonical(self, values: Point) -> Point:
        """What does not matter is set to one value: two points that would make the same are the same."""
        point = dict(values)
        if point["precision"] != "int8":
            point["rung"] = ""
        if "model" in point:
            takes = _arguments(str(point["model"]))
            point["width"] = point["width"] if "width" in takes else 1.0
            point["dropout"] = point["dropout"] if "dropout" in takes else 0.0
        return point

    @property
    def size(self) -> int:
        """How many combinations of choices there are; several may mean the same point."""
        return math.prod(len(d.choices) for d in self.dimensions)

    def points(self) -> list[Point]:
        """Every different point. Raises ValueError where there are too many."""
        if self.size > ENUMERABLE:
            raise ValueError(f"{self.size} points")
        names = [d.name for d in self.dimensions]
        found: dict[tuple[Value, ...], Point] = {}
        for values in itertools.product(*(d.choices for d in self.dimensions)):
            point = self.canonical(dict(zip(names, values, strict=True)))
            found.setdefault(key(point), point)
        return list(found.values())

    def starts(self) -> list[Point]:
        """Where the search begins: what anyone would try, plain float and plain int8 in each runtime."""
        known = self.dimension("precision").choices
        precisions: list[Value] = [p for p in known if p in ("float", "int8")] or [self.dimension("precision").default]
        found = {
            key(point): point
            for runtime in self.dimension("runtime").choices
            for precision in precisions
            for point in [self.point(runtime=runtime, precision=precision)]
        }
        return list(found.values())

    # --- a point as steps ---------------------------------------------------------------------------------------

    def steps(self, point: Point) -> tuple[Step, ...]:
        """The chain from the start, or from nothing, each step resolved for the target. Raises InputError."""
        names = list(self._trained(point))
        format, precision, rung = format_of(str(point["runtime"])), point["precision"], str(point["rung"])
        kind = self.start.kind.format if self.start else "torch"
        if precision == "int8" and rung in NETWORK_RUNGS:
            names.append(self._step(rung))
        if precision == "int8" and rung == "qat":
            names.append(self._step(f"qat_{format}"))
        else:
            names += [self._step(name) for name in route(kind, format)]
            if precision == "int8":
                method = rung if rung in RANGE_METHODS else "mse"
                names.append(self._step(f"{format}_int8", method=method))
            elif precision != "float":
                names.append(self._step(f"{format}_{precision}"))
        return tuple(step.resolve(self.target) for step in names)

    def _trained(self, point: Point) -> Iterator[Step]:
        if self.start is not None:
            return
        yield self.train(point)
        if point["ratio"]:
            yield self._step("prune", ratio=point["ratio"])

    def train(self, point: Point, **changes: Any) -> Step:
        """The training of a point's network; `changes` make it a shorter one."""
        width = own_width(str(point["model"])) * float(point["width"]) if point["width"] != 1.0 else 0.0
        fields = {name: point[name] for name in ("model", "lr", "weight_decay", "dropout")}
        step: Step = registry.load("steps", "train")(**{**fields, "width": width, **self.training, **changes})
        return step

    def _step(self, name: str, **fields: Any) -> Step:
        cls = registry.load("steps", name)
        known = {f.name for f in dataclasses.fields(cls)}
        if "seed" in known and "seed" in self.training:
            fields.setdefault("seed", self.training["seed"])
        step: Step = cls(**{k: v for k, v in {**self.fields, **fields}.items() if k in known})
        return step

    def names(self, point: Point, steps: Sequence[Step]) -> list[str]:
        """What the artifacts along the chain are called: alike where they are the same."""
        rung = str(point["rung"])
        found = []
        for step in steps:
            stem, name = step.produces.stem, step_name(step)
            chain = self._chain({**point, "ratio": self.dimension("ratio").default} if name == "train" else point)
            exported = name.startswith("to_") and rung in NETWORK_RUNGS
            if name in NETWORK_RUNGS:
                stem += f"~{name}"
            elif rung and (step.produces.precision or exported):
                stem += f"~{rung}"
            found.append(f"{chain}.{stem}")
        return found

    def _chain(self, point: Point) -> str:
        """ "try", and every choice of the network that is not the default."""
        parts = [TRY, *([self.start.chain] if self.start and self.start.chain else [])]
        for name in TRAINED:
            if name in point and point[name] != self.dimension(name).default:
                parts.append(f"{_SHORT[name]}{point[name]}")
        return "-".join(parts).translate(_PLAIN)


#: dimension → how it is written in a chain's name
_SHORT = {"model": "", "width": "w", "lr": "lr", "weight_decay": "wd", "dropout": "d", "ratio": "p"}

_PLAIN = str.maketrans("./@~\\:", "______")


def key(point: Point) -> tuple[Value, ...]:
    """What two equal points share."""
    return tuple(point[name] for name in MEANINGS if name in point)


def describe(point: Point, space: Space) -> str:
    """What is not settled by the space, in words."""
    free = [d.name for d in space.dimensions if len(d.choices) > 1]
    return ", ".join(_said(name, point[name]) for name in free if point[name] != "")


def _said(name: str, value: Value) -> str:
    if name in ("model", "precision", "rung", "runtime"):
        return str(value)
    return f"{name.replace('_', ' ')} {value}"


def format_of(runtime: str) -> str:
    """The format that is made for a runtime: the first of those it takes that something exports to."""
    return next(iter(targets.exported_formats(runtime)), "")


def route(source: str, format: str) -> list[str]:
    """The exporting steps from one format to another; a foreign ONNX file goes through torch where it must."""
    if source == format:
        return []
    exporter = f"to_{format}"
    direct, through = (Kind(source) in registry.load("steps", name).accepts for name in (exporter, "to_torch"))
    return [exporter] if direct or not through else ["to_torch", exporter]


def own_width(model: str) -> float:
    """The width multiplier that a network has of its own."""
    default = inspect.signature(registry.load("models", model)).parameters["width"].default
    return 1.0 if default is inspect.Parameter.empty else float(default)


def _arguments(model: str) -> Mapping[str, Any]:
    return inspect.signature(registry.load("models", model)).parameters


def build(
    target: Target,
    task: Task | None,
    start: Artifact | None,
    chosen: Mapping[str, Sequence[str]],
    fields: Mapping[str, Any],
    training: Mapping[str, Any],
    calibrated: bool,
) -> Space:
    """The space for this task or artifact on this target, `chosen` in place of the usual choices.

    `calibrated`: are there samples that int8 can be calibrated with? Raises InputError for what cannot be tried.
    """
    usual = dict(_usual(target, task if start is None else None, start, calibrated))
    dimensions = []
    for name in chosen:
        if name not in usual:
            raise InputError(f"{name!r} cannot be varied here", _why_not(name, start), f"known: {', '.join(usual)}")
    for name, choices in usual.items():
        taken = _parsed(name, chosen[name], choices) if name in chosen else choices
        default = choices[0] if choices[0] in taken else taken[0]
        dimensions.append(Dimension(name, taken, default))
    return Space(tuple(dimensions), target, task, start, fields, training)


def _why_not(name: str, start: Artifact | None) -> str:
    if start is not None and name in TRAINED:
        return "an artifact is not trained again: name a task to vary its network"
    if name == "ratio":
        return "there is no prune step"
    return errors.suggest(name, tuple(MEANINGS)) or "there is nothing to choose"


def _usual(
    target: Target, task: Task | None, start: Artifact | None, calibrated: bool
) -> Iterator[tuple[str, tuple[Value, ...]]]:
    if task is not None:
        if not task.models:
            raise InputError(f"{task.name} brings no network of its own", next="name them: --try model=net.py:Net")
        yield "model", tuple(task.models[:2])
        yield "width", WIDTHS
        yield "lr", LRS
        yield "weight_decay", DECAYS
        yield "dropout", DROPOUTS
        yield "ratio", RATIOS if "prune" in registry.names("steps") else (0.0,)
    yield "precision", PRECISIONS if calibrated else PRECISIONS[:-1]
    trainable = task is not None or (start is not None and start.kind.format == "torch")
    yield "rung", (*RANGE_METHODS, *(NETWORK_RUNGS[:2] if trainable else ())) if calibrated else ("",)
    yield "runtime", _runtimes(target, start)
    cores = max(1, target.cores)
    yield "threads", tuple(dict.fromkeys((1, *(n for n in (2, 4) if n <= cores))))
    yield "batch", (1,)


def _runtimes(target: Target, start: Artifact | None) -> tuple[str, ...]:
    """The target's runtimes that something installed exports to from here. Raises InputError where there is none."""
    found = []
    for runtime in target.runtimes:
        format = format_of(runtime)
        if not format:
            continue
        try:
            steps = route(start.kind.format if start else "torch", format)
        except InputError:
            continue
        kinds_fit = (
            not steps or Kind(start.kind.format if start else "torch") in registry.load("steps", steps[0]).accepts
        )
        if kinds_fit and all(all(tools(registry.load("steps", name)()).values()) for name in steps):
            found.append(runtime)
    if not found:
        what = f"nothing can be made that {target.name} runs"
        raise InputError(what, f"its runtimes: {', '.join(target.runtimes)}", "edgekit doctor says what is missing")
    return tuple(found)


def _parsed(name: str, words: Sequence[str], usual: tuple[Value, ...]) -> tuple[Value, ...]:
    """The choices that were typed. Raises InputError for one that is none."""
    kind = type(usual[0])
    found: list[Value] = []
    for word in words:
        try:
            value: Value = kind(word)
        except ValueError as error:
            raise InputError(f"--try {name}={word}", f"{word!r} is not a number") from error
        if isinstance(value, float) and (not math.isfinite(value) or value < 0):
            raise InputError(f"--try {name}={word}", "it must be a number of 0 or more")
        if name in WHOLE and int(value) < 1:
            raise InputError(f"--try {name}={word}", "it must be at least 1")
        if name in ("precision", "runtime") and value not in usual:
            raise InputError(f"--try {name}={word}", "it cannot be had here", f"known: {', '.join(map(str, usual))}")
        known = (*RANGE_METHODS, *NETWORK_RUNGS)
        if name == "rung" and value not in known:
            raise InputError(f"--try {name}={word}", "there is no such rung", errors.suggest(word, known))
        found.append(value)
    return tuple(dict.fromkeys(found))
