"""Tasks: data, networks, a loss and a metric."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from edgekit.core.samples import SampleSet
from edgekit.core.signature import OutputSignature, Signature

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgekit.core.artifact import TensorSpec


class Task:
    """Data splits, networks by name, a loss and a metric.

    `models`: the networks (files of `edgekit/models/`, or `net.py:Net`) that it offers, the default first; `fallback`:
    one that serves where it offers none; `pretrained`: one that starts from the weights of a Hugging Face directory,
    with an argument `config` for the contents of its config.json. `classes`: names by index; empty for regression.

    What follows is optional; None, or a task without options, if it is not supported. `Options`: a dataclass of what
    may stand after a question mark (`translation?data=pairs.tsv`); the task is then made with one. `augment(inputs,
    labels, generator)` changes training samples, by default if `augments` is set, else on request. `ship(folder,
    inputs)` adds files to an artifact's folder (a vocabulary). `tell(outputs, inputs, folder)` puts the outputs of one
    sample into words, and `read(text, folder)` reads a sample from a command line.
    """

    name: str = ""
    models: tuple[str, ...] = ()
    fallback: str = ""
    pretrained: str = ""
    licences: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    augments: bool = True
    Options: ClassVar[type | None] = None
    augment: Callable[..., Any] | None = None
    ship: Callable[..., None] | None = None
    tell: Callable[..., Mapping[str, Any]] | None = None
    read: Callable[..., Any] | None = None

    @property
    def default_model(self) -> str:
        """The network that is trained if none is named; "" if there is none."""
        return next(iter(self.models), self.fallback)

    def load(self, split: str) -> SampleSet:
        raise NotImplementedError

    def signature(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Signature:
        """What the inputs of a network of this task are made from, and what its outputs mean: by default, its classes.

        The first input and output come first; those that are left out are not known.
        """
        return Signature((), (OutputSignature("logits", classes=self.classes),) if self.classes else ())

    def arguments(self, model: str) -> Mapping[str, Any]:
        """Keyword arguments, plain JSON values, that build `model` for this task."""
        return {}

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Mean loss of a batch (torch tensors in, torch scalar out)."""
        raise NotImplementedError

    def score(self, outputs: Mapping[str, NDArray[np.floating]], labels: NDArray[Any]) -> Scores:
        raise NotImplementedError


@dataclass(frozen=True)
class Scores:
    """A metric over samples: the mean of one value per sample, or `reduce` applied to one row per sample.

    A metric that is not a mean (mIoU, mAP, AUC, RMSE, F1, …) has `per_sample` of shape (samples, statistics) and a
    `reduce` that accepts any selection of its rows, with repetitions: its intervals are bootstrapped. `luck`: what a
    model reaches that only guesses, where that is known. `by_class`: such rows → a value's name → one for each class,
    NaN for a class that does not occur; the first is what the metric is the mean of. `boxes`: a detector's, per sample
    (n, 6): class, score, x, y, width, height in pixels of the input.
    """

    name: str
    unit: str
    higher_is_better: bool
    per_sample: NDArray[np.floating]
    reduce: Callable[[NDArray[Any]], float] | None = None
    luck: float | None = None
    by_class: Callable[[NDArray[Any]], Mapping[str, NDArray[np.floating]]] | None = None
    boxes: Sequence[NDArray[np.floating]] | None = None

    @property
    def value(self) -> float:
        return float(self.per_sample.mean()) if self.reduce is None else float(self.reduce(self.per_sample))


class Scorer(Protocol):
    """Outputs by name and labels → one value per sample.

    One that the user chose, where the labels allow several, has the metric's `name`.
    """

    def __call__(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores: ...


def chosen_metric(scorer: Scorer | None) -> str:
    """The name of the metric if the samples' labels do not decide it; else ""."""
    return str(getattr(scorer, "name", ""))
