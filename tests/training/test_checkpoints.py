"""An interrupted training resumes and gives the same weights, bit for bit."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers import environment, run_cli, start

from edgekit.core.files import sha256
from edgekit.training import session
from edgekit.training.checkpoints import BEST, PLAIN, TENSORS, CheckpointManager
from edgekit.training.session import Session
from edgekit.training.settings import Settings

torch = pytest.importorskip("torch")

EVERYTHING = Settings(epochs=3, batch=32, lr=0.01, ema=0.9, clip=1.0, schedule="cosine", warmup=0.5, accumulate=2)


class Stopped(Exception):
    pass


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("batches", [3, 6, 9, 14], ids=lambda n: f"after {n} batches")
@pytest.mark.parametrize(
    "settings",
    [EVERYTHING, Settings(epochs=3, batch=32, lr=0.01), replace(EVERYTHING, optimizer="sgd", augment="on", freeze=())],
    ids=["everything", "default", "sgd"],
)
def test_stopped_anywhere(bars_fit: Any, tmp_path: Path, settings: Settings, batches: int) -> None:
    """Stopped within an epoch, at its end and in a later one: dropout, sample order and averages are restored."""
    from training.test_engine import WithAugmentation

    task = WithAugmentation(False)
    with session.using(Session(checkpoint_seconds=0.0)):
        unbroken, whole = bars_fit(settings, task=task)
        batches_done = 0

        def stop(inputs: Any, outputs: Any, labels: Any, base: Any) -> Any:
            nonlocal batches_done
            batches_done += 1
            if batches_done > batches:
                raise Stopped
            return base

        with pytest.raises(Stopped):
            bars_fit(settings, task=task, scratch=tmp_path, extra_loss=stop)
        assert list(tmp_path.glob("checkpoint-*"))
        torch.manual_seed(99)
        count = task.calls
        again, history = bars_fit(settings, task=task, scratch=tmp_path)
    assert history == whole and same(again, unbroken)
    if settings.augment == "on":
        assert 0 < task.calls - count < 18, "it started over"


def test_a_checkpoint_of_another_training_is_not_taken(bars_fit: Any, tmp_path: Path) -> None:
    settings = Settings(epochs=2, batch=64, lr=0.01)
    with session.using(Session(checkpoint_seconds=0.0)):
        bars_fit(replace(settings, seed=3), scratch=tmp_path)
        plain, history = bars_fit(settings)
        after, history_resumed = bars_fit(settings, scratch=tmp_path)
        assert same(plain, after) and history_resumed == history
        with session.using(Session(checkpoint_seconds=0.0, resume=False)):
            restarted, _ = bars_fit(settings, scratch=tmp_path)
        assert same(plain, restarted)


def test_half_written_and_damaged_checkpoints(tmp_path: Path) -> None:
    """A folder is complete or it is not read; the newest one that is whole counts."""
    manager = CheckpointManager(tmp_path, "m", 0.0)
    assert manager.load() is None
    manager.save({"a": torch.ones(2)}, {"n": 0.1})
    (first,) = tmp_path.iterdir()
    (tmp_path / "checkpoint-000007.part").mkdir()
    damaged = tmp_path / "checkpoint-000008"
    damaged.mkdir()
    (damaged / PLAIN).write_bytes((first / PLAIN).read_bytes())
    (damaged / TENSORS).write_bytes((first / TENSORS).read_bytes()[:-3])
    tensors, plain = CheckpointManager(tmp_path, "m", 0.0).load() or ({}, {})
    assert torch.equal(tensors["a"], torch.ones(2)) and plain == {"n": 0.1}
    assert CheckpointManager(tmp_path, "other", 0.0).load() is None


def test_only_its_own_files_are_deleted(tmp_path: Path) -> None:
    for name in ("checkpoint-mine", "checkpoint-000001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("mine")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / PLAIN).write_text("mine")
    (tmp_path / "checkpoint-000002").symlink_to(tmp_path / "outside")
    (tmp_path / f".{BEST}.part").symlink_to(tmp_path / "outside" / PLAIN)
    manager = CheckpointManager(tmp_path, "m", 0.0)
    manager.save({"a": torch.ones(2)}, {"n": 0.1})
    manager.keep_best({"a": torch.ones(2)})
    manager.save({"a": torch.ones(2)}, {"n": 0.1})
    manager.clear()
    assert (tmp_path / "checkpoint-mine" / "mine.txt").exists() and (
        tmp_path / "checkpoint-000001" / "mine.txt"
    ).exists()
    assert (tmp_path / "outside" / PLAIN).read_text() == "mine"


def test_resume_without_an_interrupted_training(tmp_path: Path) -> None:
    ended = run_cli("train", "bars", "--epochs", 1, "--out", "r", "--resume", cwd=tmp_path)
    assert ended.code == 2 and "there is nothing to resume" in ended.line


@pytest.mark.slow
def test_killed_at_ten_random_points(tmp_path: Path) -> None:
    words = ("train", "bars", "--epochs", 40, "--patience", 40, "--lr", 0.01, "--batch", 32, "--ema", 0.9)
    often = environment(EDGEKIT_CHECKPOINT_SECONDS="0")
    assert run_cli(*words, "--out", "whole", cwd=tmp_path).code == 0
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    rng = random.Random(seed)
    reached, log = [], tmp_path / "killed" / "log.txt"
    for _ in range(10):
        before = checkpoint(tmp_path)
        process = start(*words, "--out", "killed", cwd=tmp_path, env=often, start_new_session=True)
        deadline = time.monotonic() + 90
        while checkpoint(tmp_path) <= before and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(rng.uniform(0, 0.15))
        assert process.poll() is None, f"it was through before the kill: {process.communicate()}"
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        reached.append(checkpoint(tmp_path))
    assert run_cli(*words, "--out", "killed", cwd=tmp_path, env=often).code == 0
    assert log.read_text().count("resumed after") == 10
    assert reached == sorted(reached) and len(set(reached)) > 5, "it did not resume"
    first, second = (sha256(tmp_path / run / "torch" / "model.safetensors") for run in ("whole", "killed"))
    assert first == second
    assert not list((tmp_path / "killed").glob(".scratch-*"))


def checkpoint(folder: Path) -> int:
    """The number of the newest whole checkpoint."""
    checkpoints = (folder / "killed").glob(".scratch-*/checkpoint-*")
    return max((int(place.name.rpartition("-")[2]) for place in checkpoints if place.suffix != ".part"), default=0)
