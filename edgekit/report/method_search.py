"""A quantization method search → a table of 80 columns: each method's score, latency and size."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

WIDTH = 80
COLUMNS = (("method", 16), ("score", 8), ("drop pp, 95 %", 24), ("dB", 6), ("p50 ms", 9), ("kB", 9), ("time s", 7))


def search_table(search: Mapping[str, Any]) -> Iterator[str]:
    """The lines. `search` is a method search as JSON; scores are over the half of the samples used for selection."""
    yield f"{search['name']} from {search['against']}, on {search['target']} in {search['runtime'] or 'no runtime'}"
    yield _line([name for name, _ in COLUMNS])
    reference = search["against_latency_ms"]
    yield _line(["  float", "", "", "", _p50(reference), f"{search['against_bytes'] / 1000:.1f}", ""])
    reasons = []
    for attempt in search["attempts"]:
        mark = "* " if attempt["artifact"] and attempt["rung"] == search["chosen"] else "  "
        if attempt["metric"] is None and attempt["parity"] is None:
            yield _line([f"  {attempt['rung']}", "-", "", "", "", "", f"{attempt['seconds']:.1f}"])
            reasons.append(f"{attempt['rung']}: {attempt['failed'] or 'not verified on this machine'}")
            continue
        metric, parity = attempt["metric"], attempt["parity"]
        cells = [
            mark + attempt["rung"],
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
    yield from _conclusion(search)


def _conclusion(search: Mapping[str, Any]) -> Iterator[str]:
    confirmed = search["confirmed"]
    choice = next((a for a in search["attempts"] if a["rung"] == search["chosen"]), None)
    if confirmed and confirmed["metric"] and confirmed["verdict"]:
        drop, state = _drop(confirmed["metric"]), confirmed["verdict"]["state"]
        yield f"  {search['chosen']} on the other half: drop {drop} pp, budget {state}"
    if choice and choice["ratio"]:
        ratio = choice["ratio"]
        low, high = ratio["ci99"]
        direction = "slower than" if ratio["value"] > 1 else "faster than"
        times = ratio["value"] if ratio["value"] > 1 else 1 / ratio["value"]
        comparison = f"{times:.2f} times {direction}" if not low <= 1 <= high else "as fast as"
        advice = "" if search["recommended"] else "; not recommended"
        yield f"  it is {comparison} {search['against']} (ratio of p50 {low:.2f} to {high:.2f}){advice}"


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
