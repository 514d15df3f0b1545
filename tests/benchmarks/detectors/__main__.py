"""mAP of a YOLOv8n in three runtimes, in float and int8: edgekit's, and the files that other quantizers' defaults give.

The network is trained here with Ultralytics (AGPL-3.0: measured, not shipped) on composed pictures (`composed.py`),
and its own ONNX export is what every tool starts from. `make bench-detectors` installs it beside edgekit; it is
resumed where it was interrupted. `--json FILE` keeps the rows, `--show FILE` prints the table of such a file.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "quantize"))

import composed
import measure
import networks
import peers
import yolo

from edgekit.core import statistics
from edgekit.core.artifact import Artifact
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan
from edgekit.core.task import Scores
from edgekit.measure import targets
from edgekit.measure.execute import execute_all, runtimes_for
from edgekit.runs import named_sets
from edgekit.runs.references import resolve
from edgekit.tasks.shared import by_signature
from edgekit.workflows import import_, quantize

FORMATS = ("onnx", "tflite", "openvino")
CALIBRATION = 100
FLOAT, OURS, TORCH = "float", "edgekit", "torch"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--show", type=Path, help="only print the table of such a file")
    parser.add_argument("--packages", type=Path, help="the folder that Ultralytics and torchvision are in")
    options = parser.parse_args()
    sys.path += [str(options.packages)] if options.packages else []
    if options.show:
        print(table(json.loads(options.show.read_text())))
        return
    folder = composed.cache()
    yaml = composed.write(folder / "pictures")
    document = {
        "cpu": targets.device(targets.load("host")).facts()["cpu"],
        "versions": versions(),
        "rows": list(rows(yaml, folder)),
    }
    if options.json:
        options.json.write_text(json.dumps(document, indent=1) + "\n")
    print(table(document))


def rows(yaml: Path, folder: Path) -> Iterator[dict[str, Any]]:
    file = yolo.trained(yaml, folder)
    model = import_.import_model(str(file), out=folder / "run", say=say).artifacts[0]
    test = named_sets.load(f"{yaml}:test", model.inputs)
    feeds = [{model.inputs[0].name: x[None]} for x in calibration(yaml, model).inputs[model.inputs[0].name]]
    score = by_signature.scorer(test, model)
    reference = score({model.outputs[0].name: yolo.outputs(folder, test)}, test.labels)
    yield row("torch", TORCH, reference, reference)
    for format in FORMATS:
        files, seconds, failed = made(yaml, folder, format, feeds)
        runtime = runtimes_for(files[FLOAT], targets.load("host"))[0]
        yield from measured(runtime, files, seconds, failed, test, score, reference)


def calibration(yaml: Path, model: Artifact) -> SampleSet:
    return named_sets.load(f"{yaml}?count={CALIBRATION}:train", model.inputs)


def made(
    yaml: Path, folder: Path, format: str, feeds: list[peers.Feed]
) -> tuple[dict[str, Artifact], dict[str, float], dict[str, str]]:
    """Tool → its file, its seconds, or why there is none. edgekit gets nothing but the data and --max-drop 1."""
    say(f"{format}: {OURS} …")
    started = time.monotonic()
    outcome = quantize.quantize(
        str(folder / "run" / "onnx"),
        to=[format],
        calibration=f"{yaml}?count={CALIBRATION}:train",
        val=f"{yaml}:val",
        max_drop_pp=1.0,
        say=say,
    )
    ours = next(a for a in reversed(outcome.artifacts) if a.kind.format == format and a.kind.precision)
    store = resolve(str(folder / "run" / "onnx")).store
    files = {FLOAT: store.get(format), OURS: ours}
    seconds, failed = {OURS: time.monotonic() - started}, {}
    for name, peer in peers.peers(format, dynamic=False).items():
        say(f"{format}: {name} …")
        try:
            path, seconds[name] = peers.made(peer, files[FLOAT], feeds, folder / "rivals")
            files[name] = networks.brought(path, path.parent / "run", measure_silent)
        except Exception as error:  # a rival may fail in any way
            failed[name] = measure.one_line(error)
    return files, seconds, failed


def measured(
    runtime: str,
    files: Mapping[str, Artifact],
    seconds: Mapping[str, float],
    failed: Mapping[str, str],
    test: SampleSet,
    score: Any,
    reference: Scores,
) -> Iterator[dict[str, Any]]:
    host, plan = targets.load("host"), Plan()
    times = measure._times(files, runtime, host, test, plan)
    base = statistics.latency(times[FLOAT].processes, plan.threads, 1)
    for name, file in files.items():
        run = execute_all([(file, runtime)], host, test, plan, latency=False)[0]
        scores = score(run.outputs, test.labels)
        latency = statistics.latency(times[name].processes, plan.threads, 1)
        ratio = statistics.latency_ratio(latency, base, paired=True)
        extra = {"ratio": dataclasses.asdict(ratio), "kB": file.sizes.total / 1000, "seconds": seconds.get(name)}
        yield {**row(runtime, name, scores, reference), **extra, "invalid": list(times[name].invalid)}
    for name, why in failed.items():
        yield {"runtime": runtime, "tool": name, "failed": why}


def row(runtime: str, tool: str, scores: Scores, reference: Scores) -> dict[str, Any]:
    drop, ends, _ = statistics.bootstrap_drop(reference, scores)
    return {"runtime": runtime, "tool": tool, "mAP": scores.value, "drop": drop, "drop_ci95": list(ends)}


def versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in (*peers.TOOLS, "ultralytics", "torch")}


def table(document: Mapping[str, Any]) -> str:
    """Markdown. The drop is against torch, in points; times are ratios to float in the same runtime."""
    lines = [
        "| runtime | file | mAP % | drop, 95 % interval | p50 / float | kB | made in s |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for entry in document["rows"]:
        if why := entry.get("failed"):
            lines.append(f"| {entry['runtime']} | {entry['tool']} | failed: {why} | | | | |")
            continue
        low, high = (100 * end for end in entry["drop_ci95"])
        drop = f"{100 * entry['drop']:.2f} ({low:.2f} to {high:.2f})".replace("-0.00", "0.00")
        drop = "" if entry["tool"] == TORCH else drop
        ratio = f"{entry['ratio']['value']:.2f}" if "ratio" in entry else ""
        size = f"{entry['kB']:,.0f}" if "kB" in entry else ""
        made_in = f"{entry['seconds']:.0f}" if entry.get("seconds") is not None else ""
        cells = (entry["runtime"], entry["tool"], f"{100 * entry['mAP']:.2f}", drop, ratio, size, made_in)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measure_silent(line: str) -> None:
    """Rivals' imports say nothing."""


if __name__ == "__main__":
    main()
