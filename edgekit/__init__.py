"""edgekit: give it a model, its data and a device; get back the smallest, fastest artifact that keeps its accuracy.

The public API, each imported when first used: load, run, train, quantize, export, bench, optimize, compare, gate, and
for the rows that are compared: advise, page, plot.
"""

from __future__ import annotations

import importlib
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
#: name → the module that has it
_HOMES = {
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
    if name in _HOMES:
        return getattr(importlib.import_module(f"edgekit.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
