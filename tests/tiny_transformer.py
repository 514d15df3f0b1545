"""A small graph in the shape of a transformer, with a tied head, without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper
from onnx_files import save

WORDS, WIDTH, INNER = 96, 64, 100


def network(path: Path, tied: bool = True, seed: int = 0) -> Path:
    """Token ids (N, 12) → logits (N, 12, WORDS): products in each form that exporters write."""
    rng = np.random.default_rng(seed)

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_t(4, shape) / np.sqrt(shape[0])).astype(np.float32)

    constants = {
        "table": weights(WORDS, WIDTH),
        "up": weights(WIDTH, INNER),
        "down": weights(WIDTH, INNER),
        "bias": weights(WIDTH),
        "flat": np.array([-1, INNER], np.int64),
        "deep": np.array([-1, 12, WIDTH], np.int64),
        "gain": np.ones(WIDTH, np.float32),
        **({} if tied else {"head": weights(WIDTH, WORDS)}),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["e"], "embedding"),
        helper.make_node("LayerNormalization", ["e", "gain"], ["n"]),
        helper.make_node("MatMul", ["n", "up"], ["u"], "up"),
        helper.make_node("Relu", ["u"], ["r"]),
        helper.make_node("Reshape", ["r", "flat"], ["f"]),
        helper.make_node("Gemm", ["f", "down", "bias"], ["d"], "down", transB=1),
        helper.make_node("Reshape", ["d", "deep"], ["h"]),
        helper.make_node("Add", ["h", "e"], ["s"]),
        *([helper.make_node("Transpose", ["table"], ["head"], perm=[1, 0])] if tied else []),
        helper.make_node("MatMul", ["s", "head"], ["logits"], "head"),
    ]
    ends = [("ids", TensorProto.INT64, ["N", 12])], [("logits", TensorProto.FLOAT, ["N", 12, WORDS])]
    return save(path, nodes, *ends, constants)
