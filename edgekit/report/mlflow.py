"""Measurements → MLflow: each row is a run with its figures as metrics and its attributes as parameters."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from edgekit.core.config import short
from edgekit.core.errors import InputError, Missing
from edgekit.core.measurement import Measurement
from edgekit.report.logged import attributes, figures, names, without_password


def mlflow(measurements: Sequence[Measurement], experiment: str) -> None:
    """Log to an experiment, which is created if there is none of that name, where MLFLOW_TRACKING_URI says.

    Raises Missing if MLflow is not installed, InputError with MLflow's reason if it refuses; rows before the one that
    failed stay logged.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param
        from mlflow.exceptions import MlflowException
    except ImportError as error:
        raise Missing.install("--mlflow", "mlflow", "mlflow") from error
    done = 0
    try:
        client = MlflowClient()
        known = client.get_experiment_by_name(experiment)
        place = known.experiment_id if known else client.create_experiment(experiment)
        for name, m in zip(names(measurements), measurements, strict=True):
            run = client.create_run(place, run_name=name).info
            # its names are ASCII, and no metric of the field has another character than these but @ and ²
            metrics = {re.sub(r"[^A-Za-z0-9_\-./ ]", "_", tag)[:250]: value for tag, value in figures(m).items()}
            client.log_batch(
                run.run_id,
                metrics=[Metric(tag, value, run.start_time, 0) for tag, value in metrics.items()],
                params=[Param(key, str(value)[:6000]) for key, value in attributes(m).items()],
            )
            client.set_terminated(run.run_id)
            done += 1
    except MlflowException as error:
        why = without_password(short(error))
        what = f"MLflow logged {done} of {len(measurements)} rows"
        raise InputError(what, why, "check MLFLOW_TRACKING_URI and the name of the experiment") from error
