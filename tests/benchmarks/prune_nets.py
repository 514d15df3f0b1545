"""The parents of bench-prune: shipped networks, made wide enough to take some milliseconds."""

from __future__ import annotations

from typing import Any

from edgekit.models.mobilenet_v2 import MobilenetV2
from edgekit.models.resnet import Resnet

#: as the shipped network's, every stage twice as wide
ROWS = ((1, 32, 1, 2), (6, 48, 2, 1), (6, 64, 2, 2), (6, 128, 2, 1))


def resnet(**arguments: Any) -> Resnet:
    return Resnet(**arguments, width=4.0)


def mobilenet(**arguments: Any) -> MobilenetV2:
    return MobilenetV2(**arguments, rows=ROWS, stem=32, last=512)
