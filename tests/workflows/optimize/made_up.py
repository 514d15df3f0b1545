"""A search space for tests, of five dimensions on a target without a runtime; its trials, and workers."""

from __future__ import annotations

from pathlib import Path

from edgekit.core.target import Target
from edgekit.workflows.optimize import claims
from edgekit.workflows.optimize.space import Dimension, Point, Space
from edgekit.workflows.optimize.storage import Storage
from edgekit.workflows.optimize.study import Study, Trial

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


def tried(point: Point) -> Trial:
    """A trial whose figures follow from its point."""
    size = {"float": 400, "fp16": 200, "int8": 110}[str(point["precision"])]
    quality = {"float": 0.9, "fp16": 0.899, "int8": 0.89}[str(point["precision"])] + 0.005 * (point["method"] == "mse")
    speed = {"onnxruntime": 2.0, "litert": 1.0, "openvino": 3.0}[str(point["runtime"])]
    p50 = speed * size / int(point["threads"]) ** 0.5
    return Trial(-1, point, "finished", quality=quality, size_bytes=size, p50_ms=p50)


def shared(path: Path, owner: str, grace_s: float = 60, patience_s: float = 5) -> Study:
    storage = Storage(f"sqlite:///{path}", claims.prepare, patience_s=patience_s)
    return Study(storage, "study", SPACE, 0, "", owner, grace_s)
