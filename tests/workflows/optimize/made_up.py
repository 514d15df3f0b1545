"""A search space for tests, of five dimensions on a target without a runtime."""

from __future__ import annotations

from edgekit.core.target import Target
from edgekit.workflows.optimize.space import Dimension, Space

SPACE = Space(
    (
        Dimension("precision", ("float", "fp16", "int8"), "float"),
        Dimension("method", ("min-max", "mse"), "min-max"),
        Dimension("runtime", ("onnxruntime", "litert", "openvino"), "onnxruntime"),
        Dimension("threads", (1, 2, 4), 1),
        Dimension("batch", (1, 8), 1),
    ),
    Target("made-up", "", "null"),
    None,
)
