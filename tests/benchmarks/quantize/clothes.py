"""Networks of timm at 224 x 224, and Fashion-MNIST scaled to what they take.

Their pretrained weights are not in any package. So the body of each is as timm initializes it, with the statistics of
its BatchNorms from training images, and its last layer is fitted to the labels by ridge regression on the features of
2,000 of them. What int8 costs in time is that of the trained network; what it costs in accuracy may differ.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.sets.reading import sample_set
from edgekit.tasks.fashion_mnist import FashionMnist
from edgekit.tasks.shared.base import Classification

if TYPE_CHECKING:
    from torch import Tensor, nn

SIZE = 224
SAMPLES = {"train": 256, "val": 300, "test": 1000}
FITTED, BATCH, PENALTY = 2000, 50, 1.0


class Clothes(Classification):
    """Images (N, 3, 224, 224) float32, -1 to 1 → logits (N, 10)."""

    models = ("clothes.py:mobilenet_v3_small",)
    licences = ("Fashion-MNIST (MIT)", "timm (Apache 2.0)")
    classes = FashionMnist.classes

    def arguments(self, model: str) -> Mapping[str, Any]:
        return {}

    def load(self, split: str) -> SampleSet:
        if split not in SAMPLES:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SAMPLES)}")
        images, labels = _images(split, SAMPLES[split])
        return sample_set(f"{self.name}:{split}", {"input": scaled(images)}, labels)


def _images(split: str, count: int) -> tuple[NDArray[np.uint8], NDArray[Any]]:
    """The first images (N, 28, 28) of a split, and their labels."""
    images, labels = FashionMnist().samples()
    first, last = FashionMnist.splits[split]
    return images[first : min(first + count, last), 0], labels[first : min(first + count, last)]


def scaled(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N, 28, 28) → (N, 3, 224, 224), bilinear, -1 to 1."""
    import torch
    from torch.nn.functional import interpolate

    small = torch.from_numpy(images.astype(np.float32) / 127.5 - 1)[:, None]
    return interpolate(small, (SIZE, SIZE), mode="bilinear").expand(-1, 3, -1, -1).contiguous().numpy()


def _timm() -> Any:
    """The package. Raises InputError where it is not installed."""
    if folder := os.environ.get("EDGEKIT_OUTSIDE"):
        sys.path.append(folder)
    try:
        import torch

        # torchvision, which timm imports, registers operators that are built for another torch
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import timm
    except ImportError as error:
        how = "pip install --no-deps --target FOLDER -r tests/outside.txt, then EDGEKIT_OUTSIDE=FOLDER"
        raise InputError(f"timm cannot be imported: {error}", next=how) from error
    return timm


def network(name: str) -> Callable[[], tuple[nn.Module, Tensor]]:
    """What makes timm's network of that name, with a fitted last layer, and an example input."""

    def make() -> tuple[nn.Module, Tensor]:
        import torch

        timm = _timm()
        torch.manual_seed(0)
        model: nn.Module = timm.create_model(name, pretrained=False, num_classes=len(Clothes.classes))
        fit(model)
        return model.eval(), torch.zeros(2, 3, SIZE, SIZE)

    return make


def fit(model: nn.Module) -> None:
    """Take the statistics of BatchNorms, then solve for the last layer: (F'F + λI) W = F'Y."""
    import torch
    from torch import nn

    images, labels = _images("train", FITTED)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # type: ignore[assignment]  # the mean over all batches
        norm.train()
    with torch.no_grad():
        for batch in _batches(images[:500] if norms else images[:0]):
            model(batch)
        model.eval()
        head = model.get_classifier()  # type: ignore[operator]
        seen: list[Tensor] = []
        handle = head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].flatten(1)))
        for batch in _batches(images):
            model(batch)
        handle.remove()
        features = torch.cat(seen).double()
        mean = features.mean(0)
        centred = features - mean
        wanted = 10 * torch.nn.functional.one_hot(torch.from_numpy(labels), len(Clothes.classes)).double()
        gram = centred.T @ centred
        penalty = PENALTY * gram.diagonal().mean() * torch.eye(len(gram), dtype=torch.float64)
        weights = torch.linalg.solve(gram + penalty * len(gram) / len(features), centred.T @ (wanted - wanted.mean(0)))
        head.weight.copy_(weights.T.reshape(head.weight.shape))
        head.bias.copy_(wanted.mean(0) - mean @ weights)


def _batches(images: NDArray[np.uint8]) -> Iterator[Tensor]:
    import torch

    for first in range(0, len(images), BATCH):
        yield torch.from_numpy(scaled(images[first : first + BATCH]))


mobilenet_v3_small = network("mobilenetv3_small_100")
efficientnet_b0 = network("efficientnet_b0")
vit_tiny = network("vit_tiny_patch16_224")
convnext_atto = network("convnext_atto")
