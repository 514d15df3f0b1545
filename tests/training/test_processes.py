"""Two processes of torchrun train as one does: each sample once an epoch, one writer, and nobody waits for the dead."""

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

#: a task that writes down which samples it was asked to learn from, and may end one process
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
    told = environment(PYTHONHASHSEED="0", **extra)
    return subprocess.run(
        [*line, "-m", "edgekit", *map(str, words)],
        cwd=folder,
        text=True,
        capture_output=True,
        timeout=280,
        check=False,
        env={name: value for name, value in told.items() if name not in ("RANK", "WORLD_SIZE")},
    )


def free_port() -> str:
    import socket

    with socket.socket() as made:
        made.bind(("127.0.0.1", 0))
        return str(made.getsockname()[1])


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
    ended = torchrun(tmp_path, *words, DIES="1")
    assert ended.returncode != 0
    assert "edgekit: process 0 stops: another process of this training has ended" in ended.stderr
    assert time.monotonic() - started < 200, "the survivor waited"
    assert not Store(tmp_path / "r").names()


def test_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches are cut alike everywhere; what is left over joins the last batch where it is too little for all."""

    class Fabric:
        global_rank, world_size, device = 1, 2, None

    group = processes.Several(Fabric())
    assert group.cuts(100, 32) == [0, 32, 64, 96, 100]
    assert group.cuts(98, 32) == [0, 32, 64, 98]
    assert group.cuts(20, 32) == [0, 20]
    with pytest.raises(InputError, match="cannot share 3"):
        group.cuts(100, 3)
    assert processes.Alone().cuts(65, 32) == [0, 32, 64, 65]
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="only through edgekit train"):
        processes.Alone().begin()


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
    with pytest.raises(Missing) as found, processes.joined("cpu"):
        pass
    assert "[distributed]" in found.value.next
