"""The types of the functions' arguments: an editor completes them; a type checker refuses others, as a call does."""

from __future__ import annotations

import functools
import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias, TypedDict

from edgekit.core.errors import InputError, suggest
from edgekit.workflows.quantize.method_search import Effort


class Module(Protocol):
    """A torch.nn.Module."""

    training: bool

    def state_dict(self, *args: Any, **kwargs: Any) -> Any: ...


class Dataset(Protocol):
    """A dataset of torch: sample by index, each (inputs, label), inputs alone, or a mapping by name."""

    def __getitem__(self, index: int, /) -> Any: ...


#: A path, as text or an object.
AnyPath: TypeAlias = str | os.PathLike[str]
#: A path of a run folder, of a model in it or of a model file; an `edgekit.Model`.
ModelPath: TypeAlias = AnyPath
#: The same, or a torch module, which needs an example of its inputs.
AnyModel: TypeAlias = ModelPath | Module
#: A path or a task's split ("mnist:val"), a DataFrame, arrays (N, …), (inputs, labels), a dataset, a DataLoader.
Samples: TypeAlias = str | os.PathLike[str] | Iterable[Any] | Dataset
#: Input name → its sizes, batch included; or the sizes of the only input.
Shape: TypeAlias = Mapping[str, Sequence[int]] | Sequence[int]

Format: TypeAlias = Literal["torch", "onnx", "tflite", "openvino"]
Formats: TypeAlias = list[Format] | tuple[Format, ...]
Precision: TypeAlias = Literal["int8", "fp16", "dynamic", "w8", "w4"]
Method: TypeAlias = Literal[
    "dynamic", "weight-only", "min-max", "percentile", "mse", "equalize", "gptq", "bias", "keep-float", "qat"
]
WeightMethod: TypeAlias = Literal["auto", "rtn", "scale", "awq", "gptq"]
WeightBits: TypeAlias = Literal["8", "4", "float"]
Metric: TypeAlias = Literal["", "top1", "top5", "recall@1"]
Accelerator: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
EdgeType: TypeAlias = Literal["int8", "uint8", "float32"]


class DistillationOptions(TypedDict, total=False):
    """How a teacher is learnt from: `edgekit.training.distillation_settings` says what each does."""

    distil: str
    temperature: float
    alpha: float
    weight: float


class TrainOptions(DistillationOptions, total=False):
    """The settings of a training: `edgekit.training.settings` says what each does."""

    lr: float
    batch: int
    accumulate: int
    optimizer: Literal["sgd", "adam", "adamw"]
    momentum: float
    weight_decay: float
    decay: Literal["all", "weights"]
    schedule: Literal["one-cycle", "cosine", "step", "constant"]
    warmup: float
    patience: int
    monitor: Literal["loss", "metric"]
    seed: int
    samples: int
    loss: Literal["", "cross-entropy", "mse", "bce"]
    label_smoothing: float
    augment: Literal["auto", "on", "off"]
    clip: float
    ema: float
    precision: Literal["fp32", "bf16"]
    channels_last: bool
    compile: bool
    freeze: Sequence[str]
    unfreeze: int
    lr_decay: float
    lr_factors: Sequence[str]
    lora: int
    lora_alpha: float
    lora_targets: Sequence[str]
    lora_dropout: float
    dora: bool
    width: float
    dropout: float
    fresh: Sequence[str]
    folds: int
    accelerator: Accelerator


class PruneOptions(DistillationOptions, total=False):
    """The settings of pruning and the fine-tuning after it: `edgekit.steps.prune` says what each does."""

    runtimes: Sequence[str]
    importance: Literal["magnitude", "taylor", "bn-scale"]
    scope: Literal["layer", "global"]
    structure: Literal["channels", "none"]
    round_to: int
    rounds: int
    epochs: int
    lr: float
    batch: int
    weight_decay: float
    patience: int
    samples: int
    seed: int
    sparse_epochs: int
    penalty: float
    accelerator: Accelerator


class ExportOptions(TypedDict, total=False):
    """The settings of the exporters."""

    opset: int
    dynamic: str
    batch: int
    layout: Literal["", "nhwc"]
    embed_preprocessing: bool
    fold_padding: bool


class QuantizeOptions(ExportOptions, total=False):
    """The settings of the int8 and the weight-only steps, and of the exporters before them."""

    input_type: EdgeType
    output_type: EdgeType
    samples: int
    block: int
    symmetric: Literal["yes", "no"]
    embeddings: WeightBits
    head: WeightBits
    weight_method: WeightMethod
    accuracy_level: Literal[0, 4]
    max_mb: float


class ExportArguments(ExportOptions, total=False):
    """What `Model.export` takes, as `edgekit.export` does."""

    val: Samples | None
    shape: Shape | None
    progress: bool | None


class QuantizeArguments(QuantizeOptions, total=False):
    """What `Model.quantize` takes, as `edgekit.quantize` does."""

    calibration: Samples | None
    val: Samples | None
    max_drop: float | None
    max_kl: float | None
    metric: Metric
    methods: Method | Sequence[Method]
    effort: Effort
    latency: bool
    strict: bool
    target: str
    shape: Shape | None
    progress: bool | None


class PruneArguments(PruneOptions, total=False):
    """What `Model.prune` takes, as `edgekit.prune` does."""

    ratio: float | None
    macs: float | None
    parameters: float | None
    speedup: float | None
    max_drop: float | None
    val: Samples | None
    teacher: ModelPath | None
    target: str
    strict: bool
    name: str
    progress: bool | None


class BenchArguments(TypedDict, total=False):
    """What `Model.bench` takes, as `edgekit.bench` does."""

    metric: Metric
    target: str | Sequence[str]
    quick: bool
    thorough: bool
    threads: int | Sequence[int] | None
    batch: int | None
    processes: int | None
    samples: int | None
    prompt: int | None
    new_tokens: int | None
    latency: bool
    shape: Shape | None
    resume: bool
    progress: bool | None


class DeployArguments(TypedDict, total=False):
    """What `Model.deploy` takes, as `edgekit.deploy` does."""

    path: AnyPath
    runtime: str
    data: AnyPath
    progress: bool | None


def checked(function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The keyword arguments with numbers as Python's and lists as tuples.

    Raises InputError for an unknown keyword, and for a value, also of `args`, that does not have the annotated type.
    """
    hints, names = _hints(function)
    for name, value in zip(names, args, strict=False):
        _checked(function, name, value, hints[name])
    return {name: _checked(function, name, value, hints.get(name, _UNKNOWN)) for name, value in kwargs.items()}


_UNKNOWN = object()


@functools.cache
def _hints(function: Callable[..., Any]) -> tuple[dict[str, Any], list[str]]:
    """Parameter → type, the keywords of `**options: Unpack[…]` included; the names of all parameters in order."""
    hints = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    for parameter in parameters:
        if parameter.kind is parameter.VAR_KEYWORD:
            (table,) = typing.get_args(hints.pop(parameter.name))
            hints |= typing.get_type_hints(table)
    hints.pop("return", None)
    return hints, [parameter.name for parameter in parameters if parameter.name in hints]


def _checked(function: Callable[..., Any], name: str, value: Any, hint: Any) -> Any:
    if hint is _UNKNOWN:
        hints, _ = _hints(function)
        what = f"{function.__name__}() has no parameter {name!r}"
        raise InputError(what, "", suggest(name, tuple(hints)) or f"see help(edgekit.{function.__name__})")
    try:
        return _fitted(value, hint)
    except TypeError:
        choices = tuple(dict.fromkeys(choice for part in _parts(hint) for choice in _choices(part)))
        wrong = [item for item in (value if isinstance(value, list | tuple) else [value]) if item not in choices]
        near = suggest(wrong[0], choices) if choices and wrong and isinstance(wrong[0], str) else ""
        said = " or ".join(dict.fromkeys(map(_in_words, _parts(hint))))
        next = "edgekit.import_model(network, example=x) makes a model of it" if hasattr(value, "state_dict") else near
        raise InputError(f"{name} must be {said}, not {_shown(value):.200}", "", next) from None


def _shown(value: Any) -> str:
    try:
        plain = isinstance(value, str | int | float | list | tuple | dict)
        return repr(value) if plain else f"a {type(value).__name__}"
    except ValueError:  # an integer of more digits than Python writes
        return "an integer so large"


def _fitted(value: Any, hint: Any) -> Any:
    """The value as the type has it; what cannot be told is left to the function. Raises TypeError."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or origin is Iterable:
        return value
    if origin in (typing.Union, types.UnionType):
        for part in arguments:
            try:
                return _fitted(value, part)
            except TypeError:
                continue
        raise TypeError
    if origin is Literal:
        fits = isinstance(value, str) and value in arguments
    elif origin is Sequence:
        if isinstance(value, list | tuple | range):
            return tuple(_fitted(item, arguments[0]) for item in value)
        fits = False
    elif origin is Mapping and isinstance(value, Mapping):
        return {_fitted(key, arguments[0]): _fitted(item, arguments[1]) for key, item in value.items()}
    elif hint is bool:
        fits = isinstance(value, bool)
    elif hint in (int, float):
        fits = isinstance(value, numbers.Integral if hint is int else numbers.Real) and not isinstance(value, bool)
        try:
            value = hint(value) if fits else value
        except OverflowError:  # a float cannot hold it
            raise TypeError from None
        fits = fits and value == value  # not NaN
    elif isinstance(origin or hint, type) and not getattr(origin or hint, "_is_protocol", False):
        fits = isinstance(value, origin or hint)
    else:
        fits = True
    if not fits:
        raise TypeError
    return value


def _parts(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def _choices(hint: Any) -> tuple[str, ...]:
    if typing.get_origin(hint) is Sequence:
        return _choices(typing.get_args(hint)[0])
    return typing.get_args(hint) if typing.get_origin(hint) is Literal else ()


def _in_words(hint: Any) -> str:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(repr, arguments))
    if origin is Sequence:
        return "a list of them" if _choices(hint) else f"a list ({_in_words(arguments[0])} each)"
    if origin is Mapping:
        inner = arguments[1]
        return "a mapping by name" if inner is Any else f"a mapping of name → {_in_words(inner)}"
    if origin is os.PathLike:
        return "a path"
    words = {int: "an integer", float: "a number", bool: "True or False", str: "text", Path: "a path"}
    return words.get(hint, "None" if hint is type(None) else getattr(hint, "__name__", str(hint)))
