"""Mixed precision as rows of text: what is in float and why, what is converted, what the placement gained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

_REASONS = {
    "keep_float": "kept in float (keep_float)",
    "left": "left in float by the quantizer",
    "not_quantizable": "the quantizer has no int8 for it",
    "not_fused": "int8 in the file, but the runtime has no int8 kernel that fits",
}


def rows(result: Mapping[str, Any], times: Mapping[str, Any] | None = None) -> Iterator[tuple[str, str]]:
    """(label, text) pairs from a result of `mixed_precision`, and from one of `operator_times` if there is one."""
    if result["why"]:
        yield "int8", f"not known which operators compute in int8: {result['why']}"
        return
    every = result["int8"] + sum(entry["count"] for entry in result["float"])
    yield "int8", f"{result['int8']} of {_many(every, 'operator')} in {result['runtime']}"
    label = "in float"
    for reason, types in _by_reason(result).items():
        yield label, f"{', '.join(types)}: {reason}"
        label = ""
    yield "conversions", _conversions(result["conversions"])
    if times and times["conversions_us"] is not None:
        yield "", _cost(times)
    if result["weights"]:
        yield "", f"{_many(result['weights'], 'weight')} dequantized on each inference"
    if result["rescaled"]:
        yield "", f"{_many(result['rescaled'], 'pass', 'passes')} that only change the scale of int8 values"
    if result["partitions"] is not None:
        yield "XNNPACK", _partitions(result["partitions"])
    if result["placement"]:
        yield "placement", _placement(result["placement"])


def _by_reason(result: Mapping[str, Any]) -> dict[str, list[str]]:
    """Reason in words → "19 HARD_SWISH" of each type, the most frequent first."""
    grouped: dict[str, list[str]] = {}
    for entry in result["float"]:
        reason = _REASONS.get(entry["reason"]) or _placed(entry["float_over_int8"], result)
        grouped.setdefault(reason, []).append(f"{entry['count']} {entry['type']}")
    return grouped


def _placed(ratio: float | None, result: Mapping[str, Any]) -> str:
    """Why operators are in `weights_only`, as far as it was measured."""
    placed = "placed in float (weights_only)"
    if ratio is not None:
        return f"{placed}, {ratio:.2f} times int8's time between convolutions on {result['instruction_set']}"
    if result["placement"] and result["placement"]["first"]:
        return f"{placed}, at the start of the model"
    if result["placement"] and result["placement"]["tail"]:
        return f"{placed}, after the last layers"
    if result["kernels_known"]:
        return f"{placed}, its time in int8 was not measured as slower"
    return f"{placed}, its time in int8 is not known for this CPU ({result['instruction_set']})"


def _conversions(counted: Mapping[str, Any]) -> str:
    total = counted["to_int8"] + counted["to_float"]
    if not total:
        return "none between int8 and float"
    text = f"{counted['to_int8']} to int8, {counted['to_float']} to float"
    if counted["at_ends"]:
        text += f", {counted['at_ends']} of them at inputs and outputs"
    if inside := total - counted["own_pass"]:
        text += f", {inside} inside another operator's kernel"
    values = "number of values unknown" if counted["values"] is None else f"{counted['values']:,} values per sample"
    return f"{text}; {values}"


def _cost(times: Mapping[str, Any]) -> str:
    """What the runtime's profile has for nodes that only convert."""
    unit = "thousand instructions" if times["provenance"] == "emulated" else "us"
    converting = [
        f"{entry['precisions']['conversion']} {entry['type']}"
        for entry in times["types"]
        if entry["precisions"].get("conversion") and entry["type"] != "Cast"
    ]
    if not converting:
        return f"no time of their own on {times['target']}"
    share = f" ({times['conversions_us'] / times['total_us']:.0%} of all)" if times["total_us"] else ""
    layout = ", changes of layout included" if any("Reorder" in name for name in converting) else ""
    return f"they take {times['conversions_us']:.1f} {unit}{share}: {', '.join(converting)}{layout}"


def _partitions(count: int) -> str:
    if not count:
        return "computes nothing of the graph"
    return "computes the graph in one partition" if count == 1 else f"computes the graph in {count} partitions"


def _placement(placement: Mapping[str, Any]) -> str:
    placed = bool(placement["types"] or placement["first"])
    if placement["tail"]:
        tail = f"what follows the last layers in float, where {placement['tail'][-1]} joins tensors"
        if not placed:
            time = (
                placement["ratio"] and f"{placement['ratio']['value']:.2f} times float's p50 on {placement['target']}"
            )
            return f"{tail}; {time or 'not timed'}"
        return f"{tail}; {_placement({**placement, 'tail': []})}"
    if placement["ratio"] is None:
        return "by the table of kernels, not timed" if placed else "nothing in float, not timed"
    text = f"{placement['ratio']['value']:.2f} times float's p50 on {placement['target']}"
    if placed:
        return f"{text}, all in int8 {placement['all_int8_ratio']['value']:.2f} times"
    if placement["tried"] > 1:
        return f"{text}, all in int8: of {placement['tried']} models that were timed none was faster"
    return f"{text}, all in int8; no other placement was timed"


def _many(count: int, noun: str, plural: str = "") -> str:
    return f"{count} {noun if count == 1 else plural or noun + 's'}"
