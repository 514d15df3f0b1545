"""The rows as docs/quickstarts-compared.md."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from quickstarts import Quickstart

MODELS = {
    "detector": "YOLOv8n (`.pt`), pictures in Ultralytics' layout",
    "classifier": "An image classifier (ONNX), photos by class",
    "bert": "A text classifier (BERT, Hugging Face's format), stories as CSV",
}
#: what each model is: its times are those of a small network
ABOUT = {
    "detector": "YOLOv8n with 3 classes, 12 MB, trained by Ultralytics on composed pictures of 96 x 96 pixels.",
    "classifier": "A convolutional network of 0.4 MB, trained here for two epochs on Fashion-MNIST's 28 x 28 pixels.",
    "bert": "A BERT of two layers and 128 units, 4 MB, trained here on 20 Newsgroups' stories, 64 tokens.",
}
HEAD = """# Quickstarts compared

What one types, waits for and gets on the way to a first int8 file of one's own model, with the commands that each
tool's documentation gives. `make bench-quickstarts` runs them all again, each tool in an environment of its own, told
by its own settings to use no network, and writes this page.

"""
COLUMNS = (
    "| tool | result | commands | lines to write | seconds (CPU) | says the metric | says the latency "
    "| metric: float → int8 | p50, ms | kB |",
    "|---|---|---:|---:|---:|---|---|---:|---:|---:|",
)
NOTES = """
- **Commands** and **lines to write** lead to the int8 file. `+ n` commands: those that the tool has for measuring the
  metric of the float model and of the int8 file. edgekit measures within `quantize`, on the validation data, against
  the float model.
- **Seconds** are wall time of one run from the installed tool to the file, with the CPU time of all cores. edgekit's
  contain measuring the float model and every attempt on the validation data, and latencies; the other tools measure
  nothing.
- **Says**: whether the commands' output has a metric, or a latency, of the int8 file.
- **Metric** and **p50** are measured afterwards by `edgekit bench --quick`, on test data that no tool saw:
  {cases}. One thread, batch 1.
- **Installed** is what pip put into the tool's environment, without PyTorch and the CUDA packages of its builds.
"""


def key(quickstart: Quickstart) -> str:
    return f"{quickstart.tool} {quickstart.model} {quickstart.result}"


def write(document: Mapping[str, Any], quickstarts: Sequence[Quickstart], path: Path) -> None:
    path.write_text(text(document, quickstarts))


def text(document: Mapping[str, Any], quickstarts: Sequence[Quickstart]) -> str:
    rows = document["rows"]
    parts = [HEAD]
    for model, title in MODELS.items():
        chosen = [q for q in quickstarts if q.model == model and key(q) in rows]
        if chosen:
            base = rows.get(f"float {model}", {})
            parts += [
                f"## {title}\n\n{ABOUT[model]}\n\n",
                "\n".join([*COLUMNS, *(_row(q, rows[key(q)], base) for q in chosen)]),
                "\n\n",
            ]
            for kind in ("static", "dynamic or of weights only"):
                parts += [f"- {kind}: {line}\n" for line in _worse([q for q in chosen if _kind(q) == kind], rows)]
            parts += ["\n"]
    parts += [
        "## How to read it\n",
        NOTES.format(cases=_cases(rows)),
        "\n",
        *_installed(document),
        _commands(quickstarts, rows),
    ]
    return re.sub(r"\n{3,}", "\n\n", "".join(parts)).rstrip() + "\n"


def _row(quickstart: Quickstart, row: Mapping[str, Any], base: Mapping[str, Any]) -> str:
    checks = f" + {len(quickstart.checks)}" if quickstart.checks else ""
    start = f"| {quickstart.tool} | {quickstart.result} | {len(quickstart.commands)}{checks} | {_lines(quickstart)} "
    if why := row.get("failed"):
        return f"{start}| | failed: {_cell(why)} | | | | |"
    said = " | ".join("yes" if row[name] else "no" for name in ("metric_told", "latency_told"))
    before = f"{100 * base['value']:.1f} → " if "value" in base else ""
    metric = f"{before}{100 * row['value']:.1f} % {row['metric']}" if "value" in row else "not measured"
    p50 = f"{row['p50']:.2f}" if row.get("p50") else ""
    seconds = f"{row['seconds']:.0f} ({row['cpu_seconds']:.0f})"
    return f"{start}| {seconds} | {said} | {metric} | {p50} | {row['kB']:,.0f} |"


def _cell(why: str) -> str:
    return why.replace("|", "/").replace("<", "").replace("`", "'")[:120]


def _worse(chosen: Sequence[Quickstart], rows: Mapping[str, Any]) -> Iterator[str]:
    """Where the best of edgekit's is worse than the best of the others that made a file, as the table shows it."""
    ours = [q for q in chosen if q.tool == "edgekit" and "failed" not in rows[key(q)]]
    theirs = [q for q in chosen if q.tool != "edgekit" and "failed" not in rows[key(q)]]
    if not ours or not theirs:
        return
    columns: dict[str, Callable[[Quickstart], float]] = {
        "commands": lambda q: len(q.commands),
        "lines to write": _lines,
        "seconds": lambda q: round(rows[key(q)]["seconds"]),
        "metric, %": lambda q: -round(100 * rows[key(q)].get("value", 0), 1),
        "p50, ms": lambda q: round(rows[key(q)].get("p50") or float("inf"), 2),
        "kB": lambda q: round(rows[key(q)]["kB"]),
    }
    worse = []
    for name, value in columns.items():
        best, other = (min(map(value, each)) for each in (ours, theirs))
        if best > other:
            worse.append(f"{name} ({abs(best):g}; the best of the others: {abs(other):g})")
    if worse:
        notes = "".join(f" {note[0].upper()}{note[1:]}." for note in dict.fromkeys(q.note for q in ours if q.note))
        yield f"the best of edgekit's rows is worse in {', '.join(worse)}.{notes}"


def _kind(quickstart: Quickstart) -> str:
    calibrated = not any(word in quickstart.result for word in ("dynamic", "weights only"))
    return "static" if calibrated else "dynamic or of weights only"


def _lines(quickstart: Quickstart) -> int:
    return sum(map(_written, quickstart.files.values()))


def _written(text: str) -> int:
    """Lines that are not blank."""
    return sum(bool(line.strip()) for line in text.splitlines())


def _cases(rows: Mapping[str, Any]) -> str:
    names = {"detector": "1,000 pictures", "classifier": "2,000 photos", "bert": "2,189 stories"}
    return ", ".join(text for model, text in names.items() if f"float {model}" in rows)


def _installed(document: Mapping[str, Any]) -> Iterator[str]:
    yield "| tool | version | MB installed |\n|---|---|---:|\n"
    for tool, megabytes in document.get("megabytes", {}).items():
        yield f"| {tool} | {document['versions'][tool]} | {megabytes:,} |\n"
    sizes = document.get("megabytes", {})
    if sizes and "edgekit" in sizes and sizes["edgekit"] > min(sizes.values()):
        why = "its environment has the runtimes and converters of ONNX, TFLite and OpenVINO"
        yield f"\nedgekit is worse in MB installed: {why}.\n"
    yield f"\nMeasured on {document.get('cpu', '?')}.\n\n"


def _commands(quickstarts: Sequence[Quickstart], rows: Mapping[str, Any]) -> str:
    parts = ["## The commands\n\n"]
    for quickstart in quickstarts:
        if key(quickstart) not in rows:
            continue
        files = "".join(f"# {name}: {_written(text)} lines\n" for name, text in quickstart.files.items())
        lines = "\n".join((*quickstart.commands, *(f"{check}  # measures" for check in quickstart.checks)))
        parts.append(f"{quickstart.tool}, {quickstart.model}, {quickstart.result}:\n\n```\n{files}{lines}\n```\n\n")
    return "".join(parts) + "The files that one writes are in `tests/benchmarks/quickstarts/quickstarts.py`.\n"
