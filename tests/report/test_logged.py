"""Rows in MLflow and Weights & Biases, by their own clients, which find every row with its figures and attributes."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from helpers import Ended, environment
from outside import FOLDERS, outside
from report.made_up import HOSTILE, latency, measurement, metric
from report.test_files import write_results

from edgekit import report
from edgekit.core.errors import InputError, Missing
from edgekit.core.measurement import Measurement
from edgekit.report.logged import ATTRIBUTES, attributes, figures, names, without_password

Log = Callable[[Sequence[Measurement], str], None]

ROWS = [
    measurement("ds.onnx-int8", 0.875, 0.25, precision="int8"),
    measurement("ds.onnx-int8", 0.875, 0.125, precision="int8", latency_ms=latency(0.125, threads=2)),
    measurement("odd", metric=metric(math.nan, name="HR@10 ²\n"), runtime=HOSTILE, invalid=("throttled",)),
    measurement("bare", metric=None, latency_ms=None),
]


def test_what_a_tracker_is_given() -> None:
    assert list(names([ROWS[0], ROWS[0]])) == [name := "ds.onnx-int8--host--onnxruntime--1x1", f"{name}--2"]
    for m in ROWS:
        assert set(attributes(m)) <= set(ATTRIBUTES)
        assert all(math.isfinite(value) for value in figures(m).values())
    assert figures(ROWS[1])["p50_ms"] == 0.125 and attributes(ROWS[1])["threads"] == 2
    assert without_password("GET http://me:secret@host/a failed") == "GET http://***@host/a failed"


@pytest.mark.parametrize(("module", "log"), [("mlflow", report.mlflow), ("wandb", report.wandb)])
def test_without_its_client_the_message_says_what_to_install(
    module: str, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(Missing, match=f"--{module} needs {module}") as error:
        log(ROWS, "a")
    assert error.value.next == f"pip install 'edgekit-toolkit[{module}]'" and error.value.code == 3


def test_on_the_command_line(cli: Callable[..., Ended], tmp_path: Path) -> None:
    results = write_results(tmp_path)
    (tmp_path / "wandb.py").write_text("raise ImportError")  # an import finds the folder of `python -m` first
    ended = cli("compare", results, "--wandb", "shop")
    assert ended.code == 3 and ended.line.endswith("pip install 'edgekit-toolkit[wandb]'")


@pytest.mark.slow
def test_mlflow_finds_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = outside("mlflow", "mlflow-skinny")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "runs").as_uri())
    report.mlflow(ROWS, "shop")
    report.mlflow(ROWS[:1], "shop")
    store = client.MlflowClient()
    experiment = store.get_experiment_by_name("shop")
    runs = {run.info.run_name: run for run in store.search_runs([experiment.experiment_id])}
    assert set(runs) == set(names(ROWS))
    run = runs["ds.onnx-int8--host--onnxruntime--2x1"]
    assert run.info.status == "FINISHED" and run.data.metrics == figures(ROWS[1])
    assert run.data.params["precision"] == "int8" and run.data.params["threads"] == "2"
    assert len(store.search_runs([experiment.experiment_id])) == len(ROWS) + 1

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(InputError, match="MLflow logged 0 of 4 rows") as error:
        report.mlflow(ROWS, "shop")
    assert "secret" not in str(error.value)


@pytest.mark.slow
def test_wandb_finds_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outside("wandb")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    report.wandb(ROWS, "shop")
    written = [path.read_bytes() for path in tmp_path.glob("wandb/offline-*/*.wandb")]
    assert len(written) == len(ROWS)
    for name, m in zip(names(ROWS), ROWS, strict=True):
        (raw,) = [raw for raw in written if name.encode() in raw]
        assert all(tag.encode() in raw for tag in (*figures(m), *attributes(m), "shop"))
        assert sys.executable.encode() not in raw and str(tmp_path).encode() not in raw


@pytest.mark.slow
def test_wandb_refuses_in_a_line(cli: Callable[..., Ended], tmp_path: Path) -> None:
    """Without an account, and with a server that does not answer."""
    outside("wandb")
    path = os.pathsep.join([os.environ.get("PYTHONPATH", ""), *FOLDERS])
    place = {"WANDB_BASE_URL": "http://127.0.0.1:9", "HOME": str(tmp_path), "PYTHONPATH": path}
    ended = cli("compare", write_results(tmp_path), "--wandb", "shop", env=environment(**place))
    assert ended.code == 2 and "Weights & Biases logged 0 of 8 rows: " in ended.line
    assert ended.line.endswith("WANDB_MODE=offline to log into ./wandb")
