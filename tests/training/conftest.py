"""A small fit on the task `bars`, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekit import networks, registry, sets
from edgekit.training.settings import Settings
from edgekit.types import quiet

torch = pytest.importorskip("torch")

Fit = Callable[..., tuple[Any, list[dict[str, Any]]]]


@pytest.fixture
def bars_fit(members: None) -> Fit:
    """Fit a fresh `cnn` (or `network`) to the first samples of bars; returns it and the history."""

    def call(settings: Settings, *, network: Any = None, samples: int = 192, task: Any = None, **more: Any) -> Any:
        from edgekit.training import engine

        task = task or registry.load("tasks", "bars")()
        train, val = sets.take(sets.load("bars:train"), samples), sets.take(sets.load("bars:val"), 100)
        if network is None:
            torch.manual_seed(settings.seed)
            network = networks.build("cnn", {**task.arguments("cnn"), "dropout": 0.2})
        keep: Path | None = more.pop("scratch", None)
        arguments = {"device": torch.device("cpu"), "progress": quiet, "scratch": keep, **more}
        history = engine.fit(
            network,
            settings,
            task,
            more.pop("train", train),
            more.pop("val", val),
            **{key: value for key, value in arguments.items() if key not in ("train", "val")},
        )
        return network, history

    return call
