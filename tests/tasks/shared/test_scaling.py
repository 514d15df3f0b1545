"""Values scaled to mean 0 and spread 1."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgekit.tasks.shared.scaling import Scaling


def test_scaling_is_shipped_as_it_is_used(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(7, 3, (50, 4)).astype(np.float32)
    values[0, 0] = 1e6
    scaling = Scaling.of(values)
    scaling.write(tmp_path)
    said = json.loads((tmp_path / "scaling.json").read_text())
    again = np.clip((values - said["mean"]) / said["std"], -said["most"], said["most"])
    np.testing.assert_allclose(scaling(values), again, rtol=1e-5, atol=1e-6)
    assert np.abs(scaling(values)).max() <= 6
