"""torchvision's one-stage detectors (SSD, RetinaNet, FCOS) as networks of images: boxes and scores of every anchor.

torchvision's own forward takes and returns lists, resizes inside, and ends in non-maximum suppression, whose number of
boxes no file can hold. What is left out here is done by the signature: resizing before, suppression after.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature, OutputSignature, Resize, Signature

ONE_STAGE, TWO_STAGES = ("SSD", "RetinaNet", "FCOS"), "GeneralizedRCNN"

#: ImageNet's mean colour as a grey level: torchvision pads images that are normalized already with 0
GREY = 114.0


def is_detector(network: nn.Module) -> bool:
    """Is it a whole detector, with torchvision's own `forward`? Backbones, necks and heads are networks like others,
    and so is a detector whose user wrote another forward."""
    own = str(getattr(type(network).forward, "__module__", ""))
    return own.startswith("torchvision.models.detection.") and bool({TWO_STAGES, *ONE_STAGE} & _classes(network))


def _classes(network: nn.Module) -> set[str]:
    return {c.__name__ for c in type(network).__mro__ if c.__module__.startswith("torchvision.models.detection.")}


def as_tensors(network: nn.Module) -> nn.Module:
    """The detector as a network of tensors; any other network as it is. Raises InputError for one of two stages."""
    if not is_detector(network):
        return network
    if kinds := _classes(network) & set(ONE_STAGE):
        return OneStage(network, kinds.pop())
    what = f"{type(network).__name__} returns as many boxes as it finds"
    why = "its second stage runs on the regions that the first one finds: such a network cannot be traced"
    next = "export it to ONNX as torchvision documents it, and import the file with --signature torchvision"
    raise InputError(what, why, next)


def stacked(example: Any) -> Any:
    """torchvision's example, a list of images (3, H, W), as one tensor (N, 3, H, W); anything else as it is."""
    images = example[0] if isinstance(example, list | tuple) and len(example) == 1 else example
    images = [images] if isinstance(images, Tensor) and images.ndim == 3 else images
    if isinstance(images, list | tuple) and images and all(isinstance(i, Tensor) and i.ndim == 3 for i in images):
        if len({image.shape for image in images}) > 1:
            raise InputError("the example images differ in size", "a batch has one size", "use images of one size")
        return torch.stack(list(images))
    return images


class OneStage(nn.Module):
    """(N, 3, H, W) images, normalized, → boxes (N, anchors, 4) as x0, y0, x1, y1 in pixels of the input, clipped to it,
    and scores (N, anchors, classes) from 0 to 1; the first class is the background.

    The parameters have the names of torchvision's. Boxes: Ren et al. 2015 (arXiv:1506.01497), equation 2, or, FCOS,
    Tian et al. 2019 (arXiv:1904.01355), equation 1.
    """

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        detector: Any = network
        self.backbone, self.head, self.kind = detector.backbone, detector.head, kind
        self.transform, self.coder, self.generator = detector.transform, detector.box_coder, detector.anchor_generator
        # as numbers, which a trace keeps: the anchors of a cell, (k, 4) corners, or SSD's (k, 2) sides
        cells = getattr(self.generator, "cell_anchors", None) or self.generator._wh_pairs
        self.cells = [np.asarray(cell) for cell in cells]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = self.backbone(images)
        features = [features] if isinstance(features, Tensor) else list(features.values())
        found = self.head(features)
        grids = [(int(part.shape[-2]), int(part.shape[-1])) for part in features]
        height, width = int(images.shape[-2]), int(images.shape[-1])
        self._check_size(height, width)
        anchors = self._anchors(grids, (height, width))
        boxes = self._boxes(found["bbox_regression"], torch.from_numpy(anchors).to(images.dtype))
        boxes = boxes.clamp(min=0).minimum(images.new_tensor([width, height, width, height]))  # before suppression
        logits = found["cls_logits"]
        if self.kind == "SSD":
            scores = logits.softmax(-1)
        elif self.kind == "FCOS":
            scores = (logits.sigmoid() * found["bbox_ctrness"].sigmoid()).sqrt()
        else:
            scores = logits.sigmoid()
        return {"boxes": boxes, "scores": scores}

    def signature(self, height: int, width: int) -> Signature:
        """torchvision's preprocessing to images of this size: SSD stretches them, the others keep the aspect ratio."""
        transform: Any = self.transform
        size = height if height == width else (height, width)
        image = InputSignature(
            "image",
            colour="RGB",
            resize=Resize("stretch", size) if transform.fixed_size else Resize("letterbox-corner", size, GREY),
            antialias=False,
            scale=1 / 255,
            mean=tuple(map(float, transform.image_mean)),
            std=tuple(map(float, transform.image_std)),
        )
        boxes = OutputSignature("boxes", name="boxes", boxes="xyxy")
        return Signature((image,), (boxes, OutputSignature("scores", name="scores", background="first")))

    def _check_size(self, height: int, width: int) -> None:
        """torchvision pads images to a multiple, by which the anchors are placed. Raises InputError for other sizes."""
        multiple = 1 if self.kind == "SSD" else int(self.transform.size_divisible)
        if height % multiple or width % multiple:
            fitting = " x ".join(str(-(-side // multiple) * multiple) for side in (height, width))
            why = f"{self.kind} places its anchors on images whose sides are multiples of {multiple}"
            raise InputError(f"the example image is {height} x {width} pixels", why, f"use {fitting}")

    def _anchors(self, grids: Sequence[tuple[int, int]], size: tuple[int, int]) -> NDArray[np.float32]:
        """(anchors, 4): x0, y0, x1, y1 in pixels, level by level, cell by cell."""
        levels = []
        for index, (rows, columns) in enumerate(grids):
            row, column = (a.reshape(-1) for a in np.meshgrid(range(rows), range(columns), indexing="ij"))
            if self.kind != "SSD":  # around a cell's upper left corner, in pixels
                x, y = column * (size[1] // columns), row * (size[0] // rows)
                corners = np.stack([x, y, x, y], axis=1)[:, None] + self.cells[index]
            else:  # around a cell's centre, as shares of the image
                steps, sides = self.generator.steps, self.cells[index]
                high, wide = (size[0] / steps[index], size[1] / steps[index]) if steps else (rows, columns)
                centres = np.stack([(column + 0.5) / wide, (row + 0.5) / high], axis=1)[:, None]
                halves = (np.clip(sides, 0, 1) if self.generator.clip else sides) / 2
                corners = np.concatenate([centres - halves, centres + halves], axis=2) * (*size[::-1], *size[::-1])
            levels.append(corners.reshape(-1, 4))
        return np.concatenate(levels).astype(np.float32)

    def _boxes(self, codes: Tensor, anchors: Tensor) -> Tensor:
        low, high = anchors[:, :2], anchors[:, 2:]
        centre, side = (low + high) / 2, high - low
        if self.kind == "FCOS":
            factors = torch.cat([side, side], dim=1) if self.coder.normalize_by_size else 1.0
            edges = codes * factors
            return torch.cat([centre - edges[..., :2], centre + edges[..., 2:]], dim=-1)
        x, y, width, height = self.coder.weights
        centres = codes[..., :2] / codes.new_tensor([x, y]) * side + centre
        logarithms = (codes[..., 2:] / codes.new_tensor([width, height])).clamp(max=self.coder.bbox_xform_clip)
        halves = logarithms.exp() * side / 2
        return torch.cat([centres - halves, centres + halves], dim=-1)
