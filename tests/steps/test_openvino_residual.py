"""A layer without a bias before a residual sum, in int8 in OpenVINO: the other readers see its own values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edgekit
from edgekit.core.progress import quiet
from edgekit.core.target import Plan
from edgekit.runs.recipe import Gates
from edgekit.runs.references import resolve
from edgekit.workflows.chains import extend
from edgekit.workflows.setup import silent

pytest.importorskip("nncf")
pytestmark = pytest.mark.slow


class Block(nn.Module):
    """ConvNeXt's: (N, 3, 16, 16) → (N, 5); the first convolution's output is convolved and added to the result."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 2, 2, bias=False)
        self.depthwise = nn.Conv2d(24, 24, 3, 1, 1, groups=24)
        self.norm = nn.LayerNorm(24)
        self.wide, self.narrow = nn.Linear(24, 48), nn.Linear(48, 24)
        self.scale = nn.Parameter(torch.rand(24, 1, 1) + 0.5)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        y = self.narrow(nn.functional.gelu(self.wide(y))).permute(0, 3, 1, 2) * self.scale
        out: Tensor = self.head((x + y).mean((2, 3)))
        return out


class Tokens(nn.Module):
    """The same of matrix products: (N, 10, 24) → (N, 5)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(24, 24, bias=False)
        self.wide, self.narrow = nn.Linear(24, 48), nn.Linear(48, 24)
        self.scale = nn.Parameter(torch.rand(24) + 0.5)
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        out: Tensor = self.head((x + self.narrow(nn.functional.gelu(self.wide(x))) * self.scale).mean(1))
        return out


@pytest.mark.parametrize(("make", "shape"), [(Block, (3, 16, 16)), (Tokens, (10, 24))])
def test_int8(make: type[nn.Module], shape: tuple[int, ...], tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = np.random.default_rng(0).normal(size=(32, *shape)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", x=x)
    edgekit.import_model(make(), example=torch.from_numpy(x[:1]), out=tmp_path / "run", progress=False)
    samples, start = str(tmp_path / "samples.npz"), resolve(str(tmp_path / "run"))
    chains = [["to_openvino", "openvino_int8"]]
    outcome = extend(start, chains, Plan(), Gates(), "host", samples, {"calibration": samples}, quiet, silent)
    (parity,) = (finding.parity for finding in outcome.findings if finding.artifact == "openvino-int8")
    assert parity and parity.sqnr_db > 20, parity
