"""Tables of embeddings in TFLite: int8 rows that are looked up, with one scale for the whole table."""

from __future__ import annotations

from typing import Any


def in_int8() -> dict[str, Any]:
    """The entry of ai-edge-quantizer's recipe; what follows it in the recipe has the last word.

    Its static recipe leaves tables in float, its dynamic one gives every row a scale: tflite-runtime 2.14 takes such a
    file, and answers with something else.
    """
    weights = {"num_bits": 8, "symmetric": True, "granularity": "TENSORWISE", "dtype": "INT"}
    how = {"weight_tensor_config": weights, "compute_precision": "INTEGER", "explicit_dequantize": False}
    return {
        "regex": ".*",
        "operation": "EMBEDDING_LOOKUP",
        "algorithm_key": "min_max_uniform_quantize",
        "op_config": {**how, "skip_checks": False, "min_weight_elements": 0},
    }
