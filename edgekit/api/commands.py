"""The commands as functions: they take what people hold in Python, and return objects."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from edgekit import tasks
from edgekit.api.data import as_set, slug
from edgekit.api.models import Model, run_of, stacked, word
from edgekit.api.reporting import Shown, in_python, translate
from edgekit.api.results import Results
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError
from edgekit.core.measurement import Measurement
from edgekit.core.target import PRESETS, Plan
from edgekit.core.user_code import typed
from edgekit.measure import targets
from edgekit.measure.context import Outcome
from edgekit.measure.execute import execute
from edgekit.measure.verify import Finding
from edgekit.runs import references
from edgekit.runs.references import RUNS
from edgekit.sets import reading
from edgekit.workflows import bench as bench_workflow
from edgekit.workflows import compare as compare_workflow
from edgekit.workflows import deploy as deploy_workflow
from edgekit.workflows import doctor as doctor_workflow
from edgekit.workflows import export as export_workflow
from edgekit.workflows import import_
from edgekit.workflows import optimize as optimize_workflow
from edgekit.workflows import predict as predict_workflow
from edgekit.workflows import prune as prune_workflow
from edgekit.workflows import quantize as quantize_workflow
from edgekit.workflows import train as train_workflow
from edgekit.workflows import verify as verify_workflow
from edgekit.workflows.deploy import Deployment
from edgekit.workflows.inspect import model as inspect_workflow
from edgekit.workflows.optimize.study import Trial
from edgekit.workflows.optimize.trial import Budget
from edgekit.workflows.quantize.method_search import Effort
from edgekit.workflows.routes import format_of
from edgekit.workflows.setup import is_task

P = ParamSpec("P")
R = TypeVar("R")

Precision = Literal["int8", "fp16", "dynamic"]
#: input name → its sizes, batch included; or the sizes of the only input
Shape = Mapping[str, Sequence[int]] | Sequence[int]

#: where what is in memory is trained, without `out`
TABLE = RUNS / "data"


def _public(function: Callable[P, R]) -> Callable[P, R]:
    """A function of the API: whoever calls it named the code in its arguments, and errors speak of parameters."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        typed([value for value in (*args, *kwargs.values()) if isinstance(value, str)])
        with in_python():
            return function(*args, **kwargs)

    return call


@_public
def load(model: str | Path | Model | None = None) -> Model:
    """A stored model: `runs/mnist/onnx`, or a run folder's first float model; None: of the newest run.

    Raises InputError if there is none, or its files were changed.
    """
    return Model(references.load(word(model)))


@_public
def train(
    data: Any = "mnist",
    *,
    model: str = "",
    label: str = "",
    out: str | Path | None = None,
    epochs: int = 10,
    teacher: str | Path | Model | None = None,
    init: str | Path | Model | None = None,
    resume: bool | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> Model:
    """Train a network.

    `data`: a task (`"mnist"`, `"cars.py:Cars"`), a path (`"houses.csv"`, a folder of images), a DataFrame with a column
    `label`, or (inputs, labels). `model`: one of the task's networks, or `"net.py:Net"`; tables train `mlp`. `out`: the
    run folder. `teacher`: a torch model to distil from, `init`: one to start from. `resume`: True requires an
    interrupted training with the same settings, False starts again. `settings`: the other fields of
    `edgekit.training.settings.Settings`, such as lr, batch, seed, patience, optimizer. `progress`: None shows it in
    terminals and notebooks. Raises InputError, Missing, Diverged.

    >>> model = edgekit.train("houses.csv", label="price", epochs=40)  # doctest: +SKIP
    """

    run = Path(out) if out is not None else TABLE
    task = as_set(data, run, label=label)
    if out is None and isinstance(data, str | Path):
        run = RUNS / tasks.stem(task)
    shown = Shown(progress)
    start = word(init) or ""
    outcome = train_workflow.train(
        task,
        model=model,
        out=run,
        teacher=word(teacher) or "",
        resume=resume,
        progress=shown.progress,
        say=shown.say,
        **{**settings, "epochs": epochs, **({"init": start} if start else {})},
    )
    return _only(outcome)


@_public
def import_model(
    source: Any,
    *,
    example: Any = None,
    signature: str | Path = "",
    classes: str | Path = "",
    weights: str | Path = "",
    model: str = "",
    task: str = "",
    shape: Shape | None = None,
    out: str | Path | None = None,
    progress: bool | None = None,
) -> Model:
    """Import a model from elsewhere into a run folder.

    `source`: a file (.onnx, .tflite, .xml, .pt2, .keras), code (`"net.py:make"`), a file with weights and the `model`
    that they belong to, or a torch module with `example`: a sample with its batch axis, or a tuple of them for several
    inputs. `signature`: what its inputs are made from and what its outputs mean, a signature file or a
    preprocessor_config.json. `classes`: where its class names are. Raises InputError, Missing, CannotConvert.

    >>> model = edgekit.import_model(network, example=torch.zeros(1, 3, 224, 224))  # doctest: +SKIP
    """

    shown = Shown(progress)
    folder = None if out is None else Path(out)
    if folder is None and hasattr(source, "state_dict"):
        folder = RUNS / slug(type(source).__name__)
    outcome = import_.import_model(
        word(source, example, folder) or "",
        weights=str(weights),
        model=model,
        task=task,
        signature=str(signature),
        classes=str(classes),
        shapes=_shapes(shape),
        out=folder,
        progress=shown.progress,
        say=shown.say,
    )
    return _only(outcome)


@overload
def export(model: Any, to: str = ..., **options: Any) -> Model: ...
@overload
def export(model: Any, to: Sequence[str], **options: Any) -> list[Model]: ...


@_public
def export(
    model: Any = None,
    to: str | Sequence[str] = "onnx",
    *,
    example: Any = None,
    shape: Shape | None = None,
    out: str | Path | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Model | list[Model]:
    """Export a float model to a format, or a list of them, and compare its outputs with the original's.

    `model`: a Model, a path, a model file, or a torch module with `example`. `options`: opset, dynamic, batch, layout,
    embed_preprocessing, fold_padding. Raises ParityFailed if the outputs differ, CannotConvert, InputError, Missing.

    >>> onnx, tflite = edgekit.export("runs/mnist", ["onnx", "tflite"])  # doctest: +SKIP
    """

    shown, folder = Shown(progress), run_of(model, out)
    formats = [to] if isinstance(to, str) else list(to)
    outcome = export_workflow.export(
        word(model, example, folder),
        to=formats,
        out=folder,
        shapes=_shapes(shape),
        options=options,
        progress=shown.progress,
        say=shown.say,
    )
    _raise(outcome)
    made = [Model(next(a for a in reversed(outcome.artifacts) if a.kind.format == format)) for format in formats]
    return made[0] if isinstance(to, str) else made


@overload
def quantize(model: Any = ..., precision: Precision = ..., *, to: str | None = ..., **options: Any) -> Model: ...
@overload
def quantize(model: Any = ..., precision: Precision = ..., *, to: Sequence[str], **options: Any) -> list[Model]: ...


@_public
def quantize(
    model: Any = None,
    precision: Precision = "int8",
    *,
    to: str | Sequence[str] | None = None,
    calibration: Any = None,
    val: Any = None,
    max_drop: float | None = None,
    methods: Sequence[str] = (),
    effort: Effort = "normal",
    strict: bool = False,
    target: str = "host",
    example: Any = None,
    shape: Shape | None = None,
    out: str | Path | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Model | list[Model]:
    """Quantize a model within an accuracy budget, verified on real samples in the runtime that will run it.

    `to`: a format, or a list of them; None: the model's own, ONNX for a torch model. `calibration`: typical inputs
    (arrays, a DataFrame, a DataLoader, a path; default: training data). `val`: samples with labels, such as (x, y);
    default: the task's validation split. `max_drop`: the budget in percentage points (default 0.5). `methods`: only
    these. `effort`: "fast" tries one good method, "thorough" all. `strict`: an undecided budget fails, too. `options`:
    input_type, output_type, layout, fold_padding.

    Raises BudgetMissed if no method keeps the budget; the best attempt is kept, as the error's `models`. Raises
    InputError if calibration samples are missing, CannotConvert, Missing.

    >>> small = edgekit.quantize(model, calibration=x[:200], val=(x, y), max_drop=0.5)  # doctest: +SKIP
    """

    shown, folder = Shown(progress), run_of(model, out)
    name = word(model, example, folder)
    reference = references.resolve(name, folder)
    source = format_of(reference)
    if to is None:
        to = "onnx" if source == "torch" else source
    inputs = () if reference.foreign else tuple(spec.name for spec in reference.artifact().inputs)
    outcome = quantize_workflow.quantize(
        name,
        precision=precision,
        to=[to] if isinstance(to, str) else list(to),
        calibration=as_set(calibration, folder, inputs=inputs),
        val=as_set(val, folder, inputs=inputs),
        max_drop_pp=max_drop,
        methods=tuple(methods),
        effort=effort,
        strict=strict,
        target=target,
        out=folder,
        shapes=_shapes(shape),
        options=options,
        progress=shown.progress,
        say=shown.say,
    )
    _raise(outcome)
    if outcome.searches:
        made = [Model(search.chosen) for search in outcome.searches if search.chosen]
    else:
        made = [Model(artifact) for artifact in outcome.artifacts if artifact.kind.precision]
    return made[0] if isinstance(to, str) else made


@_public
def prune(
    model: Any = None,
    *,
    ratio: float | None = None,
    macs: float | None = None,
    parameters: float | None = None,
    speedup: float | None = None,
    max_drop: float | None = None,
    val: Any = None,
    teacher: str | Path | Model | None = None,
    target: str = "host",
    strict: bool = False,
    name: str = "",
    out: str | Path | None = None,
    progress: bool | None = None,
    **fields: Any,
) -> Model:
    """Remove channels and heads of a torch model, then fine-tune what is left.

    One goal: `ratio`, the share of the channels to remove; `macs` or `parameters`, the share to keep at most;
    `speedup`, measured on the target. `max_drop`: the budget in percentage points (default 0.5). `fields`: the other
    fields of the prune step, such as importance, epochs, round_to. Raises BudgetMissed, with the model as the error's
    `models`; CannotConvert if the goal cannot be reached, InputError, Missing.
    """

    shown, folder = Shown(progress), run_of(model, out)
    goal = {"ratio": ratio, "macs": macs, "parameters": parameters, "speedup": speedup}
    outcome = prune_workflow.prune(
        word(model),
        name=name,
        target=target,
        val=as_set(val, folder),
        teacher=word(teacher) or "",
        max_drop_pp=max_drop,
        strict=strict,
        out=folder,
        progress=shown.progress,
        say=shown.say,
        **{**{key: value for key, value in goal.items() if value is not None}, **fields},
    )
    return _only(outcome)


@_public
def verify(
    model: Any = None,
    *,
    against: str | Path | Model = "",
    val: Any = None,
    target: str = "host",
    layers: bool = False,
    shape: Shape | None = None,
    progress: bool | None = None,
) -> list[Finding]:
    """Check a model's conversion, or that of every model of a run, on real samples again.

    `against`: another model, or a model file. `layers`: compare each operator. Raises ParityFailed or BudgetMissed
    where a check fails.
    """

    shown = Shown(progress)
    outcome = verify_workflow.verify(
        word(model),
        against=word(against) or "",
        val=as_set(val, run_of(model, None)) if val is not None else "",
        target=target,
        layers=layers,
        shapes=_shapes(shape),
        progress=shown.progress,
        say=shown.say,
    )
    _raise(outcome)
    return outcome.findings


@_public
def bench(
    models: Any = None,
    data: Any = None,
    *,
    target: str | Sequence[str] = "host",
    quick: bool = False,
    threads: int | Sequence[int] | None = None,
    batch: int | None = None,
    processes: int | None = None,
    samples: int | None = None,
    shape: Shape | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> Results:
    """Measure accuracy, latency, memory and size on each target, in processes of their own, interleaved.

    `models`: a Model, a path, a run folder (all of its models), a model file, or a list of them. `data`: samples with
    labels; default: the task's test split. `quick`: a first look. `threads`: a number, or several. Raises InputError,
    DeviceError, Missing.

    >>> edgekit.bench([model, small], quick=True).to_pandas()  # doctest: +SKIP
    """

    shown = Shown(progress)
    chosen = list(models) if isinstance(models, list | tuple) else [models]
    words = [name for name in map(word, chosen) if name]
    folders = [Path(out)] if out is not None else [run_of(model, None) for model in chosen]
    plan: dict[str, Any] = dict(PRESETS["quick"]) if quick else {}
    numbers = tuple(threads) if isinstance(threads, Sequence) else threads
    given = {"threads": numbers, "batch": batch, "processes": processes, "samples": samples}
    outcome = bench_workflow.bench(
        words,
        target_names=[target] if isinstance(target, str) else list(target),
        data=as_set(data, folders[0]),
        plan={**plan, **{key: value for key, value in given.items() if value is not None}},
        out=None if out is None else Path(out),
        shapes=_shapes(shape),
        resume=resume,
        progress=shown.progress,
        say=shown.say,
    )
    _raise(outcome)
    return Results(outcome.measurements, folders)


@_public
def compare(sources: str | Path | Model | Sequence[str | Path | Model] = (), *, data: str = "") -> Results:
    """The stored measurements of runs, models and results files, in order; none: of the newest run.

    `data`: the start of a test set's sha256. Raises InputError if there are none, or if they are over different test
    sets.
    """

    chosen = [sources] if isinstance(sources, str | Path | Model) else list(sources)
    found: list[Measurement] = []
    wanted: list[str | Path | Model | None] = list(chosen) or [None]
    for source in wanted:
        model = source if isinstance(source, Model) else None
        name = str(model.path.parent) if model else word(source)
        rows = compare_workflow.compare([name] if name else [], set=data)
        found += [m for m in rows if model is None or m.artifact == model.name]
    if len(chosen) > 1:  # over different test sets?
        compare_workflow.compare([str(c.path.parent) if isinstance(c, Model) else str(c) for c in chosen], set=data)
    return Results(found, [Path(str(c.path.parent if isinstance(c, Model) else c)) for c in chosen])


@_public
def predict(model: Any, x: Any, *, target: str = "host", top: int = 5) -> Any:
    """Run a model on inputs, with the same code as every measurement.

    `x`: arrays or tensors (N, …), a mapping of input name → array, or a DataFrame: returns its output (N, …), or a
    mapping of output name → array if there are several. Paths of images, sounds or `.npy` files: returns for each a
    mapping with its outputs and its `top` classes. Raises InputError where `x` does not fit.

    >>> edgekit.predict("runs/mnist/onnx", images[:10]).argmax(axis=1)  # doctest: +SKIP
    """

    name = word(model)
    if isinstance(x, str | Path) or (isinstance(x, list | tuple) and x and isinstance(x[0], str | Path)):
        paths = [x] if isinstance(x, str | Path) else list(x)
        found = predict_workflow.predict(name or "", [str(path) for path in paths], target, top)
        return found[0] if isinstance(x, str | Path) and len(found) == 1 else found
    artifact = import_.ensure_imported(references.resolve(name)).artifact()
    samples = reading.sample_set("inputs", stacked(x, artifact.inputs), None)
    run = execute(artifact, targets.load(target), samples, Plan(), latency=False)
    outputs: Mapping[str, NDArray[Any]] = {key: np.asarray(value) for key, value in run.outputs.items()}
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


@_public
def inspect(model: Any = None, *, shape: Shape | None = None) -> dict[str, Any]:
    """Facts of a model: inputs, outputs, operators, parameters, MACs, sizes, which targets run it.

    MACs and activations are None, with the reason in `open_size`, if the size of an input is not known: `shape`.
    """

    return inspect_workflow.inspect(word(model), _shapes(shape))


@_public
def deploy(
    model: Any,
    target: str,
    *,
    path: str = "",
    runtime: str = "",
    data: str = "",
    progress: bool | None = None,
) -> Deployment:
    """Install a model on a device and make it the current release there; the device checks it with real samples.

    Raises InputError if the device cannot run it, DeviceError if the device fails or its outputs differ.
    """

    return deploy_workflow.deploy(word(model), target, path=path, runtime=runtime, data=data, say=Shown(progress).say)


class Optimized:
    """How a search ended: `model`, what to ship; `results`, the measurements of the front; `trials`, `front`."""

    def __init__(self, outcome: Any) -> None:
        self.model = Model(outcome.search.artifact)
        self.results = Results(outcome.measurements, [self.model.path.parent])
        self.trials: list[Trial] = outcome.search.trials
        self.front: list[Trial] = outcome.search.front
        #: the recipe that makes `model` again; None where there is none
        self.recipe: Path | None = outcome.search.recipe

    def __repr__(self) -> str:
        return f"<Optimized {self.model!r}, of {len(self.trials)} trials>"


@_public
def optimize(
    what: Any = None,
    *,
    target: str = "host",
    max_drop: float = 0.5,
    max_latency: float | None = None,
    max_size: int | None = None,
    trials: int = 24,
    choices: Mapping[str, Sequence[str]] | None = None,
    storage: str = "",
    seed: int = 0,
    epochs: int = 5,
    calibration: Any = None,
    val: Any = None,
    out: str | Path | None = None,
    progress: bool | None = None,
) -> Optimized:
    """Search for the best model on a target, within budgets, for a task (its networks are trained) or a model.

    `max_drop`: percentage points; `max_latency`: p50 in milliseconds; `max_size`: bytes. `choices`: dimension → values
    that replace the default ones. `storage`: the URL of a database that several workers share. Raises BudgetMissed if
    no trial is within the budget, InputError, Missing, DeviceError.
    """

    shown = Shown(progress)
    name = word(what)
    folder = Path(out) if out is not None else None
    place = folder or (RUNS / slug(name or "") if name and is_task(name) else run_of(what, None))
    outcome = optimize_workflow.optimize(
        name,
        target=target,
        budget=Budget(max_drop, max_latency, max_size),
        trials=trials,
        choices=choices,
        storage=storage,
        seed=seed,
        epochs=epochs,
        calibration=as_set(calibration, place) if calibration is not None else "",
        val=as_set(val, place) if val is not None else "",
        out=folder,
        progress=shown.progress,
        say=shown.say,
    )
    _raise(outcome)
    return Optimized(outcome)


@_public
def doctor() -> dict[str, Any]:
    """What is installed and what this machine can do: Python, packages by extra, CPU, targets."""

    return doctor_workflow.doctor()


def _shapes(shape: Shape | None) -> dict[str, tuple[int, ...]] | None:
    if shape is None:
        return None
    if isinstance(shape, Mapping):
        return {name: tuple(sizes) for name, sizes in shape.items()}
    return {"": tuple(shape)}


def _raise(outcome: Outcome) -> None:
    """Raise the first failure; the other ones are its notes, and what was made is its `models`."""
    if not outcome.failures:
        return
    first, *others = outcome.failures
    for other in others:
        first.add_note(str(translate(other)))
    first.models = _models(outcome.artifacts)  # type: ignore[attr-defined]
    raise first


def _models(artifacts: Iterable[Artifact]) -> list[Model]:
    return [Model(artifact) for artifact in artifacts]


def _only(outcome: Outcome) -> Model:
    _raise(outcome)
    if not outcome.artifacts:
        raise EdgekitError("nothing was made", "", "")
    return Model(outcome.artifacts[-1])
