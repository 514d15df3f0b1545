"""A small fit on the task `bars`, in this process. torch is imported late: see pytest_configure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest

from edgekit import sets
from edgekit.core import registry
from edgekit.core.progress import quiet
from edgekit.runs import named_sets
from edgekit.training.settings import Settings


def tiny(seed: int = 0) -> Any:
    """Convolution, normalisation and dropout, trained in seconds."""
    import torch
    from torch import nn

    torch.manual_seed(seed)
    body = nn.Sequential(nn.Conv2d(1, 8, 5, stride=5), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(OrderedDict(body=body, flat=nn.Flatten(), drop=nn.Dropout(0.2), head=nn.Linear(128, 4)))


Fit = Callable[..., tuple[Any, list[dict[str, Any]]]]


@pytest.fixture
def bars_fit(members: None) -> Fit:
    """Fit a fresh `tiny` (or `network`) to the first samples of bars; returns it and the history."""

    def call(settings: Settings, *, network: Any = None, samples: int = 192, task: Any = None, **more: Any) -> Any:
        import torch

        from edgekit.training import engine

        task = task or registry.load("tasks", "bars")()
        train, val = sets.take(named_sets.load("bars:train"), samples), sets.take(named_sets.load("bars:val"), 100)
        arguments = {
            "train": train,
            "val": val,
            "device": torch.device("cpu"),
            "progress": quiet,
            "scratch": None,
            **more,
        }
        network = tiny(settings.seed) if network is None else network
        history = engine.fit(network, settings, task, **arguments)
        return network, history

    return call
