"""The commands as functions: they take what people hold in Python, and return objects."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, Unpack, overload

import numpy as np
from numpy.typing import NDArray

from edgekit import tasks
from edgekit.api import options as keywords
from edgekit.api.data import as_set, check_labelled, slug
from edgekit.api.models import Model, check_shape, is_module, run_of, stacked, word
from edgekit.api.options import (
    AnyModel,
    AnyPath,
    ExportOptions,
    Format,
    Formats,
    Method,
    Metric,
    ModelPath,
    Precision,
    PruneOptions,
    QuantizeOptions,
    Samples,
    Shape,
    TrainOptions,
)
from edgekit.api.reporting import in_pythons_words, reports, translate
from edgekit.api.results import Results
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError, InputError
from edgekit.core.target import PRESETS, Plan
from edgekit.core.user_code import typed
from edgekit.measure import targets
from edgekit.measure.context import Outcome
from edgekit.measure.execute import execute
from edgekit.measure.verify import Finding
from edgekit.runs import references
from edgekit.runs.recipe import STARTER
from edgekit.runs.references import RUNS
from edgekit.runs.store import ARTIFACT
from edgekit.sets import reading
from edgekit.workflows import bench as bench_workflow
from edgekit.workflows import deploy as deploy_workflow
from edgekit.workflows import doctor as doctor_workflow
from edgekit.workflows import export as export_workflow
from edgekit.workflows import import_
from edgekit.workflows import optimize as optimize_workflow
from edgekit.workflows import predict as predict_workflow
from edgekit.workflows import prune as prune_workflow
from edgekit.workflows import quantize as quantize_workflow
from edgekit.workflows import run as run_workflow
from edgekit.workflows import train as train_workflow
from edgekit.workflows import verify as verify_workflow
from edgekit.workflows.compare import gate as gate_workflow
from edgekit.workflows.compare import rows
from edgekit.workflows.compare.limits import Gate
from edgekit.workflows.deploy import Deployment
from edgekit.workflows.inspect import model as inspect_workflow
from edgekit.workflows.optimize.study import Trial
from edgekit.workflows.optimize.trial import Budget
from edgekit.workflows.quantize.method_search import Effort
from edgekit.workflows.routes import format_of
from edgekit.workflows.setup import is_task

P = ParamSpec("P")
R = TypeVar("R")

#: where what is in memory is trained, without `out`
TABLE = RUNS / "data"

#: calls that work take turns, for what they share: the log, torch's random numbers, the processor that is measured
_turns = threading.RLock()

#: what an interrupted call leaves
_KEPT = {
    "train": "the same call resumes after the last complete epoch",
    **dict.fromkeys(["export", "quantize", "prune", "run"], "finished steps are kept: the same call resumes"),
    "bench": "finished measurements are kept: pass resume=True",
    "optimize": "finished trials are kept: the same call resumes",
}


def _public(function: Callable[P, R]) -> Callable[P, R]:
    """A function of the API: its arguments have the annotated types, whoever calls it named the code in them, and
    errors speak of parameters. Those that work take turns, whatever thread they are called in."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            named: dict[str, Any] = keywords.checked(function, args, kwargs)
            typed([value for value in (*args, *named.values()) if isinstance(value, str)])
            with _turns if "progress" in function.__annotations__ else nullcontext():
                return function(*args, **named)
        except EdgekitError as error:
            raise translate(error)  # noqa: B904 - it has its own cause, or with none to show says so
        except KeyboardInterrupt as error:
            if kept := _KEPT.get(function.__name__):
                error.add_note(f"edgekit.{function.__name__}: {kept}")
            raise

    return call


@_public
def load(model: ModelPath | None = None) -> Model:
    """Load a stored model.

    Args:
        model: `"runs/mnist/onnx"`, the file in that folder, or a run folder: its first float model. None: the newest
            run's.

    Returns:
        The model.

    Raises:
        InputError: There is none, or its files were changed.

    Examples:
        >>> edgekit.load("runs/mnist/onnx").format
        'onnx'
    """
    name = word(model)
    inside = name is not None and Path(name).is_file() and (Path(name).parent / ARTIFACT).is_file()
    return Model(references.load(str(Path(str(name)).parent) if inside else name))


@_public
def train(
    data: Samples = STARTER,
    *,
    model: str = "",
    label: str = "",
    out: AnyPath | None = None,
    epochs: int = 10,
    teacher: ModelPath | None = None,
    init: ModelPath | None = None,
    resume: bool | None = None,
    progress: bool | None = None,
    **options: Unpack[TrainOptions],
) -> Model:
    """Train a network. The weights of the best validation epoch are kept.

    Args:
        data: A task (`"mnist"`, `"cars.py:Cars"`), a path (`"houses.csv"`, a folder of images), a DataFrame with a
            column `label`, a pair (inputs (N, …), labels (N,)) of arrays, tensors or a DataFrame and a Series, or a
            torch dataset or DataLoader of such pairs.
        model: One of the task's networks, or one defined in code: `"net.py:Net"`. Tables train `mlp`.
        label: The name of the labels' column.
        out: The run folder. None: `runs/` and the task's name.
        epochs: At most so many; training stops earlier after `patience` epochs without a better one.
        teacher: A torch model to distil from.
        init: A torch model, or a file of weights, to start from.
        resume: None resumes an interrupted training with the same settings, True requires one, False starts again.
        progress: None shows it in terminals and notebooks, True always, False never.
        **options: The other settings, such as `lr`, `batch`, `seed`, `samples`, `patience`, `optimizer`, `schedule`,
            `augment`, `width`, `dropout`, `accelerator`; all are in `edgekit.api.options.TrainOptions`.

    Returns:
        The trained torch model.

    Raises:
        InputError: The data or the settings cannot be used.
        Missing: A package is not installed.
        Diverged: The loss became NaN or infinite.

    Examples:
        >>> model = edgekit.train("mnist", epochs=1, samples=1000)
        >>> model.format, model.task
        ('torch', 'mnist')
    """
    check_labelled(data, label)
    run = Path(out) if out is not None else TABLE
    task = as_set(data, run, label=label)
    if out is None and isinstance(data, str | os.PathLike):
        run = RUNS / tasks.stem(task)
    settings: dict[str, Any] = {**options, "epochs": epochs}
    if init is not None:
        settings["init"] = word(init)
    outcome = train_workflow.train(
        task, model=model, out=run, teacher=word(teacher) or "", resume=resume, **reports(progress), **settings
    )
    return _only(outcome)


@_public
def import_model(
    source: AnyModel,
    *,
    example: Any = None,
    signature: AnyPath = "",
    classes: AnyPath = "",
    weights: AnyPath = "",
    model: str = "",
    task: str = "",
    adapter: AnyPath = "",
    shape: Shape | None = None,
    out: AnyPath | None = None,
    progress: bool | None = None,
) -> Model:
    """Import a model from elsewhere into a run folder.

    Args:
        source: A file (.onnx, .tflite, .xml, .pt2, .keras), a network defined in code (`"net.py:make"`), a file of
            weights with `model`, or a torch module with `example`.
        example: A sample with its batch axis (1, …), or a tuple of them for several inputs: arrays or tensors.
        signature: What the inputs are made from and what the outputs mean: a signature file or a
            preprocessor_config.json.
        classes: Where the class names are: a folder of class folders, a .txt or .json file.
        weights: A file of weights for a network defined in code.
        model: The network that the weights in `source` belong to.
        task: The task that it was trained for.
        adapter: A folder with LoRA adapters of the library peft, which are merged into the model.
        shape: Sizes of inputs, batch included, where they are open; of a torch module with one input, in place of
            `example`.
        out: The run folder. None: `runs/` and the source's name.
        progress: None shows it in terminals and notebooks, True always, False never.

    Returns:
        The imported model.

    Raises:
        InputError: It is not a model, or does not take the example.
        CannotConvert: torch.export cannot trace the module.
        Missing: A package is not installed.

    Examples:
        >>> import torch
        >>> network = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
        >>> model = edgekit.import_model(network, example=torch.zeros(1, 8), out="runs/network")
        >>> model.inputs[0].shape
        (None, 8)
    """
    if source is None:
        raise InputError("there is no model", "source is None", "pass a path, or a torch module with example=x")
    folder = run_of(source, out) if out is not None or is_module(source) else None
    outcome = import_.import_model(
        word(source, example, folder, shape) or "",
        weights=os.fspath(weights),
        model=model,
        task=task,
        signature=os.fspath(signature),
        classes=os.fspath(classes),
        adapter=os.fspath(adapter),
        shapes=None if is_module(source) else _shapes(shape),
        out=folder,
        **reports(progress),
    )
    return _only(outcome)


@overload
def export(
    model: AnyModel | None = ...,
    to: Format = ...,
    *,
    val: Samples | None = ...,
    example: Any = ...,
    shape: Shape | None = ...,
    out: AnyPath | None = ...,
    progress: bool | None = ...,
    **options: Unpack[ExportOptions],
) -> Model: ...
@overload
def export(
    model: AnyModel | None,
    to: Formats,
    *,
    val: Samples | None = ...,
    example: Any = ...,
    shape: Shape | None = ...,
    out: AnyPath | None = ...,
    progress: bool | None = ...,
    **options: Unpack[ExportOptions],
) -> list[Model]: ...


@_public
def export(
    model: AnyModel | None = None,
    to: Format | Sequence[Format] = "onnx",
    *,
    val: Samples | None = None,
    example: Any = None,
    shape: Shape | None = None,
    out: AnyPath | None = None,
    progress: bool | None = None,
    **options: Unpack[ExportOptions],
) -> Model | list[Model]:
    """Export a float model to a format, or to several, and compare its outputs with the original's.

    Args:
        model: A Model, a path, a model file, or a torch module with `example`. None: the newest run's.
        to: A format, or a list of them.
        val: Samples to compare on, such as (x, y). None: the task's validation split, else random inputs.
        example: Of a torch module: a sample with its batch axis, or a tuple of them.
        shape: Sizes of inputs, batch included, where they are open.
        out: The run folder of a model from elsewhere.
        progress: None shows it in terminals and notebooks, True always, False never.
        **options: `opset` of ONNX; `dynamic`, the axes that stay open ("batch", "none", "input:2,3"); `batch`, a fixed
            number of samples; `layout` ("nhwc"); `embed_preprocessing`; `fold_padding` of TFLite.

    Returns:
        The new model, or a list of them if `to` is a list.

    Raises:
        ParityFailed: The outputs differ from the original's.
        CannotConvert: The format has no such operator.
        InputError: There is no such model, format or option.
        Missing: A package is not installed.

    Examples:
        >>> onnx = edgekit.export("runs/mnist", "onnx")
        >>> onnx.file.name
        'model.onnx'
    """
    folder = run_of(model, out)
    formats = [to] if isinstance(to, str) else list(to)
    outcome = export_workflow.export(
        word(model, example, folder, shape),
        to=formats,
        val=as_set(val, folder),
        out=folder,
        shapes=_shapes(shape),
        options=options,
        **reports(progress),
    )
    _raise(outcome)
    made = [Model(next(a for a in reversed(outcome.artifacts) if a.kind.format == format)) for format in formats]
    return made[0] if isinstance(to, str) else made


@overload
def quantize(
    model: AnyModel | None = ...,
    precision: Precision = ...,
    *,
    to: Format | None = ...,
    calibration: Samples | None = ...,
    val: Samples | None = ...,
    max_drop: float | None = ...,
    max_kl: float | None = ...,
    metric: Metric = ...,
    methods: Method | Sequence[Method] = ...,
    effort: Effort = ...,
    latency: bool = ...,
    strict: bool = ...,
    target: str = ...,
    example: Any = ...,
    shape: Shape | None = ...,
    out: AnyPath | None = ...,
    progress: bool | None = ...,
    **options: Unpack[QuantizeOptions],
) -> Model: ...
@overload
def quantize(
    model: AnyModel | None = ...,
    precision: Precision = ...,
    *,
    to: Formats,
    calibration: Samples | None = ...,
    val: Samples | None = ...,
    max_drop: float | None = ...,
    max_kl: float | None = ...,
    metric: Metric = ...,
    methods: Method | Sequence[Method] = ...,
    effort: Effort = ...,
    latency: bool = ...,
    strict: bool = ...,
    target: str = ...,
    example: Any = ...,
    shape: Shape | None = ...,
    out: AnyPath | None = ...,
    progress: bool | None = ...,
    **options: Unpack[QuantizeOptions],
) -> list[Model]: ...


@_public
def quantize(
    model: AnyModel | None = None,
    precision: Precision = "int8",
    *,
    to: Format | Sequence[Format] | None = None,
    calibration: Samples | None = None,
    val: Samples | None = None,
    max_drop: float | None = None,
    max_kl: float | None = None,
    metric: Metric = "",
    methods: Method | Sequence[Method] = (),
    effort: Effort = "normal",
    latency: bool = True,
    strict: bool = False,
    target: str = "host",
    example: Any = None,
    shape: Shape | None = None,
    out: AnyPath | None = None,
    progress: bool | None = None,
    **options: Unpack[QuantizeOptions],
) -> Model | list[Model]:
    """Quantize a model within an accuracy budget, verified on real samples in the runtime that will run it.

    Args:
        model: A Model, a path, a model file, or a torch module with `example`. None: the newest run's.
        precision: int8, fp16, dynamic (int8 weights, and activations whose ranges are computed at run time), w8 or w4:
            the weights alone, in 8 or 4 bits, for transformers.
        to: A format, or a list of them. None: the model's own, ONNX for a torch model.
        calibration: Typical inputs: arrays (N, …), a DataFrame, a DataLoader, a path. None: training data.
        val: Samples with labels, such as (x, y). None: the task's validation split.
        max_drop: The budget: how many percentage points of accuracy may be lost. None: 0.5.
        max_kl: Of w4 and w8: the largest KL divergence from the float model's outputs, in nats.
        metric: Of a model without a task, where labels are classes. "": by its signature.
        methods: Only these methods of int8, such as `"min-max"`.
        effort: "fast" tries one good method, "normal" stops at the first that keeps the budget, "thorough" tries all.
        latency: False times nothing: accuracy and size decide.
        strict: A budget that the samples cannot decide counts as missed.
        target: The device that it is made for.
        example: Of a torch module: a sample with its batch axis, or a tuple of them.
        shape: Sizes of inputs, batch included, where they are open.
        out: The run folder of a model from elsewhere.
        progress: None shows it in terminals and notebooks, True always, False never.
        **options: `input_type` and `output_type` of TFLite; `samples`, how many calibrate; of w4 and w8 `block`,
            `symmetric`, `embeddings`, `head`, `weight_method` and `max_mb`; those of `edgekit.export`.

    Returns:
        The new model, or a list of them if `to` is a list.

    Raises:
        BudgetMissed: No method keeps the budget. The best attempt is kept, in the error's `models`.
        InputError: Calibration samples, or labels for `max_drop`, are missing.
        CannotConvert: The format has no such operator.
        Missing: A package is not installed.

    Examples:
        >>> small = edgekit.quantize("runs/mnist/onnx", methods=["min-max"], max_drop=5)
        >>> small.name, small.precision
        ('onnx-int8', 'int8')
    """
    folder = run_of(model, out)
    name = word(model, example, folder, shape)
    reference = references.resolve(name, folder)
    source = format_of(reference)
    if to is None:
        to = "onnx" if source == "torch" else source  # type: ignore[assignment]
    formats = [to] if isinstance(to, str) else list(to or ())
    inputs = () if reference.foreign else tuple(spec.name for spec in reference.artifact().inputs)
    outcome = quantize_workflow.quantize(
        name,
        precision=precision,
        to=formats,
        calibration=as_set(calibration, folder, inputs=inputs),
        val=as_set(val, folder, inputs=inputs),
        max_drop_pp=max_drop,
        max_kl=max_kl,
        metric=metric,
        methods=(methods,) if isinstance(methods, str) else tuple(methods),
        effort=effort,
        latency=latency,
        strict=strict,
        target=target,
        out=folder,
        shapes=_shapes(shape),
        options=options,
        **reports(progress),
    )
    _raise(outcome)
    if outcome.searches:
        made = [Model(search.chosen) for search in outcome.searches if search.chosen]
    else:
        made = [Model(artifact) for artifact in outcome.artifacts if artifact.kind.precision]
    return made[0] if isinstance(to, str) else made


@_public
def prune(
    model: ModelPath | None = None,
    *,
    ratio: float | None = None,
    macs: float | None = None,
    parameters: float | None = None,
    speedup: float | None = None,
    max_drop: float | None = None,
    val: Samples | None = None,
    teacher: ModelPath | None = None,
    target: str = "host",
    strict: bool = False,
    name: str = "",
    out: AnyPath | None = None,
    progress: bool | None = None,
    **options: Unpack[PruneOptions],
) -> Model:
    """Remove channels and heads of a torch model, then fine-tune what is left. Give one goal of the first four.

    Args:
        model: A torch Model, or its path. None: the newest run's.
        ratio: The share of the channels to remove, from 0 to 1.
        macs: The share of the multiply-accumulates to keep at most.
        parameters: The share of the parameters to keep at most.
        speedup: How many times faster it must be, measured on `target`.
        max_drop: The budget: how many percentage points of accuracy may be lost. None: 0.5.
        val: Samples with labels, such as (x, y). None: the task's validation split.
        teacher: A torch model to distil from while fine-tuning.
        target: The device that `speedup` is measured on.
        strict: A budget that the samples cannot decide counts as missed.
        name: The name of the chain. "": from the goal (`prune50`, `macs40`).
        out: The run folder.
        progress: None shows it in terminals and notebooks, True always, False never.
        **options: The other settings, such as `epochs`, `lr`, `importance`, `round_to`; all are in
            `edgekit.api.options.PruneOptions`.

    Returns:
        The new torch model.

    Raises:
        BudgetMissed: It lost too much accuracy. It is kept, in the error's `models`.
        CannotConvert: The goal cannot be reached.
        InputError: It is not a torch model, or the settings cannot be used.
        Missing: A package is not installed.

    Examples:
        >>> smaller = edgekit.prune("runs/mnist", ratio=0.25, epochs=1, samples=500, max_drop=50)
        >>> smaller.name, smaller.size < edgekit.load("runs/mnist").size
        ('prune25.torch', True)
    """
    folder = run_of(model, out)
    goals = {"ratio": ratio, "macs": macs, "parameters": parameters, "speedup": speedup}
    settings: dict[str, Any] = {**{key: value for key, value in goals.items() if value is not None}, **options}
    outcome = prune_workflow.prune(
        word(model),
        name=name,
        target=target,
        val=as_set(val, folder),
        teacher=word(teacher) or "",
        max_drop_pp=max_drop,
        strict=strict,
        out=folder,
        **reports(progress),
        **settings,
    )
    return _only(outcome)


@_public
def verify(
    model: ModelPath | None = None,
    *,
    against: ModelPath = "",
    val: Samples | None = None,
    metric: Metric = "",
    target: str = "host",
    layers: bool = False,
    shape: Shape | None = None,
    progress: bool | None = None,
) -> list[Finding]:
    """Check a model's conversion, or that of every model of a run, on real samples again.

    Args:
        model: A Model, a path, a model file, or a run folder: all of its models. None: the newest run.
        against: Another model, or a model file. "": the model that it was made from.
        val: Samples, such as (x, y). None: the task's validation split.
        metric: Of a model without a task, where labels are classes. "": by its signature.
        target: The device that runs it.
        layers: Compare each operator; the table is written into the model's folder.
        shape: Sizes of inputs, batch included, where they are open.
        progress: None shows it in terminals and notebooks, True always, False never.

    Returns:
        The result of each check.

    Raises:
        ParityFailed: The outputs differ.
        BudgetMissed: It lost more accuracy than its budget allows.
        InputError: There is no such model, or the samples do not fit.

    Examples:
        >>> (finding,) = edgekit.verify("runs/mnist/onnx")
        >>> finding.parity.sqnr_db > 60
        True
    """
    outcome = verify_workflow.verify(
        word(model),
        against=word(against) or "",
        val=as_set(val, run_of(model, None)),
        metric=metric,
        target=target,
        layers=layers,
        shapes=_shapes(shape),
        **reports(progress),
    )
    _raise(outcome)
    return outcome.findings


@_public
def bench(
    models: ModelPath | Iterable[ModelPath] | None = None,
    data: Samples | None = None,
    *,
    metric: Metric = "",
    target: str | Sequence[str] = "host",
    quick: bool = False,
    thorough: bool = False,
    threads: int | Sequence[int] | None = None,
    batch: int | None = None,
    processes: int | None = None,
    samples: int | None = None,
    prompt: int | None = None,
    new_tokens: int | None = None,
    latency: bool = True,
    shape: Shape | None = None,
    out: AnyPath | None = None,
    resume: bool = False,
    progress: bool | None = None,
) -> Results:
    """Measure accuracy, latency, memory and size on each target, in processes of their own, interleaved.

    Args:
        models: A Model, a path, a run folder (all of its models), a model file, or a list of them. None: the newest
            run.
        data: Samples with labels, such as (x, y). None: the task's test split.
        metric: Of a model without a task, where labels are classes. "": by its signature.
        target: A device, or a list of them.
        quick: A first look: fewer, shorter processes.
        thorough: For small differences: more, longer processes.
        threads: A number of threads, or several.
        batch: Samples per inference. None: 1.
        processes: Timing processes of each model. None: 15.
        samples: Measure accuracy on the first so many samples; 0: all.
        prompt: Of a model that generates text, whose latency is that of a request: the tokens of its prompt. None: 64.
        new_tokens: The tokens that it generates. None: 32.
        latency: False measures accuracy and size only.
        shape: Sizes of inputs, batch included, where they are open.
        out: The run folder of a model from elsewhere.
        resume: Keep earlier measurements with the same settings.
        progress: None shows it in terminals and notebooks, True always, False never.

    Returns:
        One measurement for each model, target, runtime and number of threads.

    Raises:
        InputError: A target cannot run a model, or the samples do not fit.
        DeviceError: A device cannot be reached, or failed.
        Missing: A package is not installed.

    Examples:
        >>> results = edgekit.bench(["runs/mnist/onnx", "runs/mnist/onnx-int8"], quick=True, processes=1)
        >>> [(m.artifact, m.metric.name) for m in results]
        [('onnx', 'accuracy'), ('onnx-int8', 'accuracy')]
    """
    plan = _preset(quick, thorough) or {}
    chosen = _several(models)
    words = [name for name in map(word, chosen) if name]
    folders = [run_of(model, out) for model in chosen]
    given = {"threads": threads, "batch": batch, "processes": processes, "samples": samples}
    given |= {"prompt": prompt, "new_tokens": new_tokens}
    outcome = bench_workflow.bench(
        words,
        target_names=[target] if isinstance(target, str) else list(target),
        data=as_set(data, folders[0]),
        metric=metric,
        plan={**plan, "latency": latency, **{key: value for key, value in given.items() if value is not None}},
        out=None if out is None else Path(out),
        shapes=_shapes(shape),
        resume=resume,
        **reports(progress),
    )
    _raise(outcome)
    return Results(outcome.measurements, folders)


@_public
def compare(sources: ModelPath | Iterable[ModelPath] = (), *, data: str = "", metric: str = "") -> Results:
    """The stored measurements of runs, models and results files, in order.

    Different models of one name have their run's name before it: `cars/onnx-int8`.

    Args:
        sources: A Model or its path, a run folder, a results file (`results.json`), or a list of them. None: the
            newest run.
        data: The start of a test set's sha256, to choose one of several.
        metric: The name of a metric, to choose one of several.

    Returns:
        Their measurements.

    Raises:
        InputError: There are none, or they are over different test sets, or in different metrics.

    Examples:
        >>> results = edgekit.compare("runs/mnist")
        >>> sorted({m.artifact for m in results})
        ['onnx', 'onnx-int8']
    """
    words = [word(source) or str(references.newest_run()) for source in _several(sources, none=True)]
    return Results(rows.disambiguated(rows.collect(words, data, metric)), rows.run_folders(words))


@_public
def gate(
    models: ModelPath | Iterable[ModelPath],
    against: ModelPath,
    fail_if: str | Sequence[str],
    *,
    again: bool = True,
    quick: bool = False,
    thorough: bool = False,
    progress: bool | None = None,
) -> list[Gate]:
    """Check limits against a baseline, such as the last release.

    Latencies of different sessions cannot be compared: the baseline's model and the one that replaced it are measured
    again, interleaved. If either is not available, latency is undecided; the other limits are checked.

    Args:
        models: A Model, which has to be in the baseline, a run folder, a results file, or a list of them.
        against: The baseline: a Model, a run folder or a results file.
        fail_if: A limit, or a list of them: `"p50>+5%"`, `"accuracy<-0.5pp"`, `"size>+2%"`.
        again: Measure latency again.
        quick: Fewer, shorter processes.
        thorough: More, longer processes.
        progress: None shows it in terminals and notebooks, True always, False never.

    Returns:
        A verdict for each limit and measurement; its `state` is passed, failed or undecided.

    Raises:
        InputError: There are no measurements, or a limit cannot be read.

    Examples:
        >>> verdicts = edgekit.gate("runs/mnist", "runs/mnist", "accuracy<-0.5pp")
        >>> {verdict.state for verdict in verdicts}
        {'passed'}
    """
    verdicts: list[Gate] = gate_workflow.gate(
        [name for name in map(word, _several(models, none=True)) if name],
        str(word(against)),
        [fail_if] if isinstance(fail_if, str) else list(fail_if),
        plan=_preset(quick, thorough),
        again=again,
        **reports(progress),
    )
    return verdicts


@_public
def predict(model: ModelPath | None, x: Any, *, target: str = "host", top: int = 5, draw: AnyPath | None = None) -> Any:
    """Run a model on inputs, with the same code as every measurement.

    Args:
        model: A Model, a path, or a model file. None: the newest run's.
        x: Arrays or tensors (N, …), a DataFrame, a dataset or DataLoader (its labels are left out), or a mapping of
            input name → array. Or a path of an image, a sound or a `.npy` file, or a list of them.
        target: The device that runs it.
        top: For files: how many classes.
        draw: For image files and a detector: the folder that each image with its boxes is written into.

    Returns:
        The output (N, …), or a mapping of output name → array if there are several. For files: a mapping with the
        outputs and the `top` classes, or with the boxes of a detector, or a list of them.

    Raises:
        InputError: `x` does not fit the model.

    Examples:
        >>> edgekit.predict("runs/mnist/onnx", np.zeros((3, 1, 28, 28), np.float32)).argmax(axis=1).shape
        (3,)
    """
    name = word(model)
    if isinstance(x, str | os.PathLike) or (isinstance(x, list | tuple) and x and isinstance(x[0], str | os.PathLike)):
        paths = [x] if isinstance(x, str | os.PathLike) else list(x)
        found = predict_workflow.predict(
            name or "", [os.fspath(path) for path in paths], target, top, Path(draw) if draw else None
        )
        return found[0] if isinstance(x, str | os.PathLike) and len(found) == 1 else found
    if draw is not None:
        raise InputError("boxes are drawn on image files", "the inputs are arrays", "pass paths, or leave out draw")
    artifact = import_.ensure_imported(references.resolve(name)).artifact()
    samples = reading.sample_set("inputs", stacked(x, artifact.inputs), None)
    run = execute(artifact, targets.load(target), samples, Plan(), latency=False)
    outputs: Mapping[str, NDArray[Any]] = {key: np.asarray(value) for key, value in run.outputs.items()}
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


@_public
def inspect(model: ModelPath | None = None, *, shape: Shape | None = None) -> dict[str, Any]:
    """What is in a model, without running it.

    Args:
        model: A Model, a path, or a model file. None: the newest run's.
        shape: Sizes of inputs, batch included, where they are open.

    Returns:
        Inputs, outputs, operators, parameters, MACs, sizes in bytes, and which targets run it, as plain values. MACs
        are None, with the reason in `open_size`, if the size of an input is not known.

    Raises:
        InputError: There is no such model.

    Examples:
        >>> facts = edgekit.inspect("runs/mnist/onnx")
        >>> facts["format"], facts["parameters"] > 1000
        ('onnx', True)
    """
    return inspect_workflow.inspect(word(model), _shapes(shape))


@_public
def deploy(
    model: ModelPath | None,
    target: str,
    *,
    path: AnyPath = "",
    runtime: str = "",
    data: AnyPath = "",
    progress: bool | None = None,
) -> Deployment:
    """Install a model on a device and make it the current release there; the device checks it with real samples.

    Args:
        model: A Model, or its path. None: the newest run's.
        target: The device's name; `edgekit targets list` shows them.
        path: The folder on the device. "": `edgekit/` and the run's name in the home folder.
        runtime: The runtime, if several on the device take the format.
        data: The files that the device checks it with. "": of the model's task or calibration.
        progress: None shows it in terminals and notebooks, True always, False never.

    Returns:
        What was sent, and the result of the check on the device.

    Raises:
        InputError: The device cannot run it.
        DeviceError: The device fails, or its outputs differ.

    Examples:
        >>> deployment = edgekit.deploy("runs/mnist/onnx-int8", "host", path="releases/mnist")
        >>> deployment.how, deployment.check["ok"]
        ('deployed', True)
    """
    say = reports(progress)["say"]
    folder, files = os.fspath(path), os.fspath(data)
    return deploy_workflow.deploy(word(model), target, path=folder, runtime=runtime, data=files, say=say)


class Optimized:
    """How a search ended; `edgekit.optimize` returns it.

    Attributes:
        model: What to ship.
        results: The measurements of the Pareto front.
        trials: Every point that was tried.
        front: The trials within the budget that no other equals or beats in accuracy, latency and size.
        recipe: The recipe that makes `model` again; None where there is none.

    Examples:
        >>> best = edgekit.optimize("runs/mnist/onnx", trials=2, max_drop=5)
        >>> best.model.size > 0 and len(best.trials) >= 1
        True
    """

    def __init__(self, outcome: Any) -> None:
        self.model = Model(outcome.search.artifact)
        self.results = Results(outcome.measurements, [self.model.path.parent])
        self.trials: list[Trial] = outcome.search.trials
        self.front: list[Trial] = outcome.search.front
        self.recipe: Path | None = outcome.search.recipe

    def __repr__(self) -> str:
        return f"<Optimized {self.model!r}, of {len(self.trials)} trials>"


@_public
def optimize(
    what: ModelPath | None = None,
    *,
    target: str = "host",
    max_drop: float = 0.5,
    max_latency: float | None = None,
    max_size: int | None = None,
    trials: int = 24,
    choices: Mapping[str, Sequence[Any]] | None = None,
    storage: str = "",
    seed: int = 0,
    epochs: int = 5,
    calibration: Samples | None = None,
    val: Samples | None = None,
    out: AnyPath | None = None,
    progress: bool | None = None,
) -> Optimized:
    """Search for the best model on a target, within budgets.

    Args:
        what: A task (its networks are trained), or a Model or path. None: the newest run.
        target: The device that it is measured on.
        max_drop: Budget: percentage points of accuracy that may be lost.
        max_latency: Budget: p50 in milliseconds.
        max_size: Budget: bytes.
        trials: How many points to try.
        choices: Dimension → values that replace the default ones: `{"method": ["mse", "gptq"]}`.
        storage: The URL of a database that several workers share.
        seed: Of the search and of training.
        epochs: Of each training.
        calibration: Typical inputs. None: training data.
        val: Samples with labels, such as (x, y). None: the task's validation split.
        out: The run folder.
        progress: None shows it in terminals and notebooks, True always, False never.

    Returns:
        The model to ship, the Pareto front and all trials.

    Raises:
        BudgetMissed: No trial is within the budget; the nearest is in the error's `models`.
        InputError: It cannot be searched.
        Missing: A package is not installed.
        DeviceError: The device cannot be reached, or failed.
        Interrupted: Ctrl-C; finished trials are kept, and the same call resumes.

    Examples:
        >>> best = edgekit.optimize("runs/mnist/onnx", trials=2, max_drop=5)
        >>> len(best.results) >= 1
        True
    """
    if trials < 1:
        raise InputError("trials must be at least 1", f"it is {trials}")
    name = word(what)
    folder = Path(out) if out is not None else None
    place = folder or (RUNS / slug(name or "") if name and is_task(name) else run_of(what, None))
    outcome = optimize_workflow.optimize(
        name,
        target=target,
        budget=Budget(max_drop, max_latency, max_size),
        trials=trials,
        choices=choices and {key: [str(value) for value in values] for key, values in choices.items()},
        storage=storage,
        seed=seed,
        epochs=epochs,
        calibration=as_set(calibration, place),
        val=as_set(val, place),
        out=folder,
        **reports(progress),
    )
    _raise(outcome)
    return Optimized(outcome)


class RunResult:
    """What a recipe made; `edgekit.run` returns it.

    Attributes:
        path: The run folder.
        models: Name → model.
        results: The measurements.
        findings: The check of each conversion.

    Examples:
        >>> done = edgekit.run("mnist", out="runs/recipe", settings=["train.epochs=1", "train.samples=500"], quick=True)
        >>> done.models["onnx-int8"].precision
        'int8'
    """

    def __init__(self, path: Path, outcome: Outcome) -> None:
        self.path = path.absolute()
        self.models = {artifact.name: Model(artifact) for artifact in outcome.artifacts}
        self.results = Results(outcome.measurements, [self.path])
        self.findings = outcome.findings

    def __repr__(self) -> str:
        return f"<RunResult {self.path}: {', '.join(self.models)}>"


@_public
def run(
    recipe: AnyPath = STARTER,
    *,
    out: AnyPath | None = None,
    settings: Sequence[str] = (),
    target: str | Sequence[str] = (),
    quick: bool = False,
    thorough: bool = False,
    progress: bool | None = None,
) -> RunResult:
    """Make, verify and measure all models of a recipe. What has not changed since is reused.

    Args:
        recipe: The name of a shipped recipe, or a .toml file.
        out: The run folder. None: `runs/` and the recipe's name.
        settings: Fields of the recipe to change: `["train.epochs=3"]`.
        target: A device, or a list of them. (): the recipe's.
        quick: Measure with fewer, shorter processes.
        thorough: Measure with more, longer processes.
        progress: None shows it in terminals and notebooks, True always, False never.

    Returns:
        The models, their measurements and checks.

    Raises:
        RecipeError: The recipe is invalid; nothing was started.
        CheckFailed: A conversion failed its check. The other models are kept, in the error's `models`.
        Missing: A package is not installed.

    Examples:
        >>> done = edgekit.run("mnist", out="runs/recipe", settings=["train.epochs=1", "train.samples=500"], quick=True)
        >>> done.results[0].target
        'host'
    """
    name = os.fspath(recipe)
    outcome = run_workflow.run(
        name,
        out=None if out is None else Path(out),
        settings=settings,
        target_names=[target] if isinstance(target, str) else list(target),
        plan=_preset(quick, thorough),
        **reports(progress),
    )
    _raise(outcome)
    return RunResult(outcome.artifacts[0].path.parent, outcome)


@_public
def doctor() -> dict[str, Any]:
    """What is installed and what this machine can do.

    Returns:
        edgekit's version, Python, the packages of each extra, the processor and the targets, as plain values.

    Examples:
        >>> edgekit.doctor()["edgekit"] == edgekit.__version__
        True
    """
    return doctor_workflow.doctor()


def _several(models: Any, none: bool = False) -> list[Any]:
    """One, or several; None for the newest run, where `none` an empty list, too. Raises InputError."""
    if models is None or isinstance(models, str | os.PathLike | Artifact) or is_module(models):
        return [models]
    if not isinstance(models, Iterable):
        word(models)  # raises
    chosen = list(models)
    if not chosen and not none:
        raise InputError("there are no models", f"the {type(models).__name__} is empty", "pass a Model or a path")
    return chosen or [None]


def _preset(quick: bool, thorough: bool) -> dict[str, Any] | None:
    """The measurement plan's values of a preset. Raises InputError for both."""
    if quick and thorough:
        raise InputError("quick and thorough exclude each other", next="leave one out")
    return dict(PRESETS["quick" if quick else "thorough"]) if quick or thorough else None


def _shapes(shape: Shape | None) -> dict[str, tuple[int, ...]] | None:
    if shape is None:
        return None
    if isinstance(shape, Mapping):
        return {name: check_shape(sizes) for name, sizes in shape.items()}
    return {"": check_shape(shape)}


def _raise(outcome: Outcome) -> None:
    """Raise the first failure; the other ones are its notes, and what was made is its `models`."""
    if not outcome.failures:
        return
    first, *others = outcome.failures
    for other in others:
        first.add_note(in_pythons_words(f"{other}. Next: {other.next}" if other.next else str(other)))
    first.models = _models(outcome.artifacts)  # type: ignore[attr-defined]
    raise first


def _models(artifacts: Iterable[Artifact]) -> list[Model]:
    return [Model(artifact) for artifact in artifacts]


def _only(outcome: Outcome) -> Model:
    _raise(outcome)
    if not outcome.artifacts:
        raise EdgekitError("nothing was made", "", "")
    return Model(outcome.artifacts[-1])
