"""A base learnt on one task and adapted to another: a frozen part stays to the bit, a fresh one does not come along."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import QUICK_PLAN

from edgekit.core.errors import RecipeError
from edgekit.runs import recipe

pytest.importorskip("torch")
from edgekit.networks.weights import read_weights

#: as `bars`, with its classes turned round
OTHER = """
import numpy as np
from edgekit_members.bars import Bars
from edgekit.sets import sample_set

class Turned(Bars):
    def load(self, split):
        data = super().load(split)
        return sample_set(f"{self.name}:{split}", data.inputs, 1 - np.minimum(data.labels, 1))
"""
RECIPE = """
task = "bars"
[train]
model = "cnn"
epochs = 2
batch = 32
[pretrain]
on = "turned.py:Turned"
model = "cnn"
epochs = 1
[[chain]]
name = "base"
steps = ["pretrain"]
[[chain]]
steps = [{step = "train", init = "base.torch", fresh = ["head"], freeze = ["features"]}]
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: None) -> None:
    monkeypatch.chdir(tmp_path)
    Path("turned.py").write_text(OTHER)


@pytest.mark.slow
def test_a_base_is_adapted(cli: Callable[..., Any], tmp_path: Path) -> None:
    Path("fine.toml").write_text(RECIPE + QUICK_PLAN)
    ended = cli("run", "fine.toml", "--out", "run")
    assert ended.code == 0, ended.err
    base, made = (read_weights(next(Path("run", name).glob("*.safetensors"))) for name in ("base.torch", "torch"))
    kept = [name for name in base if name.startswith("features.")]
    assert kept and all(np.array_equal(base[name], made[name]) for name in kept)
    assert not np.array_equal(base["head.0.weight"], made["head.0.weight"])


@pytest.mark.parametrize(
    ("on", "what"),
    [("", "there is no task to train on"), ("no-such-task", "no-such-task"), ("mnist?x=1", "no options")],
)
def test_a_task_that_is_none(on: str, what: str) -> None:
    Path("fine.toml").write_text(RECIPE.replace("turned.py:Turned", on))
    with pytest.raises(RecipeError) as error:
        recipe.load("fine.toml")
    assert what in " ".join(map(str, error.value.problems))
