"""A stored model, with what can be done with it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import edgekit
from edgekit.core import registry
from edgekit.core.artifact import Artifact, TensorSpec
from edgekit.core.errors import CannotConvert, InputError
from edgekit.core.history import is_history
from edgekit.ondevice import table
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
    functions of the same names, on this model.

    >>> model = edgekit.load("runs/mnist/onnx")  # doctest: +SKIP
    >>> model.size, model.precision  # doctest: +SKIP
    (8924, 'float')
    """

    def __init__(self, artifact: Artifact) -> None:
        #: the stored record
        self.artifact = artifact

    @property
    def name(self) -> str:
        """In its run folder: "onnx-int8"."""
        return self.artifact.name

    @property
    def path(self) -> Path:
        """Its folder, which is also how commands name it: runs/mnist/onnx-int8."""
        return self.artifact.path

    @property
    def file(self) -> Path:
        """The file that a runtime loads."""
        return self.path / str(registry.load("formats", self.format).file)

    @property
    def format(self) -> str:
        """torch, onnx, tflite or openvino."""
        return self.artifact.kind.format

    @property
    def precision(self) -> str:
        """float, int8, fp16 or dynamic."""
        return self.artifact.kind.precision or "float"

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return self.artifact.sizes.total

    @property
    def task(self) -> str:
        """The task that it was trained for, or the data; "" if that is not known."""
        return self.artifact.task

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """Names, dtypes and shapes; None where a size is open."""
        return self.artifact.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """Names, dtypes and shapes; None where a size is open."""
        return self.artifact.outputs

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that its first output scores; empty if it does not, or they are not known."""
        return self.artifact.signature.classes

    def predict(self, x: Any, *, target: str = "host") -> Any:
        """As `edgekit.predict`."""
        return edgekit.predict(self, x, target=target)

    def export(self, to: str = "onnx", **options: Any) -> Model:
        """As `edgekit.export`, to one format."""
        return edgekit.export(self, to, **options)

    def quantize(self, **options: Any) -> Model:
        """As `edgekit.quantize`, in one format."""
        made: Model = edgekit.quantize(self, **options)
        return made

    def prune(self, **options: Any) -> Model:
        """As `edgekit.prune`."""
        return edgekit.prune(self, **options)

    def bench(self, data: Any = None, **options: Any) -> Results:
        """As `edgekit.bench`."""
        return edgekit.bench(self, data, **options)

    def deploy(self, target: str, **options: Any) -> Deployment:
        """As `edgekit.deploy`."""
        return edgekit.deploy(self, target, **options)

    @property
    def history(self) -> list[dict[str, Any]]:
        """One entry per epoch of its training: epoch, loss, val_loss, val_METRIC, lr, and `kept` if it was the best so
        far; empty if it was not trained here. `pandas.DataFrame(model.history)` is a table of it."""
        stored: Any = self.artifact.details.get("history")
        return list(stored) if is_history(stored) else []

    def plot_training(self, title: str = "") -> Picture:
        """Loss and metric by epoch, as an SVG that a notebook displays; `.save("training.svg")` writes it.

        Raises InputError if it was not trained here.
        """
        if not self.history:
            what = f"{self.path} has no training history"
            raise InputError(what, "it was not made by training", "plot the model that edgekit.train returned")
        return plot_training(self.history, title or str(self.path))

    def __fspath__(self) -> str:
        return str(self.path)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and (self.artifact.id, self.path) == (other.artifact.id, other.path)

    def __hash__(self) -> int:
        return hash(self.artifact.id)

    def __repr__(self) -> str:
        return f"<Model {self.path}: {self.artifact.kind}, {self.size:,} bytes>"


def word(model: Any, example: Any = None, out: Path | None = None) -> str | None:
    """How the workflows name a model: a Model or artifact by its folder, a torch module by a program traced with
    `example`. Raises InputError for a module without an example, and for other objects."""
    if model is None or isinstance(model, str):
        return model
    if isinstance(model, Model | Path):
        return str(model.path if isinstance(model, Model) else model)
    if isinstance(model, Artifact):
        return str(model.path)
    if hasattr(model, "state_dict") and callable(model):
        if example is None:
            what = f"the network {type(model).__name__} has no example"
            next = "edgekit.import_model(network, example=x): a sample with its batch axis, or a tuple of them"
            raise InputError(what, "its inputs' shapes are not known", next)
        return str(traced(model, example, out or RUNS / type(model).__name__.lower()))
    raise InputError(
        f"{type(model).__name__} is no model", "", "pass a path, a Model, or a torch module with example=x"
    )


def traced(module: Any, example: Any, run: Path) -> Path:
    """The module as a torch.export program in the run folder; axis 0 of its inputs stays open where it can.

    Raises CannotConvert with torch's reason.
    """
    import torch

    examples = tuple(map(_batch, example if isinstance(example, tuple | list) else (example,)))
    with _evaluating(module), torch.no_grad():
        try:
            try:
                axes = tuple({0: torch.export.Dim.AUTO} for _ in examples)
                program = torch.export.export(module, examples, dynamic_shapes=axes)
            except Exception:  # torch.export raises many types; without open axes it says what is really wrong
                program = torch.export.export(module, examples)
        except Exception as error:
            why = str(error).strip().partition("\n")[0]
            what = f"torch.export cannot trace {type(module).__name__}"
            raise CannotConvert(what, why, "see https://docs.pytorch.org/docs/stable/export.html") from error
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    run.mkdir(parents=True, exist_ok=True)
    written.write(run, "network.pt2", buffer.getvalue())
    return run / "network.pt2"


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


def run_of(model: Any, out: str | Path | None) -> Path:
    """The run folder that a call works in: `out`, or the model's own."""
    if out is not None:
        return Path(out)
    if isinstance(model, Model | Artifact):
        return model.path.parent
    if model is None or isinstance(model, str | Path):
        return references.resolve(None if model is None else str(model)).store.path
    return RUNS / type(model).__name__.lower()


def stacked(x: Any, inputs: Sequence[TensorSpec]) -> Mapping[str, NDArray[Any]]:
    """Arrays by input name, each (N, …); a DataFrame by the names of its columns, if the model knows them.

    Raises InputError where names do not fit.
    """
    if hasattr(x, "to_csv") and hasattr(x, "columns"):
        if len(inputs) == 1 and tables.columns_of(inputs[0]):
            rows = table.read_csv(io.StringIO(x.to_csv(index=False)))  # as in training
            named = ((f"row {number}", row) for number, row in enumerate(rows))
            return {inputs[0].name: tables.encode(named, inputs[0])}
        x = x.to_numpy(np.float32)
    values = x if isinstance(x, Mapping) else dict(zip([s.name for s in inputs], [x], strict=False))
    if set(values) != {spec.name for spec in inputs}:
        takes = ", ".join(map(str, inputs))
        raise InputError("the inputs do not fit the model", f"it takes {takes}", "pass a mapping of name → array")
    found = {}
    for spec in inputs:
        value = values[spec.name]
        array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
        found[spec.name] = array.astype(spec.dtype) if spec.quantization is None else array.astype(np.float32)
    return found
