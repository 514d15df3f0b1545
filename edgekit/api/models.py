"""A stored model, with what can be done with it."""

from __future__ import annotations

import dataclasses
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard, Unpack

import numpy as np
from numpy.typing import NDArray

import edgekit
from edgekit.api.data import LABEL, arrays, slug
from edgekit.api.options import (
    AnyPath,
    BenchArguments,
    DeployArguments,
    ExportArguments,
    Format,
    Module,
    Precision,
    PruneArguments,
    QuantizeArguments,
    Samples,
    Shape,
)
from edgekit.api.reporting import table
from edgekit.core import registry
from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.errors import CannotConvert, InputError
from edgekit.core.history import is_history
from edgekit.ondevice import table as encoding
from edgekit.runs import references, written
from edgekit.runs.references import RUNS
from edgekit.sets import tables
from edgekit.workflows.compare.notebook import Picture, plot_training

if TYPE_CHECKING:
    from edgekit.api.results import Results
    from edgekit.workflows.deploy import Deployment


class Model:
    """One model of a run folder: a network of torch, or a file that a runtime on a device loads.

    Made by `edgekit.train`, `import_model`, `load`, `export`, `quantize`, `prune` and `optimize`. Its methods are the
    functions of the same names, on this model. It is a path (`os.PathLike`), can be pickled and copied, and two are
    equal if they are the same stored model. It stays valid when the working directory changes.

    Args:
        artifact: The stored record; `edgekit.load` reads it.

    Attributes:
        artifact: The stored record, with everything that is known of the model.

    Examples:
        >>> model = edgekit.load("runs/mnist/onnx")
        >>> model.format, model.precision
        ('onnx', 'float')
        >>> model.predict(np.zeros((2, 1, 28, 28), np.float32)).shape
        (2, 10)
    """

    def __init__(self, artifact: Artifact) -> None:
        #: the stored record
        self.artifact = dataclasses.replace(artifact, path=artifact.path.absolute())

    @property
    def name(self) -> str:
        """Its name in the run folder.

        Examples:
            >>> edgekit.load("runs/mnist/onnx-int8").name
            'onnx-int8'
        """
        return self.artifact.name

    @property
    def path(self) -> Path:
        """Its folder, absolute; commands and functions take it for the model.

        Examples:
            >>> model = edgekit.load("runs/mnist/onnx")
            >>> model.path == Path("runs/mnist/onnx").absolute()
            True
        """
        return self.artifact.path

    @property
    def file(self) -> Path:
        """The file that a runtime loads, absolute.

        Examples:
            >>> edgekit.load("runs/mnist/onnx").file.name
            'model.onnx'
        """
        return self.path / str(registry.load("formats", self.format).file)

    @property
    def format(self) -> str:
        """torch, onnx, tflite or openvino.

        Examples:
            >>> edgekit.load("runs/mnist").format
            'torch'
        """
        return self.artifact.kind.format

    @property
    def precision(self) -> str:
        """float, int8, fp16 or dynamic.

        Examples:
            >>> edgekit.load("runs/mnist/onnx-int8").precision
            'int8'
        """
        return self.artifact.kind.precision or "float"

    @property
    def size(self) -> int:
        """Bytes of all its files.

        Examples:
            >>> edgekit.load("runs/mnist/onnx-int8").size < edgekit.load("runs/mnist/onnx").size
            True
        """
        return self.artifact.sizes.total

    @property
    def task(self) -> str:
        """The task that it was trained for, or the data; "" if that is not known.

        Examples:
            >>> edgekit.load("runs/mnist/onnx").task
            'mnist'
        """
        return self.artifact.task

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape of each input; None where a size is open.

        Examples:
            >>> edgekit.load("runs/mnist/onnx").inputs[0].shape
            (None, 1, 28, 28)
        """
        return self.artifact.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Name, dtype and shape of each output; None where a size is open.

        Examples:
            >>> edgekit.load("runs/mnist/onnx").outputs[0].shape
            (None, 10)
        """
        return self.artifact.outputs

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that its first output scores; empty if it does not, or they are not known.

        Examples:
            >>> edgekit.load("runs/mnist/onnx").classes[:3]
            ('0', '1', '2')
        """
        return self.artifact.signature.classes

    def predict(self, x: Any, *, target: str = "host", top: int = 5, draw: str | Path | None = None) -> Any:
        """Run the model on inputs; see `edgekit.predict`.

        Args:
            x: Arrays (N, …), a DataFrame, a mapping of input name → array, or paths of files.
            target: The device that runs it.
            top: For files: how many classes.
            draw: For image files and a detector: the folder that each image with its boxes is written into.

        Returns:
            The output (N, …), or a mapping of output name → array if there are several.

        Raises:
            InputError: `x` does not fit.

        Examples:
            >>> edgekit.load("runs/mnist/onnx").predict(np.zeros((4, 1, 28, 28))).shape
            (4, 10)
        """
        return edgekit.predict(self, x, target=target, top=top, draw=draw)

    def export(self, to: Format = "onnx", **options: Unpack[ExportArguments]) -> Model:
        """Export a float model to one format; see `edgekit.export`.

        Args:
            to: The format.
            **options: Those of `edgekit.export`.

        Returns:
            The new model, in the same run folder.

        Raises:
            ParityFailed: The outputs differ from this model's.
            CannotConvert: The format has no such operator.

        Examples:
            >>> edgekit.load("runs/mnist").export("onnx").name
            'onnx'
        """
        return edgekit.export(self, to, **options)

    def quantize(
        self, precision: Precision = "int8", *, to: Format | None = None, **options: Unpack[QuantizeArguments]
    ) -> Model:
        """Quantize the model within an accuracy budget; see `edgekit.quantize`.

        Args:
            precision: int8, fp16, dynamic, w8 or w4.
            to: A format; None: the model's own, ONNX for a torch model.
            **options: Those of `edgekit.quantize`: calibration, val, max_drop, methods, effort and others.

        Returns:
            The new model, in the same run folder.

        Raises:
            BudgetMissed: No method keeps the budget.
            InputError: Samples are missing.

        Examples:
            >>> edgekit.load("runs/mnist/onnx").quantize("fp16").precision
            'fp16'
        """
        return edgekit.quantize(self, precision, to=to, **options)

    def prune(self, **options: Unpack[PruneArguments]) -> Model:
        """Remove channels, then fine-tune; see `edgekit.prune`.

        Args:
            **options: Those of `edgekit.prune`: one of ratio, macs, parameters and speedup, and others.

        Returns:
            The new torch model, in the same run folder.

        Raises:
            BudgetMissed: It lost more accuracy than the budget allows.
            CannotConvert: The goal cannot be reached.

        Examples:
            >>> edgekit.load("runs/mnist").prune(ratio=0.5, epochs=0, max_drop=100).name
            'prune50.torch'
        """
        return edgekit.prune(self, **options)

    def bench(self, data: Samples | None = None, **options: Unpack[BenchArguments]) -> Results:
        """Measure accuracy, latency, memory and size; see `edgekit.bench`.

        Args:
            data: Samples with labels; None: the task's test split.
            **options: Those of `edgekit.bench`: target, quick, threads and others.

        Returns:
            One measurement for each target, runtime and number of threads.

        Raises:
            DeviceError: A device cannot be reached, or failed.

        Examples:
            >>> results = edgekit.load("runs/mnist/onnx").bench(quick=True, processes=1)
            >>> results[0].runtime
            'onnxruntime'
        """
        return edgekit.bench(self, data, **options)

    def deploy(self, target: str, **options: Unpack[DeployArguments]) -> Deployment:
        """Install the model on a device; see `edgekit.deploy`.

        Args:
            target: The device's name.
            **options: Those of `edgekit.deploy`: path, runtime, data.

        Returns:
            What was sent, and the result of the check on the device.

        Raises:
            DeviceError: The device cannot be reached, or its outputs differ.

        Examples:
            >>> edgekit.load("runs/mnist/onnx").deploy("host", path="deployed").target
            'host'
        """
        return edgekit.deploy(self, target, **options)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One entry per epoch of its training: epoch, loss, val_loss, val_METRIC, lr, and `kept` if it was the best so
        far; empty if it was not trained here. `pandas.DataFrame(model.history)` is a table of it.

        Examples:
            >>> [epoch["epoch"] for epoch in edgekit.load("runs/mnist").history][:1]
            [1]
        """
        stored: Any = self.artifact.details.get("history")
        return list(stored) if is_history(stored) else []

    def plot_training(self, title: str = "") -> Picture:
        """Loss and metric by epoch, as an SVG that a notebook displays; `.save("training.svg")` writes it.

        Raises:
            InputError: It was not trained here.

        Examples:
            >>> edgekit.load("runs/mnist").plot_training().save("training.svg").name
            'training.svg'
        """
        if not self.history:
            what = f"{self.path} has no training history"
            raise InputError(what, "it was not made by training", "plot the model that edgekit.train returned")
        return plot_training(self.history, title or str(self.path))

    def __fspath__(self) -> str:
        return str(self.path)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        return (self.artifact.id, self.path.resolve()) == (other.artifact.id, other.path.resolve())

    def __hash__(self) -> int:
        return hash(self.artifact.id)

    def __repr__(self) -> str:
        return f"<Model {shortest(self.path)}: {self.artifact.kind}, {self.size:,} bytes>"

    def _repr_html_(self) -> str:
        tensors = [("inputs", self.inputs), ("outputs", self.outputs)]
        rows = [("path", str(shortest(self.path))), ("kind", str(self.artifact.kind)), ("size", f"{self.size:,} bytes")]
        return table([*rows, *((side, ", ".join(map(str, specs))) for side, specs in tensors)])


def shortest(path: Path) -> Path:
    """Relative to the working directory, if it is in it."""
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path


def is_module(value: Any) -> TypeGuard[Module]:
    """Is it a torch module?"""
    return hasattr(value, "state_dict") and callable(value)


def word(model: Any, example: Any = None, out: Path | None = None, shape: Shape | None = None) -> str | None:
    """How the workflows name a model: a Model or artifact by its folder, a torch module by a program traced with
    `example`, or zeros of the only input's `shape`. Raises InputError for a module without either, and other objects.
    """
    if model is None or isinstance(model, str):
        return model
    if isinstance(model, Model | Artifact):
        return str(shortest(model.path))
    if isinstance(model, os.PathLike):
        return str(os.fspath(model))
    if is_module(model):
        if example is None and isinstance(shape, Sequence):
            try:
                example = np.zeros(check_shape(shape), np.float32)
            except (ValueError, MemoryError) as error:
                raise InputError(f"shape {tuple(shape)} is too large", str(error), "pass example=x") from error
        if example is None:
            what = f"the network {type(model).__name__} has no example"
            next = "edgekit.import_model(network, example=x): a sample with its batch axis, or a tuple of them"
            raise InputError(what, "its inputs' shapes are not known", next)
        return str(traced(model, example, run_of(model, out)))
    what = f"{type(model).__name__} is no model"
    raise InputError(what, "", "pass a path, a Model, or a torch module with example=x")


def check_shape(sizes: Sequence[int]) -> tuple[int, ...]:
    """The sizes of an input. Raises InputError for one that is not positive."""
    if not all(size > 0 for size in sizes):
        raise InputError(f"shape must be positive integers, not {tuple(sizes)}", "", "pass the sizes, batch included")
    return tuple(sizes)


def traced(module: Any, example: Any, run: Path) -> Path:
    """The module as a torch.export program in the run folder; axis 0 of its inputs stays open where it can.

    Raises InputError if the module does not take the example, CannotConvert with torch's reason.
    """
    import torch

    examples = tuple(map(_batch, example if isinstance(example, tuple | list) else (example,)))
    with _evaluating(module), torch.no_grad(), _quiet_tracing():
        try:
            module(*examples)
        except Exception as error:
            shapes = ", ".join(str(list(tensor.shape)) for tensor in examples)
            what = f"{type(module).__name__} cannot compute the example"
            raise InputError(what, f"{_first_line(error)} (with {shapes})", "pass an example that it takes") from error
        try:
            try:
                axes = tuple({0: torch.export.Dim.AUTO} for _ in examples)
                program = torch.export.export(module, examples, dynamic_shapes=axes)
            except Exception:  # torch.export raises many types; without open axes it says what is really wrong
                program = torch.export.export(module, examples)
        except Exception as error:
            what = f"torch.export cannot trace {type(module).__name__}"
            raise CannotConvert(
                what, _first_line(error), "see https://docs.pytorch.org/docs/stable/export.html"
            ) from error
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    run.mkdir(parents=True, exist_ok=True)
    written.write(run, "network.pt2", buffer.getvalue())
    return run / "network.pt2"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


@contextmanager
def _quiet_tracing() -> Iterator[None]:
    """torch logs the traceback of a failed attempt, which is not the last."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    before = log.disabled
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = before


def _batch(value: Any) -> Any:
    """A tensor of at least two samples: torch.export takes a size of one for a constant."""
    import torch

    tensor = value if isinstance(value, torch.Tensor) else torch.as_tensor(np.asarray(value))
    tensor = tensor.float() if tensor.dtype == torch.float64 else tensor
    return torch.cat([tensor, tensor]) if tensor.ndim and tensor.shape[0] == 1 else tensor


@contextmanager
def _evaluating(module: Any) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def run_of(model: Any, out: AnyPath | None) -> Path:
    """The run folder that a call works in: `out`, or the model's own."""
    if out is not None:
        return Path(out)
    if is_module(model):
        return RUNS / slug(type(model).__name__)
    return references.resolve(word(model)).store.path


def stacked(x: Any, inputs: Sequence[TensorSpec]) -> Mapping[str, NDArray[Any]]:
    """Arrays by input name, each (N, …); a DataFrame by the names of its columns, if the model knows them; labels that
    come with them are left out.

    Raises InputError where names, shapes or types do not fit.
    """
    if hasattr(x, "to_csv") and hasattr(x, "columns") and len(inputs) == 1 and tables.columns_of(inputs[0]):
        try:
            rows = encoding.read_csv(io.StringIO(x.to_csv(index=False)))  # as in training
        except ValueError as error:
            raise InputError("the DataFrame cannot be read", str(error), "rename its columns") from error
        named = [(f"row {number}", row) for number, row in enumerate(rows)]
        return {inputs[0].name: tables.encode("the DataFrame", named, inputs[0])}
    names = tuple(spec.name for spec in inputs)
    values = {name: value for name, value in arrays(x, names).items() if name != LABEL or name in names}
    if set(values) != set(names):
        takes = ", ".join(map(str, inputs))
        raise InputError("the inputs do not fit the model", f"it takes {takes}", "pass a mapping of name → array")
    return {spec.name: _fitting(values[spec.name], spec) for spec in inputs}


def _fitting(array: NDArray[Any], spec: TensorSpec) -> NDArray[Any]:
    pairs = enumerate(zip(array.shape, spec.shape, strict=False))
    wrong = any(size is not None and axis != spec.batch_axis and size != given for axis, (given, size) in pairs)
    if wrong or array.ndim != len(spec.shape):
        shape = ", ".join(map(str, array.shape))
        one = spec.batch_axis == 0 and array.shape == spec.shape[1:]
        next = "pass x[None]: one sample needs its batch axis" if one else "reshape it; axis 0 is the sample"
        raise InputError(f"the input has shape ({shape})", f"the model takes {spec}", next)
    if array.dtype.kind not in "biuf":
        raise InputError(f"the input is {array.dtype}", f"the model takes {spec}", "pass numbers")
    dtype = np.dtype(spec.dtype if spec.quantization is None else np.float32)
    if dtype.kind in "iu":
        _refuse_what_is_no_integer(array, dtype, spec)
    return array.astype(dtype)


def _refuse_what_is_no_integer(array: NDArray[Any], dtype: np.dtype[Any], spec: TensorSpec) -> None:
    """Raises InputError for fractions, NaN, and what is out of the type's range: a cast would change them."""
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    values = (
        array.astype(np.float64)
        if array.dtype.kind == "f"
        else array.astype(np.int8 if array.dtype == bool else array.dtype)
    )
    fits = (values >= low) & (values < high + 1) & (values == np.trunc(values))
    if not fits.all():
        what = f"the input holds {values[~fits].flat[0]:g}"
        why = f"the model takes {spec}: integers from {low} to {high}"
        raise InputError(what, why, f"scale and round x to that range: x.round().astype({dtype.name!r})")
