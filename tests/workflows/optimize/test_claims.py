"""Workers that share a storage, in one process: who tries which point."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("optuna")
from workflows.optimize.made_up import shared, tried

from edgekit.workflows.optimize.claims import Claims


def test_a_claimed_point_is_another_workers_only_when_it_shows_no_life(tmp_path: Path) -> None:
    one, two = shared(tmp_path / "t.db", "one", 0.6), shared(tmp_path / "t.db", "two", 0.6)
    assert one.claims and two.claims
    point = one.next(9)
    assert point is not None and not two.claims.take(point)
    end = time.monotonic() + 1.5
    while time.monotonic() < end:
        assert two.claims.others() == [point], "its heart beats"
        time.sleep(0.1)
    one.claims._stop.set()  # it dies
    end = time.monotonic() + 5
    while two.claims.others():
        assert time.monotonic() < end
        time.sleep(0.1)
    assert two.next(9) == point
    first = two.add(tried(point))
    late = one.add(tried(point))  # it was only asleep
    assert late == first and len(one.trials()) == 1


def test_a_worker_that_starts_again_has_its_claim(tmp_path: Path) -> None:
    point = shared(tmp_path / "t.db", "one").next(9)  # and is killed
    again, other = shared(tmp_path / "t.db", "one"), shared(tmp_path / "t.db", "other")
    assert again.next(9) == point
    assert other.next(9) not in (point, None)


def test_a_point_that_was_finished_a_moment_ago_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker finishes it between this one's look at the trials and its claim."""
    one, two = shared(tmp_path / "t.db", "one"), shared(tmp_path / "t.db", "two")
    point, take = one.next(9), Claims.take
    assert point is not None

    def late(self: Claims, wanted: object) -> bool:
        monkeypatch.setattr(Claims, "take", take)
        one.add(tried(point))
        return take(self, point)

    monkeypatch.setattr(Claims, "take", late)
    assert two.next(9) not in (point, None)


def test_no_more_trials_than_wanted(tmp_path: Path) -> None:
    """The last trial is another worker's: this one waits for it."""
    one, two = shared(tmp_path / "t.db", "one", 5), shared(tmp_path / "t.db", "two", 5)
    point, said = one.next(1), list[str]()
    assert point is not None
    timer = threading.Timer(0.5, lambda: one.add(tried(point)))
    timer.start()
    assert two.next(1, said.append) is None
    assert said == ["  waiting   for 1 trials of other workers"]
    timer.join()
