"""Measurements → TensorBoard: each row is a run with its values as scalars and its attributes as hyperparameters.

The HParams tab shows them as a table, parallel coordinates and a scatter matrix.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.core.errors import Missing
from edgekit.core.measurement import Measurement
from edgekit.core.printable import printable
from edgekit.report.rows import memory

#: attributes of a row that become hyperparameters
FIELDS = ("artifact", "target", "runtime", "format", "precision", "scheme", "provenance")


def tensorboard(measurements: Sequence[Measurement], folder: Path) -> None:
    """Write event files under `folder`; none if that fails. Raises Missing if TensorBoard is not installed."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.plugins.hparams import summary_v2 as hyper
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise Missing.install("--tensorboard", "tensorboard", "tensorboard") from error

    def write(directory: Path, summaries: Sequence[Any]) -> None:
        """One event file. TensorBoard's own EventFileWriter loses the errors of its thread, such as a full disk."""
        directory.mkdir(parents=True)
        now = time.time()
        events = [Event(wall_time=now, file_version="brain.Event:2")]
        events += [Event(wall_time=now, step=0, summary=item) for item in summaries]
        with (directory / f"events.out.tfevents.{time.time_ns()}").open("wb") as file:
            records = RecordWriter(file)
            for event in events:
                records.write(event.SerializeToString())

    hyperparameters = [hyper.HParam(name) for name in (*FIELDS, "threads", "batch", "valid")]
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        write(part, [hyper.hparams_config_pb(hyperparameters, [hyper.Metric(tag) for tag in _tags(measurements)])])
        for name, m in zip(_names(measurements), measurements, strict=True):
            scalars = [scalar_pb(tag, value) for tag, value in _figures(m).items()]
            write(part / name, [hyper.hparams_pb(_hyperparameters(m), trial_id=name), *scalars])
        for file in [path for path in part.rglob("*") if path.is_file()]:
            place = folder / file.relative_to(part)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _names(measurements: Sequence[Measurement]) -> Iterator[str]:
    """A unique folder name for each row, from its attributes, with portable characters only."""
    counts: Counter[str] = Counter()
    for m in measurements:
        plan = f"{m.latency_ms.threads}x{m.latency_ms.batch}" if m.latency_ms else ""
        words = [m.artifact, m.target, m.runtime, plan]
        name = "--".join(filter(None, (re.sub(r"[^\w.@~+-]", "_", word).strip(".")[:60] for word in words))) or "row"
        counts[name] += 1
        yield f"{name}--{counts[name]}" if counts[name] > 1 else name


def _hyperparameters(m: Measurement) -> Mapping[str, Any]:
    plan = {"threads": m.latency_ms.threads, "batch": m.latency_ms.batch} if m.latency_ms else {}
    return {**{name: printable(getattr(m, name)) for name in FIELDS}, **plan, "valid": not m.invalid}


def _figures(m: Measurement) -> dict[str, float]:
    """Tag → value of what was measured."""
    metric, latency = m.metric, m.latency_ms
    values: dict[str, float | None] = {
        printable(metric.name or "metric") if metric else "metric": metric.value if metric else None,
        "drop_pp": metric.drop_pp if metric else None,
        "p50_ms": latency.p50 if latency else None,
        "p90_ms": latency.p90 if latency else None,
        "p99_ms": latency.p99 if latency else None,
        "load_ms": m.load_ms,
        "size_bytes": m.size_bytes,
        "weight_bytes": m.weight_bytes,
        "memory_bytes": memory(m),
    }
    return {tag: float(value) for tag, value in values.items() if value is not None and math.isfinite(value)}


def _tags(measurements: Sequence[Measurement]) -> list[str]:
    return list(dict.fromkeys(tag for m in measurements for tag in _figures(m)))
