"""Every exporter from torch: an operator it has no way for is named, with the module and the line it stands in."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from edgekit.core import registry
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.errors import CannotConvert
from edgekit.core.progress import quiet
from edgekit.core.step import Context, Step, StepResult
from edgekit.networks import named
from edgekit.runs.store import Store


class Bessel(torch.nn.Module):  # type: ignore[misc]
    def forward(self, x: Any) -> Any:
        return torch.special.bessel_j0(x)


class Odd(torch.nn.Module):  # type: ignore[misc]
    """A linear layer, then an operator that no runtime has."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.inner = torch.nn.Linear(4, 4), Bessel()

    def forward(self, x: Any) -> Any:
        return self.inner(self.linear(x))


@dataclass(frozen=True)
class MakeOdd(Step):
    produces: ClassVar[Kind] = Kind("torch")

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        specs = {side: [{"name": side, "dtype": "float32", "shape": [None, 4]}] for side in ("inputs", "outputs")}
        named.save(Odd().eval(), "odd", {}, specs, out)
        return StepResult()


EXPORTERS = [name for name in registry.names("steps") if name.startswith("to_")]


@pytest.mark.parametrize("name", [name for name in EXPORTERS if Kind("torch") in registry.load("steps", name).accepts])
def test_an_operator_without_a_way_is_named(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry._added, ("models", "odd"), Odd)
    store = Store(tmp_path / "run")
    with store.lock():
        context = Context(None, {}, quiet, logging.getLogger("edgekit"))
        parent = store.make("torch", MakeOdd(), {}, context)
        with pytest.raises(CannotConvert) as caught:
            store.make("made", registry.load("steps", name)(), {"parent": parent}, context)
    said = str(caught.value)
    assert "bessel_j0" in said and "module 'inner'" in said and "test_exporters.py, line" in said
    assert "\n" not in said
    assert store.names() == ("torch",), "nothing half-made is left"
