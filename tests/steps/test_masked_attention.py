"""Attention with padding masks in int8: however a network writes its mask, what is masked stays without influence."""

from __future__ import annotations

import math
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
from edgekit.workflows.routes import quantizable, route
from edgekit.workflows.setup import silent

pytestmark = pytest.mark.slow

LOWEST = torch.finfo(torch.float32).min


class Attention(nn.Module):
    """(N, T, 32) states, (N, T) ones and zeros → (N, T, 4)."""

    def __init__(self, mask: str) -> None:
        super().__init__()
        self.mask = mask
        self.query, self.key, self.value = (nn.Linear(32, 32) for _ in range(3))
        self.out = nn.Linear(32, 4)

    def forward(self, x: Tensor, kept: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (4, 8)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        keep = (kept > 0.5)[:, None, None, :]
        if self.mask == "scaled_dot_product":
            y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=keep)
        else:
            scores = q @ k.transpose(-1, -2) / math.sqrt(8)
            if self.mask == "infinity":
                scores = scores.masked_fill(~keep, float("-inf"))
            elif self.mask == "where":
                scores = torch.where(keep, scores, torch.tensor(LOWEST))
            else:
                scores = scores + (1 - keep.float()) * {"lowest": LOWEST, "ten_thousand": -1e4}[self.mask]
            y = scores.softmax(-1) @ v
        out: Tensor = self.out(y.transpose(1, 2).flatten(2))
        return out


@pytest.mark.parametrize("mask", ["scaled_dot_product", "infinity", "where", "lowest", "ten_thousand"])
def test_int8(mask: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 12, 32)).astype(np.float32)
    kept = (np.arange(12) < rng.integers(5, 13, (32, 1))).astype(np.float32)
    x[kept < 0.5] *= 4  # padding that is not masked shows
    np.savez(tmp_path / "samples.npz", x=x, kept=kept)
    example = torch.from_numpy(x[:1]), torch.from_numpy(kept[:1])
    edgekit.import_model(Attention(mask), example=example, out=tmp_path / "run", progress=False)
    chains = [[*route("torch", format), f"{format}_int8"] for format in quantizable("int8")]
    samples = str(tmp_path / "samples.npz")
    start = resolve(str(tmp_path / "run"))
    outcome = extend(start, chains, Plan(), Gates(), "host", samples, {"calibration": samples}, quiet, silent)
    assert not outcome.failures
    checked = {finding.artifact: finding.parity for finding in outcome.findings}
    for format in quantizable("int8"):
        parity = checked[f"{format}-int8"]
        assert parity and parity.sqnr_db > 20, (format, parity)
