"""The agent's folder is that of edgekit's cache, too, on a machine that runs edgekit."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from edgekit.ondevice.agent import Agent


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Agent:
    monkeypatch.setattr(os, "dup", lambda descriptor: descriptor)
    monkeypatch.setattr(os, "dup2", lambda *descriptors: None)
    return Agent(str(tmp_path / "edgekit"))


def test_only_its_own_folders_are_cleaned(agent: Agent, tmp_path: Path) -> None:
    root = tmp_path / "edgekit"
    mine = ["fashion-mnist/images.gz", "debian/package.part", "own.npz"]
    for name in (*mine, "files/ab", "files/cd.part", "environments/k/x.py", "jobs/1/out/y", "lock"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("12345")
    agent.do_lock({"wait": 0})
    assert not (root / "files" / "cd.part").exists() and not (root / "jobs" / "1").exists()
    assert all((root / name).exists() for name in mine)
    answer, _ = agent.do_clean({})
    assert answer["bytes"] == 10
    assert {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} == set(mine)


def test_a_link_in_place_of_a_folder_is_not_followed(agent: Agent, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "film.part").write_text("mine")
    (tmp_path / "edgekit").mkdir()
    (tmp_path / "edgekit" / "files").symlink_to(tmp_path / "disk")
    agent.do_clean({})
    assert (tmp_path / "disk" / "film.part").exists()


def test_an_empty_cache_is_removed(agent: Agent, tmp_path: Path) -> None:
    agent.folder("files")
    agent.do_clean({})
    assert not (tmp_path / "edgekit").exists()


@pytest.mark.parametrize("name", ["../../x", "/x", "model/../../x"])
def test_a_job_has_no_files_elsewhere(agent: Agent, tmp_path: Path, name: str) -> None:
    sha = hashlib.sha256(b"x").hexdigest()
    (Path(agent.folder("files")) / sha).write_bytes(b"x")
    with pytest.raises(OSError, match="Invalid argument"):
        agent.do_run({"links": {name: sha}, "job": {}, "threads": 1, "limit": 1})
    assert not (tmp_path / "x").exists() and not (tmp_path / "edgekit" / "x").exists()
