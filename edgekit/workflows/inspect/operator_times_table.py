"""Times by operator type as text, int8 compared with float, at most 80 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

WIDTH, LABEL = 80, 13
TYPE = 24


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """The lines for a result of `edgekit.workflows.inspect.operator_times`."""
    if result["why"]:
        yield from _wrapped("times", result["why"])
    else:
        yield from _table(result)
    for reason in result["reasons"]:
        yield from _wrapped("slowed by", reason)


def _table(result: Mapping[str, Any]) -> Iterator[str]:
    compared = result["against"] is not None
    counted = result["provenance"] == "emulated"
    where = "" if result["target"] == "host" else f" on {result['target']}"
    aim = "thousands of instructions" if counted else "for diagnosis, not for reporting latency"
    yield from _wrapped("times", f"{result['runtime']}{where}, {result['threads']} thread, random inputs; {aim}")
    unit = "k instr." if counted else "us"
    heads = (
        f"{unit:>10}" + (f"{'float ' + ('' if counted else unit):>12}{'ratio':>8}" if compared else "") + "  precision"
    )
    yield f"{'':<{LABEL}}{'operators':<{TYPE}}{heads}"
    for entry in result["types"]:
        name = f"{entry['count']} {entry['type']}"
        yield _row(name, entry["us"], entry["against_us"], compared, _precisions(entry["precisions"]))
    yield _row("all", result["total_us"], result["against_us"], compared, "")
    for index, kernel in enumerate(result["costliest"]):
        what = f"{kernel['precision']:<10}  {kernel['type']} {kernel['name']}"
        text = f"{kernel['us']:>10.1f} {'k ' if counted else 'us'}  {what}"
        label = "" if index else "costliest"
        yield _cut(f"{label:<{LABEL}}{text}")


def _row(name: str, us: float, against: float | None, compared: bool, precisions: str) -> str:
    text = f"{us:>10.1f}"
    if compared:
        ratio = f"{us / against:>8.2f}" if against and us else f"{'':>8}"
        text += f"{against or 0.0:>12.1f}{ratio}"
    return _cut(f"{'':<{LABEL}}{_short(name):<{TYPE}}{text}  {precisions}".rstrip())


def _precisions(counts: Mapping[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{count} {name or 'other'}" for name, count in counts.items())


def _short(text: str) -> str:
    return text if len(text) < TYPE else text[: TYPE - 2] + "…"


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _wrapped(label: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=f"{label:<{LABEL}}", subsequent_indent=" " * LABEL, break_on_hyphens=False
    )
