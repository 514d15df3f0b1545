"""TensorBoard's own reader finds every row, its figures and what it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report.made_up import HOSTILE, STEERING, latency, measurement, metric

from edgekit.core.errors import Missing
from edgekit.report import tensorboard


def _read(folder: Path) -> dict[str, Any]:
    """Folder → an accumulator of TensorBoard's."""
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = {}
    for place in sorted({path.parent for path in folder.rglob("events.*")}):
        found[str(place.relative_to(folder))] = reader.EventAccumulator(str(place)).Reload()
    return found


def test_every_row_is_a_run_with_its_figures(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.plugins.hparams import metadata

    rows = [
        measurement("ds.onnx-int8", 0.875, 0.25, precision="int8"),
        measurement("ds.onnx-int8", 0.875, 0.125, precision="int8", latency_ms=latency(0.125, threads=2)),
        measurement("../" + HOSTILE, invalid=("throttled",)),
        measurement("odd", metric=metric(name=HOSTILE)),
        measurement("bare", metric=None, latency_ms=None),
    ]
    tensorboard(rows, tmp_path / "logs")
    found = _read(tmp_path / "logs")
    assert len(found) == 1 + len(rows) and all(".." not in name for name in found)
    one = found["ds.onnx-int8--host--onnxruntime--1x1"]
    tags = [tag for tag in one.Tags()["tensors"] if "_hparams" not in tag]
    figures = {tag: one.Tensors(tag)[0].tensor_proto.float_val[0] for tag in tags}
    assert figures["accuracy"] == 0.875 and figures["p50_ms"] == 0.25 and figures["size_bytes"] == 100_000
    said = one.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    start = metadata.parse_session_start_info_plugin_data(said)
    assert start.hparams["precision"].string_value == "int8" and start.hparams["threads"].number_value == 1
    assert found["bare--host--onnxruntime"].Tags()["tensors"].count("p50_ms") == 0
    experiment = found["."].SummaryMetadata(metadata.EXPERIMENT_TAG).plugin_data.content
    told = [info.name.tag for info in metadata.parse_experiment_plugin_data(experiment).metric_infos]
    assert not any(STEERING.search(tag) for tag in told)
    assert {"accuracy", "p50_ms", "size_bytes", "memory_bytes"} <= set(told)


def test_the_working_directory_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "logs").mkdir()
    monkeypatch.chdir(tmp_path / "logs")
    tensorboard([measurement()], Path())
    assert list(Path().rglob("events.*")) and [path.name for path in tmp_path.iterdir()] == ["logs"]


def test_without_it_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.plugins.hparams", None)
    with pytest.raises(Missing, match="tensorboard") as error:
        tensorboard([measurement()], tmp_path / "logs")
    assert "edgekit-toolkit[tensorboard]" in error.value.next
    assert not (tmp_path / "logs").exists()


def test_on_the_command_line(cli: Callable[..., Any], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from report.test_files import write_results

    ended = cli("compare", write_results(tmp_path), "--tensorboard", "logs")
    assert ended.code == 0, ended.err
    assert "tensorboard --logdir logs" in ended.err
    assert len(_read(tmp_path / "logs")) == 9
