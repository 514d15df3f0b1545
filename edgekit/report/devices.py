"""The page's section on devices and how they were measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgekit.core.measurement import Measurement
from edgekit.report.rows import facts
from edgekit.report.style import safe

#: facts that are shown → their names
FACTS: Mapping[str, str] = {
    "cpu": "processor",
    "cores": "cores",
    "arch": "architecture",
    "isa": "instructions",
    "memory_bytes": "memory",
    "os": "system",
    "kernel": "kernel",
    "python": "Python",
    "governor": "clock governor",
}
MAX_VALUES = 12


def measured_on(measurements: Sequence[Measurement]) -> str:
    """The day of the measurements, or the first and the last; "" if none says when it was made."""
    days = sorted(str(m.facts["measured_at"])[:10] for m in measurements if m.facts.get("measured_at"))
    return " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""


def devices(measurements: Sequence[Measurement]) -> str:
    """The devices' facts, how each was measured, and the units."""
    items = "".join(f"<li>{safe(line)}.</li>" for line in facts(measurements))
    if not items:
        return ""
    cards = "".join(_card(target, measurements) for target in dict.fromkeys(m.target for m in measurements))
    return (
        f'<section id="devices"><h2>How it was measured</h2><ul>{items}</ul><div class="cards">{cards}</div>'
        '<p class="soft">Small figures are 95 % intervals. Drop: percentage points lost against the float root on the '
        "same samples; positive is worse. Model memory: the process’s peak minus the runtime’s baseline. "
        "Parity: signal-to-noise ratio of the outputs against the parent’s. kB and MB are 1,000 and 1,000,000 bytes."
        "</p></section>"
    )


def _card(target: str, measurements: Sequence[Measurement]) -> str:
    rows_of_target = [m for m in measurements if m.target == target]
    lines = "".join(f"<dt>{safe(words)}</dt><dd>{safe(value)}</dd>" for words, value in _facts(rows_of_target))
    return f"<article><h3>{safe(target)}</h3><dl>{lines}</dl></article>" if lines else ""


def _facts(rows_of_target: Sequence[Measurement]) -> Iterator[tuple[str, str]]:
    for key, words in FACTS.items():
        values = list(dict.fromkeys(_value_text(key, m.facts[key]) for m in rows_of_target if m.facts.get(key)))
        if values:
            yield words, "; ".join(values)
    versions = {m.runtime: str(m.facts["runtime_version"]) for m in rows_of_target if m.facts.get("runtime_version")}
    if versions:
        yield "runtimes", ", ".join(f"{name} {version}" for name, version in versions.items())
    yield "provenance", ", ".join(dict.fromkeys(m.provenance for m in rows_of_target))


def _value_text(key: str, value: Any) -> str:
    if key == "memory_bytes" and isinstance(value, int | float):
        return f"{value / 1e9:.1f} GB"
    if isinstance(value, list | tuple):
        more = f" and {len(value) - MAX_VALUES} more" if len(value) > MAX_VALUES else ""
        return ", ".join(map(str, value[:MAX_VALUES])) + more
    return str(value)
