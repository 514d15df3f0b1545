"""Measurements → CSV (RFC 4180): one line per measurement, in full precision; missing values are empty."""

from __future__ import annotations

import csv as csv_
import io
import unicodedata
from collections.abc import Sequence
from typing import Any

from edgekit.core.measurement import Measurement
from edgekit.core.printable import printable
from edgekit.report.rows import memory


def csv(measurements: Sequence[Measurement]) -> str:
    """Sizes in bytes, times in milliseconds, fractions from 0 to 1. Cells are never formulas."""
    output = io.StringIO()
    records = [_record(m) for m in measurements]
    if records:
        writer = csv_.DictWriter(output, list(records[0]))
        writer.writeheader()
        writer.writerows({key: _cell(value) for key, value in record.items()} for record in records)
    return output.getvalue()


def _record(m: Measurement) -> dict[str, Any]:
    metric, latency = m.metric, m.latency_ms
    return {
        "artifact": m.artifact,
        "id": m.id,
        "target": m.target,
        "runtime": m.runtime,
        "provenance": m.provenance,
        "format": m.format,
        "precision": m.precision,
        "scheme": m.scheme,
        "metric": metric and metric.name,
        "value": metric and metric.value,
        "value_low": metric and metric.ci95[0],
        "value_high": metric and metric.ci95[1],
        "samples": metric and metric.samples,
        "set_sha256": metric and metric.set_sha256,
        "drop_pp": metric and metric.drop_pp,
        "budget": m.verdict and m.verdict.state,
        "p50_ms": latency and latency.p50,
        "p50_low_ms": latency and latency.ci95[0],
        "p50_high_ms": latency and latency.ci95[1],
        "p90_ms": latency and latency.p90,
        "p99_ms": latency and latency.p99,
        "threads": latency and latency.threads,
        "batch": latency and latency.batch,
        "prompt_tokens": (latency and latency.prompt) or None,
        "new_tokens": (latency and latency.new_tokens) or None,
        "first_token_ms": m.generation and m.generation.first_token_ms.p50,
        "tokens_per_second": m.generation and m.generation.tokens_per_second,
        "cache_bytes": m.generation and m.generation.cache_bytes,
        "load_ms": m.load_ms,
        "size_bytes": m.size_bytes,
        "weight_bytes": m.weight_bytes,
        "memory_bytes": memory(m),
        "sqnr_db": m.parity and m.parity.sqnr_db,
        "neighbour_agreement": m.parity and m.parity.neighbour_agreement,
        "cpu": m.facts.get("cpu"),
        "session": m.session,
        "invalid": "; ".join(m.invalid),
    }


def _cell(value: Any) -> Any:
    """Text that a spreadsheet would evaluate as a formula gets an apostrophe (OWASP, CSV injection).

    Spreadsheets skip leading spaces, and read full-width signs (＝) as the plain ones.
    """
    if not isinstance(value, str):
        return value
    text = printable(value)
    first = unicodedata.normalize("NFKC", text).lstrip()[:1]
    return "'" + text if first in tuple("=+-@") else text
