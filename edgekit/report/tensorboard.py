"""Measurements → TensorBoard: each row is a run with its values as scalars and its attributes as hyperparameters.

The HParams tab shows them as a table, parallel coordinates and a scatter matrix.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.core.errors import Missing
from edgekit.core.measurement import Measurement
from edgekit.report.logged import ATTRIBUTES, attributes, figures, names


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

    hyperparameters = [hyper.HParam(name) for name in ATTRIBUTES]
    place = folder.resolve()  # "." has no name
    part = place.with_name(f".{place.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        write(part, [hyper.hparams_config_pb(hyperparameters, [hyper.Metric(tag) for tag in _tags(measurements)])])
        for name, m in zip(names(measurements), measurements, strict=True):
            scalars = [scalar_pb(tag, value) for tag, value in figures(m).items()]
            write(part / name, [hyper.hparams_pb(attributes(m), trial_id=name), *scalars])
        for file in [path for path in part.rglob("*") if path.is_file()]:
            target = place / file.relative_to(part)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _tags(measurements: Sequence[Measurement]) -> list[str]:
    return list(dict.fromkeys(tag for m in measurements for tag in figures(m)))
