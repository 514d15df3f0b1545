"""Measurements → Weights & Biases: each row is a run with its figures, and its attributes as configuration."""

from __future__ import annotations

import os
from collections.abc import Sequence

from edgekit.core.config import short
from edgekit.core.errors import InputError, Missing
from edgekit.core.measurement import Measurement
from edgekit.report.logged import attributes, figures, names, without_password


def wandb(measurements: Sequence[Measurement], project: str) -> None:
    """Log to a project of the account that `wandb login` set up; with WANDB_MODE=offline into `./wandb`.

    Code, packages and facts of this machine are not sent. Raises Missing if its client is not installed, InputError
    with its reason if it refuses; rows before the one that failed stay logged.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb as client
    except ImportError as error:
        raise Missing.install("--wandb", "wandb", "wandb") from error
    done = 0
    settings = client.Settings(
        silent=True,
        host="",
        console="off",
        disable_git=True,
        save_code=False,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    try:
        for name, m in zip(names(measurements), measurements, strict=True):
            with client.init(
                project=project, name=name, config=dict(attributes(m)), settings=settings, reinit="create_new"
            ) as run:
                run.log(figures(m))
            done += 1
    except client.Error as error:
        why = without_password(short(error))
        what = f"Weights & Biases logged {done} of {len(measurements)} rows"
        raise InputError(what, why, "wandb login, or WANDB_MODE=offline to log into ./wandb") from error
