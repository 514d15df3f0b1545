"""The search space: dimensions with a few choices each, and the chain of steps that a point stands for.

Every dimension is discrete, so that trials share their common steps (one training serves many exports) and no point is
tried twice.
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

#: dimension → its meaning; every table has this order
MEANINGS: Mapping[str, str] = {
    "model": "the task's networks",
    "width": "multiplier of the network's channels",
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "dropout": "dropout before the last layer",
    "ratio": "share of channels pruned",
    "precision": "float, fp16, dynamic, int8",
    "method": "quantization method for int8",
    "runtime": "runtime that executes the model",
    "threads": "threads per inference",
    "batch": "samples per inference",
}

#: dimensions that need training
TRAINED = ("model", "width", "lr", "weight_decay", "dropout", "ratio")

PRECISIONS = ("float", "fp16", "dynamic", "int8")

#: methods that change the torch network first
NETWORK_METHODS = ("equalize", "gptq", "qat")

#: choices without --try, the default first
WIDTHS, LRS, DECAYS, DROPOUTS, RATIOS = (
    (1.0, 0.5, 0.75),
    (0.003, 0.001, 0.006),
    (0.01, 0.0, 0.1),
    (0.0, 0.2),
    (0.0, 0.3),
)

#: dimensions whose values are positive integers
INTEGERS = ("threads", "batch")

#: spaces of up to this many points are enumerated
ENUMERABLE = 100_000


@dataclass(frozen=True)
class Dimension:
    """A name and its choices, in order; `default` is the choice that the search starts from."""

    name: str
    choices: tuple[Value, ...]
    default: Value


@dataclass(frozen=True)
class Space:
    """The dimensions, and the start of every chain of steps: a task to train on (`start` None), or an artifact.

    `fields` are set on every step that has them (calibration), `training` on the train step (epochs, samples, seed).
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
        """A canonical point: the defaults, overridden by `values`."""
        return self.canonical({d.name: values.get(d.name, d.default) for d in self.dimensions})

    def canonical(self, values: Point) -> Point:
        """Set dimensions without an effect to one value, so that points with the same artifact are equal."""
        point = dict(values)
        if point["precision"] != "int8":
            point["method"] = ""
        if "model" in point:
            arguments = _arguments(str(point["model"]))
            point["width"] = point["width"] if "width" in arguments else 1.0
            point["dropout"] = point["dropout"] if "dropout" in arguments else 0.0
        return point

    @property
    def size(self) -> int:
        """The number of combinations of choices; several may be the same point."""
        return math.prod(len(d.choices) for d in self.dimensions)

    def points(self) -> list[Point]:
        """Every distinct point. Raises ValueError if there are too many."""
        if self.size > ENUMERABLE:
            raise ValueError(f"{self.size} points")
        names = [d.name for d in self.dimensions]
        points: dict[tuple[Value, ...], Point] = {}
        for values in itertools.product(*(d.choices for d in self.dimensions)):
            point = self.canonical(dict(zip(names, values, strict=True)))
            points.setdefault(key(point), point)
        return list(points.values())

    def starts(self) -> list[Point]:
        """The points that the search starts with: the default network in float and in int8, in each runtime.

        Those that only measure the given artifact come first: they wait for no conversion or training.
        """
        known = self.dimension("precision").choices
        precisions: list[Value] = [p for p in known if p in ("float", "int8")] or [self.dimension("precision").default]
        points = {
            key(point): point
            for runtime in self.dimension("runtime").choices
            for precision in precisions
            for point in [self.point(runtime=runtime, precision=precision)]
        }
        return sorted(points.values(), key=lambda point: not self._only_measures(point))

    def _only_measures(self, point: Point) -> bool:
        kind = self.start.kind.format if self.start else ""
        return format_of(str(point["runtime"])) == kind and point["precision"] == "float"

    # --- a point as steps ---------------------------------------------------------------------------------------

    def steps(self, point: Point) -> tuple[Step, ...]:
        """The chain of steps from the start, each resolved for the target. Raises InputError."""
        names = list(self._trained(point))
        format, precision, method = format_of(str(point["runtime"])), point["precision"], str(point["method"])
        kind = self.start.kind.format if self.start else "torch"
        if precision == "int8" and method in NETWORK_METHODS:
            names.append(self._step(method))
        if precision == "int8" and method == "qat":
            names.append(self._step(f"qat_{format}"))
        else:
            names += [self._step(name) for name in route(kind, format)]
            if precision == "int8":
                ranges = method if method in RANGE_METHODS else "mse"
                names.append(self._step(f"{format}_int8", method=ranges))
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
        """The train step of a point; `changes` override its fields."""
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
        """The names of the artifacts along the chain; points that share an artifact share its name."""
        method = str(point["method"])
        names = []
        for step in steps:
            stem, name = step.produces.stem, step_name(step)
            chain = self._chain({**point, "ratio": self.dimension("ratio").default} if name == "train" else point)
            exported = name.startswith("to_") and method in NETWORK_METHODS
            if name in NETWORK_METHODS:
                stem += f"~{name}"
            elif method and (step.produces.precision or exported):
                stem += f"~{method}"
            names.append(f"{chain}.{stem}")
        return names

    def _chain(self, point: Point) -> str:
        """ "try", and every choice of the network that differs from the default."""
        parts = [TRY, *([self.start.chain] if self.start and self.start.chain else [])]
        for name in TRAINED:
            if name in point and point[name] != self.dimension(name).default:
                parts.append(f"{_SHORT[name]}{point[name]}")
        return "-".join(parts).translate(_PLAIN)


#: dimension → its abbreviation in a chain's name
_SHORT = {"model": "", "width": "w", "lr": "lr", "weight_decay": "wd", "dropout": "d", "ratio": "p"}

_PLAIN = str.maketrans("./@~\\:", "______")


def key(point: Point) -> tuple[Value, ...]:
    """The values of a point, hashable; equal points have equal keys."""
    return tuple(point[name] for name in MEANINGS if name in point)


def describe(point: Point, space: Space) -> str:
    """The values of the dimensions that have several choices, in words."""
    free = [d.name for d in space.dimensions if len(d.choices) > 1]
    return ", ".join(_label(name, point[name]) for name in free if point[name] != "")


def _label(name: str, value: Value) -> str:
    if name in ("model", "precision", "method", "runtime"):
        return str(value)
    return f"{name.replace('_', ' ')} {value}"


def format_of(runtime: str) -> str:
    """The format that is made for a runtime: the first of those it takes that something exports to."""
    return next(iter(targets.exported_formats(runtime)), "")


def route(source: str, format: str) -> list[str]:
    """The export steps from one format to another; a foreign ONNX file is converted to torch first if necessary."""
    if source == format:
        return []
    exporter = f"to_{format}"
    direct, through = (Kind(source) in registry.load("steps", name).accepts for name in (exporter, "to_torch"))
    return [exporter] if direct or not through else ["to_torch", exporter]


def own_width(model: str) -> float:
    """The default width multiplier of a network."""
    default = inspect.signature(registry.load("models", model)).parameters["width"].default
    return 1.0 if default is inspect.Parameter.empty else float(default)


def _arguments(model: str) -> Mapping[str, Any]:
    return inspect.signature(registry.load("models", model)).parameters


def build(
    target: Target,
    task: Task | None,
    start: Artifact | None,
    choices: Mapping[str, Sequence[str]],
    fields: Mapping[str, Any],
    training: Mapping[str, Any],
    calibrated: bool,
) -> Space:
    """The space for this task or artifact on this target; `choices` replace the default choices of their dimensions.

    `calibrated`: are there calibration samples for int8? Raises InputError for dimensions or values that do not exist.
    """
    defaults = dict(_default_choices(target, task if start is None else None, start, calibrated))
    dimensions = []
    for name in choices:
        if name not in defaults:
            raise InputError(f"{name!r} cannot be varied here", _why_not(name, start), f"known: {', '.join(defaults)}")
    for name, usual in defaults.items():
        values = _parse_choices(name, choices[name], usual) if name in choices else usual
        default = usual[0] if usual[0] in values else values[0]
        dimensions.append(Dimension(name, values, default))
    return Space(tuple(dimensions), target, task, start, fields, training)


def _why_not(name: str, start: Artifact | None) -> str:
    if start is not None and name in TRAINED:
        return "an artifact is not trained again: name a task to vary its network"
    if name == "ratio":
        return "the prune step is not installed"
    return errors.suggest(name, tuple(MEANINGS)) or "it is no dimension of this search"


def _default_choices(
    target: Target, task: Task | None, start: Artifact | None, calibrated: bool
) -> Iterator[tuple[str, tuple[Value, ...]]]:
    if task is not None:
        if not task.models:
            raise InputError(f"the task {task.name} has no networks", next="name them: --try model=net.py:Net")
        yield "model", tuple(task.models[:2])
        yield "width", WIDTHS
        yield "lr", LRS
        yield "weight_decay", DECAYS
        yield "dropout", DROPOUTS
        yield "ratio", RATIOS if "prune" in registry.names("steps") else (0.0,)
    yield "precision", PRECISIONS if calibrated else PRECISIONS[:-1]
    trainable = task is not None or (start is not None and start.kind.format == "torch")
    yield "method", (*RANGE_METHODS, *(NETWORK_METHODS[:2] if trainable else ())) if calibrated else ("",)
    yield "runtime", _runtimes(target, start)
    cores = max(1, target.cores)
    yield "threads", tuple(dict.fromkeys((1, *(n for n in (2, 4) if n <= cores))))
    yield "batch", (1,)


def _runtimes(target: Target, start: Artifact | None) -> tuple[str, ...]:
    """The target's runtimes whose format an installed exporter makes from the start. Raises InputError if none is."""
    runtimes = []
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
            runtimes.append(runtime)
    if not runtimes:
        what = f"no installed exporter makes a format that {target.name} runs"
        why = f"its runtimes: {', '.join(target.runtimes)}"
        raise InputError(what, why, "run edgekit doctor to see what is missing")
    return tuple(runtimes)


def _parse_choices(name: str, words: Sequence[str], usual: tuple[Value, ...]) -> tuple[Value, ...]:
    """The choices of --try, converted to the dimension's type. Raises InputError for an invalid value."""
    kind = type(usual[0])
    values: list[Value] = []
    for word in words:
        try:
            value: Value = kind(word)
        except ValueError as error:
            raise InputError(f"--try {name}={word}", f"{word!r} is not a number") from error
        if isinstance(value, float) and (not math.isfinite(value) or value < 0):
            raise InputError(f"--try {name}={word}", "it must be a number of 0 or more")
        if name in INTEGERS and int(value) < 1:
            raise InputError(f"--try {name}={word}", "it must be at least 1")
        if name in ("precision", "runtime") and value not in usual:
            raise InputError(f"--try {name}={word}", "it is not available here", f"known: {', '.join(map(str, usual))}")
        known = (*RANGE_METHODS, *NETWORK_METHODS)
        if name == "method" and value not in known:
            raise InputError(f"--try {name}={word}", "there is no such method", errors.suggest(word, known))
        values.append(value)
    return tuple(dict.fromkeys(values))
