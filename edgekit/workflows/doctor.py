"""`doctor`: this machine, the extras of edgekit that are installed, and how to install the others."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Any

from edgekit.core import registry
from edgekit.core.errors import DISTRIBUTION
from edgekit.measure import targets

if TYPE_CHECKING:
    from edgekit.report.tables import Table

PURPOSE = {
    "torch": "train and run networks in torch",
    "onnx": "export to ONNX, quantize, run in ONNX Runtime",
    "tflite": "export to TFLite, quantize, run in LiteRT",
    "openvino": "export to OpenVINO, quantize, run in OpenVINO",
    "mnist": "the images of the task mnist",
    "keras": "import .keras files",
    "images": "read image files",
    "data": "read Parquet and sound files",
    "metrics": "metrics of detection, segmentation, translation and anomaly detection",
    "text": "tokenizers for text tasks",
    "hf": "Hugging Face directories",
    "lora": "train --lora, and adapters that are merged",
    "prune": "edgekit prune",
    "optimize": "edgekit optimize",
    "distributed": "training in several processes",
    "tensorboard": "logs for TensorBoard",
    "mlflow": "runs of an MLflow experiment",
    "wandb": "runs of a Weights & Biases project",
    "pictures": "pictures and summaries as PNG and PDF",
}


def doctor() -> dict[str, Any]:
    """Plain JSON values: python, machine, extras with each package's version ("": not installed), and the broken
    members of third-party packages."""
    extras: dict[str, dict[str, Any]] = {}
    for name, purpose in PURPOSE.items():
        packages, unavailable = _packages(name)
        versions = {package: _version(package) for package in packages}
        extras[name] = {
            "purpose": purpose,
            "packages": versions,
            "installed": all(versions.values()) and not unavailable,
            "unavailable": unavailable,
            "next": "" if all(versions.values()) else f"pip install '{DISTRIBUTION}[{name}]'",
        }
    host = targets.load("host")
    return {
        "edgekit": _version(DISTRIBUTION) or "not installed",
        "python": platform.python_version(),
        "executable": sys.executable,
        "machine": {
            "arch": host.arch,
            "isa_class": host.isa_class,
            "isa": list(host.isa),
            "cores": host.cores,
            "memory_mb": host.memory_mb,
        },
        "extras": extras,
        "broken": [
            {"group": group, "name": name, "what": error.what, "why": error.why, "next": error.next}
            for group, name, error in registry.broken()
        ],
    }


def shown(result: Mapping[str, Any]) -> Iterator[str | Table]:
    """What `tables.show` prints."""
    from edgekit.report import tables

    machine = result["machine"]
    yield f"edgekit {result['edgekit']}, Python {result['python']}"
    yield f"{machine['arch']} ({machine['isa_class']}), {machine['cores']} cores, {machine['memory_mb']:,} MB"
    table = tables.table(tables.words(), tables.words("extra"), tables.words("purpose"))
    named: set[str] = set()  # an installed package is named once
    for name, extra in result["extras"].items():
        packages = ", ".join(
            f"{package} {number or 'MISSING'}"
            for package, number in extra["packages"].items()
            if not (number and package in named)
        )
        named |= extra["packages"].keys()
        missing = [f"{package} has no wheel here: it needs {why}" for package, why in extra["unavailable"].items()]
        next = [f"next: {extra['next']}"] if extra["next"] else []
        mark = "ok" if extra["installed"] else "--"
        tables.add(table, mark, name, "\n".join(filter(None, [extra["purpose"], packages, *missing, *next])))
    for plugin in result["broken"]:
        tables.add(table, "--", plugin["name"], "\n".join([plugin["what"], plugin["why"], f"next: {plugin['next']}"]))
    yield table


def _packages(extra: str) -> tuple[list[str], dict[str, str]]:
    """The distributions of an extra on this machine, and those that its environment markers exclude (name → marker)."""
    from packaging.requirements import Requirement

    names, unavailable = [], {}
    try:
        lines = requires(DISTRIBUTION) or []
    except PackageNotFoundError:
        lines = []
    for line in lines:
        requirement = Requirement(line)
        marker = requirement.marker
        if marker is None or f'extra == "{extra}"' not in str(marker):
            continue
        if marker.evaluate({"extra": extra}):
            names.append(requirement.name)
        else:
            unavailable[requirement.name] = re.sub(r' and extra == "[^"]*"', "", str(marker))
    return names, unavailable


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
