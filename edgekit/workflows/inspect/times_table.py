"""Times by operator type, int8 and float, as people read them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgekit.report import tables

if TYPE_CHECKING:
    from rich.table import Table


def facts(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """From what `edgekit.workflows.inspect.times` gives: how it was measured, or why not, and what slows it."""
    if found["why"]:
        yield "times", found["why"]
    else:
        counted = found["provenance"] == "emulated"
        where = "" if found["target"] == "host" else f" on {found['target']}"
        aim = "thousands of instructions" if counted else "to explain a latency, not to report one"
        yield "times", f"{found['runtime']}{where}, {found['threads']} thread, random inputs; {aim}"
    for reason in found["reasons"]:
        yield "slowed by", reason


def table(found: Mapping[str, Any]) -> Iterator[Table]:
    """By operator type, then the operators that cost most; nothing where there are no times."""
    if found["why"]:
        return
    unit = "k instr." if found["provenance"] == "emulated" else "us"
    both = found["against"] is not None
    heads = (unit, f"float {unit}".removesuffix(" k instr."), "ratio") if both else (unit,)
    types = tables.table(tables.words("operators"), *map(tables.numbers, heads), tables.words("precision"))
    for entry in found["types"]:
        name = f"{entry['count']} {entry['type']}"
        tables.add(types, name, *_times(entry["us"], entry["against_us"], both), _precisions(entry["precisions"]))
    tables.add(types, "all", *_times(found["total_us"], found["against_us"], both), "")
    yield types
    if found["costliest"]:
        costliest = tables.table(tables.words("costliest"), tables.numbers(unit), tables.words("precision"))
        for kernel in found["costliest"]:
            tables.add(costliest, f"{kernel['type']} {kernel['name']}", f"{kernel['us']:.1f}", kernel["precision"])
        yield costliest


def _times(us: float, against: float | None, both: bool) -> tuple[str, ...]:
    if not both:
        return (f"{us:.1f}",)
    return f"{us:.1f}", f"{against or 0.0:.1f}", f"{us / against:.2f}" if against and us else ""


def _precisions(counts: Mapping[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {name or 'other'}" for name, count in counts.items())
