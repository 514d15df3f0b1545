"""edgekit compresses neural networks and deploys them to edge devices, within an accuracy budget and by measurement.

The public API, imported on first use. What the commands do, as functions: train, import_model, load, prune, quantize,
export, verify, bench, compare, predict, inspect, deploy, optimize, doctor, run. What they return: Model, Results,
Optimized. Against a baseline: gate. Errors: EdgekitError and its kinds, in `edgekit.core.errors`.
"""

from __future__ import annotations

import importlib
import os

TYPE_CHECKING = False  # typing is not loaded: `python -m edgekit` would take that of the working directory

if TYPE_CHECKING:
    from typing import Any

    from edgekit.api.commands import (
        Optimized,
        bench,
        compare,
        deploy,
        doctor,
        export,
        import_model,
        inspect,
        load,
        optimize,
        predict,
        prune,
        quantize,
        train,
        verify,
    )
    from edgekit.api.models import Model
    from edgekit.api.results import Results
    from edgekit.core.errors import (
        BudgetMissed,
        CannotConvert,
        DeviceError,
        EdgekitError,
        InputError,
        Missing,
        ParityFailed,
    )
    from edgekit.workflows.compare.gate import gate
    from edgekit.workflows.run import run

# without it, onnxruntime (1.32) creates a machine id in ~/.cache/Microsoft on import and records its use
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

__all__ = [
    "BudgetMissed",
    "CannotConvert",
    "DeviceError",
    "EdgekitError",
    "InputError",
    "Missing",
    "Model",
    "Optimized",
    "ParityFailed",
    "Results",
    "__version__",
    "bench",
    "compare",
    "deploy",
    "doctor",
    "export",
    "gate",
    "import_model",
    "inspect",
    "load",
    "optimize",
    "predict",
    "prune",
    "quantize",
    "run",
    "train",
    "verify",
]

#: public name → its module; the others are in `api.commands`
_MODULES = {
    **dict.fromkeys(["BudgetMissed", "CannotConvert", "DeviceError", "EdgekitError"], "core.errors"),
    **dict.fromkeys(["InputError", "Missing", "ParityFailed"], "core.errors"),
    "Model": "api.models",
    "Results": "api.results",
    "gate": "workflows.compare.gate",
    "run": "workflows.run",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(f"edgekit.{_MODULES.get(name, 'api.commands')}"), name)
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
