"""Learning rates: over time, and by layer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training.conftest import tiny

from edgekit.training import rates
from edgekit.training.settings import Settings

torch = pytest.importorskip("torch")


BASE = Settings(epochs=2, batch=64, lr=0.01)


def test_layers_learn_at_their_own_rates() -> None:
    network = tiny()
    stages = list(rates.stages(network))
    assert stages == ["body.0", "body.1", "head"]
    optimizer = rates.build_optimizer(network, (), replace(BASE, lr=1.0, lr_decay=0.5, lr_factors=("body.0=0.1",)))
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    parameters = dict(network.named_parameters())
    rates_by_stage = [
        {rate[id(p)] for name, p in parameters.items() if rates.is_within(name, stage)} for stage in stages
    ]
    expected = [0.5 ** (len(stages) - 1 - i) * (0.1 if i == 0 else 1) for i in range(len(stages))]
    assert [min(rates_) for rates_ in rates_by_stage] == pytest.approx(expected)
    assert len(rate) == len(list(network.parameters()))
    spared = rates.build_optimizer(network, (), replace(BASE, decay="weights"))
    for group in spared.param_groups:
        assert all((p.ndim < 2) == (group["weight_decay"] == 0) for p in group["params"])


def test_schedules() -> None:
    assert rates.rate_factor("cosine", 0, 0, 100) == 1 and rates.rate_factor("cosine", 99, 0, 100) < 0.001
    assert rates.rate_factor("cosine", 4, 10, 110) == 0.5
    assert [rates.rate_factor("step", step, 0, 100) for step in (0, 50, 75)] == pytest.approx([1, 0.1, 0.01])
    assert rates.rate_factor("constant", 80, 0, 100) == 1


@given(st.sampled_from(["cosine", "step", "constant"]), st.integers(0, 50), st.integers(1, 200), st.data())
def test_a_rate_is_a_share_of_the_highest(kind: str, warmup: int, total: int, data: st.DataObject) -> None:
    total += warmup
    step = data.draw(st.integers(0, total))
    factor = rates.rate_factor(kind, step, warmup, total)
    assert 0 <= factor <= 1
    if step >= warmup and step < total:
        assert rates.rate_factor(kind, step + 1, warmup, total) <= factor, "it never rises after the warm-up"
    if 0 < step < warmup:
        assert rates.rate_factor(kind, step - 1, warmup, total) < factor, "and rises until then"
