"""Whose file of a name is taken: the working folder's, then the user's, then the shipped one."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core import paths


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "user_config", lambda: tmp_path / "config")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_shipped_files_are_there(work: Path) -> None:
    assert {"mnist", "fashion-mnist"} <= set(paths.names("recipes"))
    assert paths.find("recipes", "mnist") == paths.PACKAGE / "recipes" / "mnist.toml"


def test_the_nearest_wins(work: Path, tmp_path: Path) -> None:
    for folder in (tmp_path / "config" / "recipes", work / "recipes"):
        folder.mkdir(parents=True)
        (folder / "mnist.toml").write_text("")
        assert paths.find("recipes", "mnist") == folder / "mnist.toml"
    (work / "recipes" / "own.toml").write_text("")
    assert "own" in paths.names("recipes") and list(paths.names("recipes")) == sorted(set(paths.names("recipes")))


def test_what_is_nowhere(work: Path) -> None:
    assert paths.find("recipes", "nothing") is None
    assert paths.folders("nothing") == () and paths.names("nothing") == ()
    (work / "recipes" / "a.toml").mkdir(parents=True)
    assert paths.find("recipes", "a") is None, "a folder is no recipe"
