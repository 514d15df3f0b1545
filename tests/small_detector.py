"""A detector of two branches as an ONNX file, for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_files
from numpy.typing import NDArray
from onnx.helper import make_node as node

SIDES = [1, 1, 1, 1]


def weights(*shape: int) -> NDArray[np.float32]:
    return (np.random.default_rng(shape[0]).normal(size=shape) * (shape[1] * 9) ** -0.5).astype(np.float32)


def save(path: Path, *, layer_after: bool = False, reshaped: bool = False) -> Path:
    """Boxes (4 channels, up to hundreds of pixels) and scores (5, from 0 to 1) of 8 x 8 cells.

    `layer_after`: a convolution follows the concatenation. `reshaped`: a Reshape does, to (1, 9, 64).
    """
    nodes = [
        node("Conv", ["x", "stem"], ["a"], name="stem", pads=SIDES),
        node("Relu", ["a"], ["m"], name="relu"),
        node("Conv", ["m", "body"], ["h"], name="body", pads=SIDES),
        node("Relu", ["h"], ["r"], name="relu-2"),
        node("Conv", ["r", "box"], ["b"], name="box", pads=SIDES),
        node("Conv", ["r", "cls"], ["c"], name="cls", pads=SIDES),
        node("Exp", ["b"], ["e"], name="exp"),
        node("Mul", ["e", "stride"], ["p"], name="pixels"),
        node("Sigmoid", ["c"], ["s"], name="scores"),
        node("Concat", ["p", "s"], ["j" if layer_after or reshaped else "y"], name="join", axis=1),
        *([node("Conv", ["j", "last"], ["y"], name="last", pads=SIDES)] if layer_after else []),
        *([node("Reshape", ["j", "cells"], ["y"], name="list")] if reshaped else []),
    ]
    constants = {"stem": weights(64, 3, 3, 3), "body": weights(64, 64, 3, 3), "stride": np.float32(32)}
    constants |= {"box": weights(4, 64, 3, 3), "cls": weights(5, 64, 3, 3)}
    constants |= {"last": weights(9, 9, 3, 3)} if layer_after else {}
    constants |= {"cells": np.array([1, 9, 64])} if reshaped else {}
    shape = [1, 9, 64] if reshaped else [1, 9, 8, 8]
    return onnx_files.save(path, nodes, [("x", 1, [1, 3, 8, 8])], [("y", 1, shape)], constants, 17)
