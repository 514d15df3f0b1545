"""The time of each operator type in its runtime, of a model and of its float parent: `inspect --times`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.target import Target
from edgekit.core.temporary import temporary_folder
from edgekit.core.user_code import typed_by_user
from edgekit.measure import targets
from edgekit.runs import references
from edgekit.runs.references import ModelReference
from edgekit.runs.shapes import Shapes
from edgekit.runs.store import Store
from edgekit.workflows import import_
from edgekit.workflows.inspect import profiles
from edgekit.workflows.inspect.profiles import Kernel
from edgekit.workflows.setup import random_inputs

COSTLIEST = 5
THREADS = 1


@typed_by_user
def operator_times(model: str | None, target: str = "host", shapes: Shapes | None = None) -> dict[str, Any]:
    """Profile a model of a run, or a file, on a target with random inputs. Returns plain JSON values.

    `shapes`: input name → its sizes, batch included, where an axis is open. Raises InputError for a model that cannot
    be run, DeviceError.

    `types`: microseconds per inference by operator type, of the model and of its float parent in the same format (null
    if it has none); on an emulated board thousands of instructions. `conversions_us`: what nodes take that only convert
    between int8 and float (in OpenVINO also between layouts). `costliest`: the operators that take longest; of an
    int8 model those that are not int8.
    """
    ref, loaded = references.resolve(model), targets.load(target)
    if not ref.foreign:
        return _times(ref.store, ref.artifact(), loaded, shapes)
    with temporary_folder() as folder:
        copied: ModelReference = import_.ensure_imported(references.resolve(model, folder / "run"))
        return _times(copied.store, copied.artifact(), loaded, shapes)


def _times(store: Store, artifact: Artifact, target: Target, shapes: Shapes | None) -> dict[str, Any]:
    if artifact.kind.format not in ("onnx", "openvino", "tflite"):
        why = f"no runtime profiles {artifact.kind.format} models"
        raise InputError(f"{artifact.name} has no times per operator", why, "name an exported model")
    parent = store.parent(artifact)
    if parent is None or parent.kind.format != artifact.kind.format or not artifact.kind.precision:
        parent = None
    data = random_inputs(store, artifact, shapes)
    own = profiles.profile(artifact, target, data)
    other = profiles.profile(parent, target, data) if parent else None
    return {
        "target": target.name,
        "provenance": targets.device(target).provenance,
        "runtime": own.runtime,
        "threads": THREADS,
        "runs": own.runs,
        "against": parent and parent.name,
        "total_us": sum(kernel.us for kernel in own.kernels) if own.kernels else None,
        "against_us": sum(kernel.us for kernel in other.kernels) if other and other.kernels else None,
        "conversions_us": _sum(k for k in own.kernels if k.precision == "conversion" and k.type != "Cast")
        if own.kernels
        else None,
        "types": by_type(own.kernels, other.kernels if other else None),
        "costliest": [asdict(kernel) for kernel in costliest(own.kernels)],
        "reasons": list(own.reasons) if artifact.kind.precision == "int8" else [],
        "why": own.why,
    }


def by_type(own: Sequence[Kernel], other: Sequence[Kernel] | None) -> list[dict[str, Any]]:
    """One entry per operator type of either model, the costliest first; `precisions` counts those of the model."""
    kinds = dict.fromkeys(kernel.type for kernel in (*own, *(other or ())))
    entries = []
    for kind in kinds:
        mine = [kernel for kernel in own if kernel.type == kind]
        theirs = [kernel for kernel in other if kernel.type == kind] if other is not None else []
        precisions = dict.fromkeys(kernel.precision for kernel in mine)
        entries.append(
            {
                "type": kind,
                "count": len(mine),
                "us": _sum(mine),
                "precisions": {name: sum(k.precision == name for k in mine) for name in precisions},
                "against_count": len(theirs) if other is not None else None,
                "against_us": _sum(theirs) if other is not None else None,
            }
        )
    return sorted(entries, key=lambda entry: -max(entry["us"], entry["against_us"] or 0.0))


def _sum(kernels: Iterable[Kernel]) -> float:
    return sum(kernel.us for kernel in kernels)


def costliest(kernels: Sequence[Kernel]) -> list[Kernel]:
    """The operators that take longest; if some compute in int8, of those that do not."""
    others = [kernel for kernel in kernels if kernel.precision != "int8"]
    chosen = kernels if len(others) == len(kernels) else others
    return sorted((kernel for kernel in chosen if kernel.us > 0), key=lambda kernel: -kernel.us)[:COSTLIEST]
