"""The pass over the samples: errors that name the sample, and going on where a pass was cut short."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.compression import calibration
from edgekit.core.errors import InputError
from edgekit.formats.ranges import Statistics

SAMPLES = np.random.default_rng(0).normal(size=(12, 6000)).astype(np.float32)


def feeds(batch: int = 1) -> Iterator[Mapping[str, Any]]:
    for first in range(0, len(SAMPLES), batch):
        yield {"x": SAMPLES[first : first + batch]}


class Model:
    """Doubles its input; fails on the run `dies`."""

    def __init__(self, dies: int = -1) -> None:
        self.runs, self.dies = 0, dies

    def __call__(self, feed: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.runs == self.dies:
            raise KeyboardInterrupt
        self.runs += 1
        return {"y": 2 * feed["x"]}


@pytest.mark.parametrize("batch", [1, 4])
def test_a_pass_that_was_cut_short_goes_on(batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SAVE_SECONDS", 0)
    partial = tmp_path / "scratch" / "calibration.npz"
    whole = calibration.gather(Model(), feeds(batch), batch=batch)
    with pytest.raises(KeyboardInterrupt):
        calibration.gather(Model(dies=2), feeds(batch), batch=batch, origin="m", partial=partial)
    assert Statistics.load(partial).samples == 2 * batch
    model = Model()
    found = calibration.gather(model, feeds(batch), batch=batch, origin="m", partial=partial)
    assert model.runs == len(SAMPLES) // batch - 2, "what was done is done again"
    assert dict(found) == dict(whole) and found.samples == whole.samples == len(SAMPLES)
    assert not partial.exists()


def test_what_another_model_or_set_left_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SAVE_SECONDS", 0)
    partial = tmp_path / "calibration.npz"
    with pytest.raises(KeyboardInterrupt):
        calibration.gather(Model(dies=3), feeds(), origin="one", partial=partial)
    model = Model()
    assert calibration.gather(model, feeds(), origin="other", partial=partial).samples == len(SAMPLES)
    assert model.runs == len(SAMPLES)


def test_a_damaged_leftover_is_as_good_as_none(tmp_path: Path) -> None:
    partial = tmp_path / "calibration.npz"
    partial.write_bytes(b"PK half of it")
    assert calibration.gather(Model(), feeds(), origin="m", partial=partial).samples == len(SAMPLES)
    assert not partial.exists()


def test_no_samples_are_refused() -> None:
    with pytest.raises(InputError, match="no calibration samples"):
        calibration.gather(Model(), iter([]))


def test_the_sample_the_model_cannot_be_run_on_is_named() -> None:
    def run(feed: Mapping[str, Any]) -> Mapping[str, Any]:
        table = np.zeros((50, 2), np.float32)
        return {"y": table[feed["ids"]]}

    tokens = [{"ids": np.array([[1, 2]])}, {"ids": np.array([[3, 70]])}]
    with pytest.raises(InputError, match=r"sample 1: index 70 is out of bounds .*'ids' holds 3 to 70"):
        calibration.gather(run, tokens)
