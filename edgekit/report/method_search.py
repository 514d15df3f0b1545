"""A method search → a table that fits 80 columns: what each method reached, and what it cost."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

WIDTH = 80
COLUMNS = (("method", 16), ("score", 8), ("drop pp, 95 %", 24), ("dB", 6), ("p50 ms", 9), ("kB", 9), ("made s", 7))


def search_table(found: Mapping[str, Any]) -> Iterator[str]:
    """The lines. `found` is a search as JSON; the scores are of the half of the samples that it was chosen on."""
    yield f"{found['name']} from {found['against']}, on {found['target']} in {found['runtime'] or 'no runtime'}"
    yield _line([name for name, _ in COLUMNS])
    reference = found["against_latency_ms"]
    yield _line(["  float", "", "", "", _p50(reference), f"{found['against_bytes'] / 1000:.1f}", ""])
    reasons = []
    for attempt in found["attempts"]:
        mark = "* " if attempt["artifact"] and attempt["method"] == found["chosen"] else "  "
        if attempt["metric"] is None and attempt["parity"] is None:
            yield _line([f"  {attempt['method']}", "-", "", "", "", "", f"{attempt['seconds']:.1f}"])
            reasons.append(f"{attempt['method']}: {attempt['failed'] or 'not verified here'}")
            continue
        metric, parity = attempt["metric"], attempt["parity"]
        cells = [
            mark + attempt["method"],
            f"{metric['value']:.2%}" if metric else "",
            _drop(metric),
            f"{parity['sqnr_db']:.1f}" if parity else "",
            _p50(attempt["latency_ms"]),
            f"{attempt['size_bytes'] / 1000:.1f}",
            f"{attempt['seconds']:.1f}",
        ]
        yield _line(cells)
    for reason in reasons:
        yield from textwrap.wrap(reason, WIDTH, initial_indent="  ", subsequent_indent="    ")
    yield from _ending(found)


def _ending(found: Mapping[str, Any]) -> Iterator[str]:
    confirmed = found["confirmed"]
    chosen = next((a for a in found["attempts"] if a["method"] == found["chosen"]), None)
    if confirmed and confirmed["metric"] and confirmed["verdict"]:
        drop, state = _drop(confirmed["metric"]), confirmed["verdict"]["state"]
        yield f"  {found['chosen']} on the other half: drop {drop} pp, budget {state}"
    if chosen and chosen["ratio"]:
        ratio = chosen["ratio"]
        low, high = ratio["ci99"]
        word = "slower than" if ratio["value"] > 1 else "faster than"
        many = ratio["value"] if ratio["value"] > 1 else 1 / ratio["value"]
        said = f"{many:.2f} times {word}" if not low <= 1 <= high else "as fast as"
        advice = "" if found["recommended"] else "; not recommended"
        yield f"  it is {said} {found['against']} (ratio of p50 {low:.2f} to {high:.2f}){advice}"


def _line(cells: list[str]) -> str:
    first, *rest = zip(cells, COLUMNS, strict=True)
    return (f"{first[0]:<{first[1][1]}}" + "".join(f"{cell:>{width}}" for cell, (_, width) in rest)).rstrip()


def _drop(metric: Mapping[str, Any] | None) -> str:
    if not metric or metric["drop_pp"] is None:
        return ""
    low, high = metric["drop_ci95"]
    return f"{metric['drop_pp']:+.2f} ({low:+.2f}, {high:+.2f})"


def _p50(latency: Mapping[str, Any] | None) -> str:
    return f"{latency['p50']:.3f}" if latency else ""
