"""edgekit compresses neural networks and deploys them to edge devices, within an accuracy budget and by measurement.

The public API, imported on first use. What the commands do, as functions: train, import_model, load, prune, quantize,
export, verify, bench, compare, gate, predict, inspect, deploy, optimize, run, doctor. What they return: Model, Results
of Measurement, Picture, Finding, Gate, Deployment, Optimized of Trial, RunResult. Errors: EdgekitError and its kinds.
"""

from __future__ import annotations

import importlib
import os

TYPE_CHECKING = False  # typing is not loaded: `python -m edgekit` would take that of the working directory

if TYPE_CHECKING:
    from typing import Any

    from edgekit.api.commands import (
        Optimized,
        RunResult,
        bench,
        compare,
        deploy,
        doctor,
        export,
        gate,
        import_model,
        inspect,
        load,
        optimize,
        predict,
        prune,
        quantize,
        run,
        train,
        verify,
    )
    from edgekit.api.models import Model
    from edgekit.api.results import Results
    from edgekit.core.errors import (
        BudgetMissed,
        CannotConvert,
        CheckFailed,
        DeviceError,
        Diverged,
        EdgekitError,
        InputError,
        Interrupted,
        Missing,
        ParityFailed,
    )
    from edgekit.core.measurement import Measurement
    from edgekit.measure.verify import Finding
    from edgekit.workflows.compare.limits import Gate
    from edgekit.workflows.compare.notebook import Picture
    from edgekit.workflows.deploy import Deployment
    from edgekit.workflows.optimize.study import Trial

# without it, onnxruntime (1.32) creates a machine id in ~/.cache/Microsoft on import and records its use
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

__all__ = [
    "BudgetMissed",
    "CannotConvert",
    "CheckFailed",
    "Deployment",
    "DeviceError",
    "Diverged",
    "EdgekitError",
    "Finding",
    "Gate",
    "InputError",
    "Interrupted",
    "Measurement",
    "Missing",
    "Model",
    "Optimized",
    "ParityFailed",
    "Picture",
    "Results",
    "RunResult",
    "Trial",
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
    **dict.fromkeys(["BudgetMissed", "CannotConvert", "CheckFailed", "DeviceError", "Diverged"], "core.errors"),
    **dict.fromkeys(["EdgekitError", "InputError", "Interrupted", "Missing", "ParityFailed"], "core.errors"),
    "Deployment": "workflows.deploy",
    "Finding": "measure.verify",
    "Gate": "workflows.compare.limits",
    "Measurement": "core.measurement",
    "Model": "api.models",
    "Picture": "workflows.compare.notebook",
    "Results": "api.results",
    "Trial": "workflows.optimize.study",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module(f"edgekit.{_MODULES.get(name, 'api.commands')}"), name)
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}")
