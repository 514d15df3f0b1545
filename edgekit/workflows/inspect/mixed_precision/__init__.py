"""Mixed precision: which operators of an int8 model compute in float and why, and where values change between the two.

A format names the module that knows (`Format.mixed_precision`): its `execution` loads the model into the format's
runtime, without running it, and reads what the runtime made of it after its own fusions; `quantizable` says for which
types of operators the format's quantizer has int8.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import EdgekitError, InputError
from edgekit.measure import targets
from edgekit.runs.attempts import read_attempts
from edgekit.runs.store import Store
from edgekit.workflows import kernels

Precision = Literal["int8", "float"]


@dataclass(frozen=True)
class Operator:
    """An operator of the file that computes on activations. `name` is as the format's reader gives it.

    `quantized`: the file rounds its inputs and its outputs to int8, whatever the runtime computes in.
    """

    type: str
    name: str
    precision: Precision
    quantized: bool = False


@dataclass(frozen=True)
class Conversion:
    """A place where the values of a tensor change between int8 and float, on each inference.

    `values`: their number for one sample, None if unknown. `at_end`: the tensor is an input or an output of the model.
    `own_pass`: an operator of its own converts them; else the kernel before or after does.
    """

    to: Precision
    values: int | None
    at_end: bool = False
    own_pass: bool = True


@dataclass(frozen=True)
class Execution:
    """What a runtime computes after its fusions.

    `weights`: operators that convert constants on each inference. `rescaled`: those that only change the scale of int8
    values. `partitions`: the parts of the graph that a delegate computes, None if the runtime has none.
    """

    operators: tuple[Operator, ...]
    conversions: tuple[Conversion, ...]
    weights: int = 0
    rescaled: int = 0
    partitions: int | None = None


@dataclass(frozen=True)
class Tensor:
    """A tensor that an executed operator reads or writes. `precision`: None for what is neither, such as shapes."""

    precision: Precision | None
    values: int | None
    at_end: bool = False


def conversions(reads: Sequence[Tensor], writes: Sequence[Tensor], own_pass: bool) -> Iterable[Conversion]:
    """Those of one executed operator, from the activations it reads and writes, constants left out.

    It computes on floats if it reads any: then each int8 tensor that it reads or writes is converted. If all that it
    reads are int8, each float tensor that it writes is. `own_pass`: it does nothing else.
    """
    read, written = ({tensor.precision for tensor in side} for side in (reads, writes))
    if "float" in read:
        if not own_pass:
            yield from (_conversion("float", tensor, False) for tensor in reads if tensor.precision == "int8")
        yield from (_conversion("int8", tensor, own_pass, reads) for tensor in writes if tensor.precision == "int8")
    elif "int8" in read and "float" in written:
        yield from (_conversion("float", tensor, own_pass, reads) for tensor in writes if tensor.precision == "float")


def _conversion(to: Precision, tensor: Tensor, own_pass: bool, reads: Sequence[Tensor] = ()) -> Conversion:
    at_end = tensor.at_end or (own_pass and any(other.at_end for other in reads))
    return Conversion(to, tensor.values, at_end, own_pass)


# --- the report --------------------------------------------------------------------------------------------------


def mixed_precision(
    format: str, path: Path, artifact: Artifact | None = None, store: Store | None = None, sizes_known: bool = True
) -> dict[str, Any] | None:
    """How an int8 model computes in its runtime, as plain JSON values; None for a format without a runtime that tells.

    `artifact` and `store`: if it belongs to a run, whose records say why operators are in float. Without
    `sizes_known` the number of values is null.

    `why`: why nothing is known, "" else. `int8`: how many operators compute in int8. `float`: those that compute in
    float, one entry per type and `reason`: keep_float, weights_only, not_quantizable (the quantizer has no int8 for the
    type), not_fused (int8 in the file, computed in float) or left (by the quantizer). `float_over_int8`: the ratio that
    `workflows/kernels` has for the type on `instruction_set`, null if it is not known, and `kernels_known` whether that
    has any. `weights`, `rescaled`, `partitions`: see `Execution`. `conversions`: see `Conversion`;
    `to_int8`, `to_float` and `values` are sums over all, `at_ends` and `own_pass` count some of them. `placement`: what
    the placement gained, as the method search recorded it (null if it has no record of this artifact).
    """
    registered = registry.load("formats", format)
    if not registered.mixed_precision:
        return None
    runtime = registered.observed_in
    module = importlib.import_module(registered.mixed_precision)
    record = _record(artifact, store)
    isa = _instruction_set(record["target"] if record else "host")
    head = {"runtime": runtime, "why": "", "instruction_set": isa, "kernels_known": kernels.known(runtime, isa)}
    try:
        loaded = registry.runtime(runtime)
        loaded.prepare_imports()
        head["runtime"] = f"{runtime} {version(loaded.package)}"
        execution: Execution = module.execution(path)
    except (EdgekitError, MemoryError, OSError):
        raise
    except Exception as error:  # a package that is missing, or what the runtime says of the model
        return {**head, "why": " ".join(str(error).split())[:200] or type(error).__name__}
    floats = [operator for operator in execution.operators if operator.precision == "float"]
    return {
        **head,
        "int8": sum(operator.precision == "int8" for operator in execution.operators),
        "float": _grouped(floats, artifact, module.quantizable(), runtime, isa),
        "conversions": _counted(execution.conversions, sizes_known),
        "weights": execution.weights,
        "rescaled": execution.rescaled,
        "partitions": execution.partitions,
        "placement": _placement(record, artifact),
    }


def _counted(found: Sequence[Conversion], sizes_known: bool) -> dict[str, Any]:
    values = [conversion.values for conversion in found]
    return {
        "to_int8": sum(conversion.to == "int8" for conversion in found),
        "to_float": sum(conversion.to == "float" for conversion in found),
        "at_ends": sum(conversion.at_end for conversion in found),
        "own_pass": sum(conversion.own_pass for conversion in found),
        "values": None if None in values or not sizes_known else sum(filter(None, values)),
        "each": [{**asdict(c), "values": c.values if sizes_known else None} for c in found],
    }


def _grouped(
    floats: Sequence[Operator], artifact: Artifact | None, quantizable: Collection[str], runtime: str, isa_class: str
) -> list[dict[str, Any]]:
    """The operators by type and reason, the most frequent first."""
    fields = artifact.fields if artifact else {}
    kept, placed = ({*(fields.get(name) or ())} for name in ("keep_float", "weights_only"))
    placed_types = {operator.type for operator in floats if operator.name in placed}
    groups: dict[tuple[str, str], list[str]] = {}
    for operator in floats:
        reason = _reason(operator, kept, placed, quantizable)
        groups.setdefault((operator.type, reason), []).append(operator.name)
    return [
        {
            "type": kind,
            "count": len(names),
            "reason": reason,
            "float_over_int8": kernels.float_over_int8(kind, placed_types, runtime, isa_class)
            if reason == "weights_only"
            else None,
            "names": names,
        }
        for (kind, reason), names in sorted(groups.items(), key=lambda group: -len(group[1]))
    ]


def _reason(operator: Operator, kept: Collection[str], placed: Collection[str], quantizable: Collection[str]) -> str:
    if operator.name and operator.name in kept:
        return "keep_float"
    if operator.name and operator.name in placed:
        return "weights_only"
    if operator.quantized:
        return "not_fused"
    return "left" if not quantizable or operator.type in quantizable else "not_quantizable"


def _instruction_set(target: str) -> str:
    """That of a target, "unknown" of one that is not known here: a run may come from elsewhere."""
    try:
        return targets.load(target).isa_class
    except InputError:
        return "unknown"


def _record(artifact: Artifact | None, store: Store | None) -> Mapping[str, Any] | None:
    """The record of the method search that has this artifact among its attempts."""
    if artifact is None or store is None:
        return None
    searches = read_attempts(store).values()
    return next((s for s in searches if any(a.get("id") == artifact.id for a in s["attempts"])), None)


def _placement(record: Mapping[str, Any] | None, artifact: Artifact | None) -> dict[str, Any] | None:
    """`ratio` and `all_int8_ratio`: p50 over that of the float model, with and without the placement; null: not timed.
    `tried`: how many models were timed, the one that is all int8 among them. `tail`: the tensors where what follows the
    last layers joins others, if that is in float (in each of those models).

    None if the artifact was made without what the search placed.
    """
    placement = (record or {}).get("placement")
    if not record or not placement or artifact is None or "chosen" not in placement:  # of an earlier edgekit
        return None
    if bool(placement["in_float"]) != bool(artifact.fields.get("weights_only")):
        return None
    tried, tail = placement["tried"], placement.get("tail")
    return {
        "target": record["target"],
        "types": placement["chosen"]["types"],
        "first": placement["chosen"]["first"],
        "ratio": placement["chosen"]["ratio"],
        "all_int8_ratio": tried[0]["ratio"] if tried else None,
        "tried": len(tried),
        "tail": tail["joins"] if tail and tail["in_float"] else [],
    }
