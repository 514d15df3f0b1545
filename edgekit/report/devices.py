"""What the devices are and how they measured, as part of the page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgekit.core.measurement import Measurement
from edgekit.report.rows import facts
from edgekit.report.style import safe

#: facts that are shown, in words; others stay in the results file
SHOWN: Mapping[str, str] = {
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
MOST = 12


def devices(measurements: Sequence[Measurement]) -> str:
    """A list of facts per device, how each was measured, and what the figures mean."""
    items = "".join(f"<li>{safe(line)}.</li>" for line in facts(measurements))
    if not items:
        return ""
    cards = "".join(_card(target, measurements) for target in dict.fromkeys(m.target for m in measurements))
    return (
        f'<section id="devices"><h2>How it was measured</h2><ul>{items}</ul><div class="cards">{cards}</div>'
        '<p class="soft">Small figures are 95 % intervals. Drop: percentage points lost against the float root on the '
        "same samples, positive when worse. Model memory: the process’s peak above the runtime’s own floor. "
        "Parity: signal to noise of the outputs against the parent’s. kB and MB are 1,000 and 1,000,000 bytes."
        "</p></section>"
    )


def _card(target: str, measurements: Sequence[Measurement]) -> str:
    found = [m for m in measurements if m.target == target]
    lines = "".join(f"<dt>{safe(words)}</dt><dd>{safe(value)}</dd>" for words, value in _facts(found))
    return f"<article><h3>{safe(target)}</h3><dl>{lines}</dl></article>" if lines else ""


def _facts(found: Sequence[Measurement]) -> Iterator[tuple[str, str]]:
    for key, words in SHOWN.items():
        values = list(dict.fromkeys(_words(key, m.facts[key]) for m in found if m.facts.get(key)))
        if values:
            yield words, "; ".join(values)
    versions = {m.runtime: str(m.facts["runtime_version"]) for m in found if m.facts.get("runtime_version")}
    if versions:
        yield "runtimes", ", ".join(f"{name} {version}" for name, version in versions.items())
    yield "provenance", ", ".join(dict.fromkeys(m.provenance for m in found))


def _words(key: str, value: Any) -> str:
    if key == "memory_bytes" and isinstance(value, int | float):
        return f"{value / 1e9:.1f} GB"
    if isinstance(value, list | tuple):
        more = f" and {len(value) - MOST} more" if len(value) > MOST else ""
        return ", ".join(map(str, value[:MOST])) + more
    return str(value)
