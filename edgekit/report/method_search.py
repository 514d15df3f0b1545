"""A method search → a table for a terminal: what each method reached, and what it cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from edgekit.report import tables
from edgekit.report.rows import change, change_interval

if TYPE_CHECKING:
    from edgekit.report.tables import Table

#: an interval of a ratio that includes 1 shows that two are as fast only if it is within this
NEAR = (0.9, 1.1)


def search_table(search: Mapping[str, Any]) -> Iterator[str | Table]:
    """What `tables.show` prints. `search`: a search as JSON; its scores are of the half of the samples it chose on."""
    yield f"{search['name']} from {search['against']}, on {search['target']} in {search['runtime'] or 'no runtime'}"
    table = tables.table(
        tables.words("method"),
        tables.numbers("score"),
        tables.numbers(f"drop {_points(search)}, 95 %"),
        tables.numbers("dB", spare=True),
        tables.numbers("p50 ms"),
        tables.numbers("kB"),
        tables.numbers("made s", spare=True),
    )
    reference = search["against_latency_ms"]
    tables.add(table, "  float", "", "", "", _p50(reference), f"{search['against_bytes'] / 1000:.1f}", "")
    methods_by_reason: dict[str, list[str]] = {}
    for attempt in search["attempts"]:
        mark = "* " if attempt["artifact"] and attempt["method"] == search["chosen"] else "  "
        if attempt["metric"] is None and attempt["parity"] is None:
            tables.add(table, f"  {attempt['method']}", "-", "", "", "", "", f"{attempt['seconds']:.1f}")
            methods_by_reason.setdefault(attempt["failed"] or "not verified here", []).append(attempt["method"])
            continue
        metric, parity = attempt["metric"], attempt["parity"]
        cells = [
            mark + attempt["method"],
            _score(metric) if metric else "",
            _drop(metric),
            f"{parity['sqnr_db']:.1f}" if parity else "",
            _p50(attempt["latency_ms"]),
            f"{attempt['size_bytes'] / 1000:.1f}",
            f"{attempt['seconds']:.1f}",
        ]
        tables.add(table, *cells)
    yield table
    for reason, methods in methods_by_reason.items():
        yield f"  {', '.join(methods)}: {reason}"
    yield from _ending(search)


def _ending(search: Mapping[str, Any]) -> Iterator[str]:
    confirmed = search["confirmed"]
    chosen = next((a for a in search["attempts"] if a["method"] == search["chosen"]), None)
    if confirmed and confirmed["metric"] and confirmed["verdict"]:
        metric, state = confirmed["metric"], confirmed["verdict"]["state"]
        drop, interval = metric["drop_pp"], metric["drop_ci95"]
        text = f"{change(drop, _points(search))} ({change_interval(drop, interval)})" if interval else "no reference"
        yield f"  {search['chosen']} on the other half: {text}, budget {state}"
    if chosen and chosen["ratio"]:
        ratio = chosen["ratio"]
        low, high = ratio["ci99"]
        word = "slower than" if ratio["value"] > 1 else "faster than"
        many = ratio["value"] if ratio["value"] > 1 else 1 / ratio["value"]
        comparison = f"{many:.2f} times {word}" if not low <= 1 <= high else "as fast as"
        if low <= 1 <= high and not NEAR[0] <= low <= high <= NEAR[1]:
            comparison = "not known to be faster or slower than"
        advice = "" if search["recommended"] else "; not recommended"
        yield f"  it is {comparison} {search['against']} (ratio of p50 {low:.2f} to {high:.2f}){advice}"
    elif chosen and search["not_timed"]:
        advice = "" if search["recommended"] else "; not recommended"
        yield f"  not timed ({search['not_timed']}): accuracy and size decide{advice}"


def _score(metric: Mapping[str, Any]) -> str:
    """A fraction in per cent, anything else as it is."""
    return (
        f"{metric['value']:.2%}" if metric["unit"] == "fraction" else f"{metric['value']:.4g} {metric['unit']}".strip()
    )


def _points(search: Mapping[str, Any]) -> str:
    """The unit of a drop: points of a fraction, else per cent of the float model's value."""
    metrics = (attempt["metric"] for attempt in search["attempts"] if attempt["metric"])
    return "pp" if next(metrics, {"unit": "fraction"})["unit"] == "fraction" else "%"


def _drop(metric: Mapping[str, Any] | None) -> str:
    if not metric or metric["drop_pp"] is None:
        return ""
    low, high = metric["drop_ci95"]
    return f"{metric['drop_pp']:+.2f} ({low:+.2f}, {high:+.2f})"


def _p50(latency: Mapping[str, Any] | None) -> str:
    return f"{latency['p50']:.3f}" if latency else ""
