"""The page of `make bench-quickstarts`: what it counts, and that it names where edgekit is worse."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent / "benchmarks" / "quickstarts"))

from compared import key, text
from quickstarts import Quickstart


def quickstart(tool: str, commands: int, lines: int = 0, note: str = "") -> Quickstart:
    files = {"a.py": "x = 1\n\n" * lines} if lines else {}
    return Quickstart(tool, "classifier", "ONNX", ("do",) * commands, "a.onnx", files, note=note)


def row(seconds: float, value: float, **changes: Any) -> dict[str, Any]:
    told = {"metric_told": False, "latency_told": False, "metric": "accuracy", "p50": 1.5, "kB": 1234.0}
    return {"seconds": seconds, "cpu_seconds": seconds, "value": value, **told, **changes}


def test_a_row_holds_what_was_typed_and_got() -> None:
    theirs, ours = quickstart("Olive", 1, 3), quickstart("edgekit", 1)
    rows = {key(theirs): row(5, 0.8), key(ours): row(4, 0.9, metric_told=True), "float classifier": {"value": 0.91}}
    page = text({"rows": rows}, (theirs, ours))
    assert "| Olive | ONNX | 1 | 3 | 5 (5) | no | no | 91.0 → 80.0 % accuracy | 1.50 | 1,234 |" in page
    assert "| edgekit | ONNX | 1 | 0 | 4 (4) | yes | no | 91.0 → 90.0 % accuracy | 1.50 | 1,234 |" in page
    assert "is worse" not in page


def test_where_edgekit_is_worse_is_said() -> None:
    theirs, ours = quickstart("Olive", 1), quickstart("edgekit", 2, 4, "it reads no tokens")
    page = text({"rows": {key(theirs): row(5, 0.8), key(ours): row(9, 0.7, kB=9999.0)}}, (theirs, ours))
    assert (
        "is worse in commands (2; the best of the others: 1), lines to write (4; the best of the others: 0), " in page
    )
    assert "seconds (9; the best of the others: 5), metric, % (70; the best of the others: 80), kB (9999; " in page
    assert "It reads no tokens." in page and "p50, ms (" not in page


def test_a_failure_is_a_row_without_markup() -> None:
    theirs = quickstart("Olive", 1)
    page = text({"rows": {key(theirs): {"seconds": 1.0, "failed": "no <b> | `x`"}}}, (theirs,))
    assert "failed: no b> / 'x'" in page
