"""The parents of bench-prune: shipped networks, made wide enough to take some milliseconds."""

from __future__ import annotations

from typing import Any

from edgekit.models.mobilenet_v2 import MobilenetV2
from edgekit.models.resnet import Resnet

#: the paper's blocks with half its expansion and three stages: what trains within minutes and still takes over 2 ms
ROWS = ((1, 96, 1, 1), (3, 160, 2, 2), (3, 384, 2, 2), (3, 512, 2, 1))


def resnet(**arguments: Any) -> Resnet:
    return Resnet(**arguments, width=4.0)


def mobilenet(**arguments: Any) -> MobilenetV2:
    return MobilenetV2(**arguments, rows=ROWS, stem=64, last=1280)
