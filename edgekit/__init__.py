"""edgekit: give it a model, its data and a device; get back the smallest, fastest artifact that keeps its accuracy.

The public API, each imported when first used: load, run, train, quantize, export, bench, optimize, compare, gate, and
for the rows that are compared: advise, page, plot.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgekit.runs.references import load
    from edgekit.workflows.bench import bench
    from edgekit.workflows.compare import compare
    from edgekit.workflows.compare.gate import gate
    from edgekit.workflows.compare.notebook import advise, page, plot
    from edgekit.workflows.export import export
    from edgekit.workflows.optimize import optimize
    from edgekit.workflows.quantize import quantize
    from edgekit.workflows.run import run
    from edgekit.workflows.train import train

# else onnxruntime (1.32) makes an id of this machine in ~/.cache/Microsoft when imported, and records what is done
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
_SHOWING = ("advise", "page", "plot")
__all__ = [
    "__version__",
    "advise",
    "bench",
    "compare",
    "export",
    "gate",
    "load",
    "optimize",
    "page",
    "plot",
    "quantize",
    "run",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _SHOWING:
        from edgekit.workflows.compare import notebook

        return getattr(notebook, name)
    if name in __all__:
        from edgekit import api

        return getattr(api, name)
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
