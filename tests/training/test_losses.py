"""Losses: which labels they fit, and their values by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgekit.core import registry
from edgekit.core.errors import InputError
from edgekit.sets import reading
from edgekit.training import losses
from edgekit.training.settings import Settings

torch = pytest.importorskip("torch")


BASE = Settings(epochs=2, batch=64, lr=0.01)


def test_losses_that_do_not_fit(members: None) -> None:
    task = registry.load("tasks", "bars")()
    inputs = {"input": np.zeros((8, 2), np.float32)}
    values = reading.sample_set("v", inputs, np.linspace(-3, 3, 8, dtype=np.float32))
    classes = reading.sample_set("c", inputs, np.arange(8) % 4)
    for kind, data, message in (
        ("cross-entropy", values, "values, not classes"),
        ("bce", values, "from -3 to 3"),
        ("mse", classes, "not quantities"),
    ):
        with pytest.raises(InputError, match=message):
            losses.select_losses(replace(BASE, loss=kind), task, data)  # type: ignore[arg-type]
    train_loss, validation_loss = losses.select_losses(replace(BASE, label_smoothing=0.2), task, classes)
    logits, labels = torch.eye(4) * 9, torch.arange(4)
    assert float(train_loss(logits, labels)) > float(validation_loss(logits, labels)) > 0
    ratings = reading.sample_set("r", inputs, np.linspace(0, 1, 8, dtype=np.float32))
    with pytest.raises(InputError, match="has no label smoothing"):
        losses.select_losses(replace(BASE, label_smoothing=0.2), type("T", (), {"name": "t", "loss": 1})(), ratings)
    one_hot = torch.nn.functional.one_hot(labels, 4).float()
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, one_hot)
    assert torch.allclose(losses.bce(logits, labels), expected)
    with pytest.raises(InputError, match="differ in shape"):
        losses.bce(torch.zeros(4, 2), torch.zeros(4, 3))
