"""Two torchrun processes train as one does: each sample once an epoch, one writer, no waiting for a dead process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import MEMBERS, environment, run_cli

from edgekit.core.errors import InputError
from edgekit.runs.store import Store
from edgekit.training import processes

pytest.importorskip("torch")
pytest.importorskip("lightning_fabric")

#: a task that records its training samples, and may end one process
NOTING = """
import os

from edgekit_members.bars import Bars


class Noting(Bars):
    augments = True

    def augment(self, inputs, labels, generator):
        rank = os.environ.get("RANK", "0")
        with open(f"seen-{rank}.txt", "a") as file:
            file.write("".join(f"{hash(x.numpy().tobytes())}\\n" for x in inputs["input"]))
        if os.environ.get("DIES") == rank and os.path.getsize(f"seen-{rank}.txt") > 20000:
            os._exit(7)
        return inputs, labels
"""


def torchrun(folder: Path, *words: object, **extra: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port()]
    variables = environment(PYTHONHASHSEED="0", **extra)
    return subprocess.run(
        [*line, "-m", "edgekit", *map(str, words)],
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=280,
        check=False,
        env={name: value for name, value in variables.items() if name not in ("RANK", "WORLD_SIZE")},
    )


def free_port() -> str:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def accuracy(run: Path) -> float:
    history = Store(run).get("torch").details["history"]
    return max(entry["val_accuracy"] for entry in history)


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    """Every sample once per epoch between them, and within noise of one process; --json stays one object."""
    (tmp_path / "task.py").write_text(NOTING)
    words = ["train", "task.py:Noting", "--epochs", 8, "--batch", 32, "--lr", 0.01, "--accelerator", "cpu"]
    one = run_cli(*words, "--out", "one", cwd=tmp_path, env=environment(PYTHONHASHSEED="0"))
    assert one.code == 0, one.err
    alone = (tmp_path / "seen-0.txt").read_text().split()
    (tmp_path / "seen-0.txt").unlink()
    two = torchrun(tmp_path, *words, "--out", "two", "--json")
    assert two.returncode == 0, two.stderr
    shares = [(tmp_path / f"seen-{rank}.txt").read_text().split() for rank in (0, 1)]
    epochs = len(Store(tmp_path / "two").get("torch").details["history"])
    assert sorted(shares[0] + shares[1]) == sorted(alone[: len(alone) // 8 * epochs])
    assert abs(len(shares[0]) - len(shares[1])) <= epochs * len(shares[0]) / 20
    assert [artifact["name"] for artifact in json.loads(two.stdout)["artifacts"]] == ["torch"]
    assert abs(accuracy(tmp_path / "one") - accuracy(tmp_path / "two")) < 0.1
    again = torchrun(tmp_path, *words, "--out", "two")
    assert again.returncode == 0 and again.stderr.count("reused    torch") == 1


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(NOTING)
    words = ["train", "task.py:Noting", "--epochs", 500, "--patience", 500, "--accelerator", "cpu", "--out", "r"]
    started = time.monotonic()
    result = torchrun(tmp_path, *words, DIES="1")
    assert result.returncode != 0
    assert "edgekit: process 0 stops: another process of this training has ended" in result.stderr
    assert time.monotonic() - started < 200, "the survivor waited"
    assert not Store(tmp_path / "r").names()


def test_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """All processes use the same batches; a remainder too small for all joins the last batch."""

    class Fabric:
        global_rank, world_size, device = 1, 2, None

    group = processes.DistributedProcess(Fabric())
    assert group.batch_bounds(100, 32) == [0, 32, 64, 96, 100]
    assert group.batch_bounds(98, 32) == [0, 32, 64, 98]
    assert group.batch_bounds(20, 32) == [0, 20]
    with pytest.raises(InputError, match="cannot share 3"):
        group.batch_bounds(100, 3)
    assert processes.SingleProcess().batch_bounds(65, 32) == [0, 32, 64, 65]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="only edgekit train can run in several processes"):
        processes.SingleProcess().begin_training()


def test_nothing_is_imported_for_one_process(tmp_path: Path) -> None:
    code = "import sys, edgekit.workflows.train, edgekit.training.engine; sys.exit('lightning_fabric' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=False, env={**os.environ, "PYTHONPATH": str(MEMBERS)}
    )
    assert done.returncode == 0


def without_fabric(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)


def test_without_fabric(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgekit.core.errors import Missing

    without_fabric(monkeypatch)
    with pytest.raises(Missing) as raised, processes.joined("cpu"):
        pass
    assert "[distributed]" in raised.value.next
