"""Embeddings in TFLite: int8, with one scale for the whole table."""

from __future__ import annotations

from typing import Any


def in_int8() -> dict[str, Any]:
    """The entry of ai-edge-quantizer's recipe; entries after it take precedence.

    Its static recipe leaves embeddings in float, its dynamic one gives every row a scale: tflite-runtime 2.14 loads
    such a file, and computes wrong outputs.
    """
    weights = {"num_bits": 8, "symmetric": True, "granularity": "TENSORWISE", "dtype": "INT"}
    how = {"weight_tensor_config": weights, "compute_precision": "INTEGER", "explicit_dequantize": False}
    return {
        "regex": ".*",
        "operation": "EMBEDDING_LOOKUP",
        "algorithm_key": "min_max_uniform_quantize",
        "op_config": {**how, "skip_checks": False, "min_weight_elements": 0},
    }
