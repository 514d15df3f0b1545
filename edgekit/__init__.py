"""edgekit compresses neural networks and deploys them to edge devices, within an accuracy budget and by measurement.

The public API, imported on first use: load, run, train, quantize, export, bench, optimize, compare, gate, and for the
rows of a comparison: advise, page, plot.
"""

from __future__ import annotations

import importlib
import os

TYPE_CHECKING = False  # typing is not loaded: `python -m edgekit` would take that of the working directory

if TYPE_CHECKING:
    from typing import Any

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

# without it, onnxruntime (1.32) creates a machine id in ~/.cache/Microsoft on import and records its use
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"
#: public name → its module
_MODULES = {
    "advise": "workflows.compare.notebook",
    "bench": "workflows.bench",
    "compare": "workflows.compare",
    "export": "workflows.export",
    "gate": "workflows.compare.gate",
    "load": "runs.references",
    "optimize": "workflows.optimize",
    "page": "workflows.compare.notebook",
    "plot": "workflows.compare.notebook",
    "quantize": "workflows.quantize",
    "run": "workflows.run",
    "train": "workflows.train",
}
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
]
__all__ += ["run", "train"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"edgekit.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
