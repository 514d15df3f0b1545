"""Times by operator type as tables, int8 compared with float."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgekit.report import tables

if TYPE_CHECKING:
    from edgekit.report.tables import Table


def facts(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How a result of `operator_times` was measured, or why it was not, and what slows the model."""
    if result["why"]:
        yield "times", result["why"]
    else:
        counted = result["provenance"] == "emulated"
        where = "" if result["target"] == "host" else f" on {result['target']}"
        aim = "thousands of instructions" if counted else "for diagnosis, not for reporting latency"
        yield "times", f"{result['runtime']}{where}, {result['threads']} thread, random inputs; {aim}"
    for reason in result["reasons"]:
        yield "slowed by", reason


def table(result: Mapping[str, Any]) -> Iterator[Table]:
    """By operator type, then the most expensive operators; nothing if there are no times."""
    if result["why"]:
        return
    unit = "k instr." if result["provenance"] == "emulated" else "us"
    both = result["against"] is not None
    heads = (unit, f"float {unit}".removesuffix(" k instr."), "ratio") if both else (unit,)
    types = tables.table(tables.words("operators"), *map(tables.numbers, heads), tables.words("precision"))
    for entry in result["types"]:
        name = f"{entry['count']} {entry['type']}"
        tables.add(types, name, *_times(entry["us"], entry["against_us"], both), _precisions(entry["precisions"]))
    tables.add(types, "all", *_times(result["total_us"], result["against_us"], both), "")
    yield types
    if result["costliest"]:
        costliest = tables.table(tables.numbers(unit), tables.words("precision"), tables.words("costliest"))
        for kernel in result["costliest"]:
            tables.add(costliest, f"{kernel['us']:.1f}", kernel["precision"], f"{kernel['type']} {kernel['name']}")
        yield costliest


def _times(us: float, against: float | None, both: bool) -> tuple[str, ...]:
    if not both:
        return (f"{us:.1f}",)
    return f"{us:.1f}", f"{against or 0.0:.1f}", f"{us / against:.2f}" if against and us else ""


def _precisions(counts: Mapping[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {name or 'other'}" for name, count in counts.items())
