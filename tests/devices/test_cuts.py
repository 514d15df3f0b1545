"""Connections that are cut at random moments of a command; `make bench-cuts` cuts more of them, and those of adbd."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest
from benchmarks import cuts


@pytest.mark.slow
def test_three_cuts_leave_nothing_half_installed(
    bars_run: Path, tmp_path: Path, members: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if cuts.sshd.SERVER is None:
        pytest.skip("no OpenSSH here")
    for name in ("EDGEKIT_SSH_CONFIG", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / ("config" if name == "XDG_CONFIG_HOME" else "cache")))
    device, seed = cuts.Pi(tmp_path), time.time_ns()
    try:
        cuts.remember(device, tmp_path)
        rows = list(cuts.cuts(device, bars_run, 3, random.Random(seed)))
    finally:
        device.close()
    assert len(rows) == 3 and not any(row.problems for row in rows), (seed, rows)
