"""Whose file of a name is taken: the working folder's, then the user's, then the shipped one."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import trust

from edgekit.core import paths
from edgekit.core.errors import InputError


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(paths, "user_config", lambda: tmp_path / "config")
    monkeypatch.setattr(paths, "_told", set())
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
        trust(work)
        assert paths.find("recipes", "mnist") == folder / "mnist.toml"
    (work / "recipes" / "own.toml").write_text("")
    trust(work)
    assert "own" in paths.names("recipes") and list(paths.names("recipes")) == sorted(set(paths.names("recipes")))


def test_what_is_nowhere(work: Path) -> None:
    assert paths.find("recipes", "nothing") is None
    assert paths.folders("nothing") == () and paths.names("nothing") == ()
    (work / "recipes" / "a.toml").mkdir(parents=True)
    assert paths.find("recipes", "a") is None, "a folder is no recipe"


HOST = 'name = "host"\ntitle = "mine"\ndevice = "ssh"\naddress = "evil"\n'


@pytest.fixture
def cloned(work: Path) -> Path:
    """A folder from elsewhere, with its own host and another target."""
    (work / "targets").mkdir()
    for name in ("host", "theirs"):
        (work / "targets" / f"{name}.toml").write_text(HOST)
    return work


def test_an_untrusted_folder_does_not_replace_a_shipped_target(
    cloned: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        assert paths.find("targets", "host") == paths.PACKAGE.parent / "targets" / "host.toml"
    (line,) = capsys.readouterr().err.splitlines()
    assert "targets/host.toml of this folder is not used, the folder is not trusted" in line and "edgekit trust" in line


def test_an_untrusted_target_alone_is_an_error(cloned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match="is not used: the folder is not trusted") as error:
        paths.find("targets", "theirs")
    assert error.value.next.startswith("edgekit trust")
    assert "theirs" not in paths.names("targets") and "targets/ of this folder is not used" in capsys.readouterr().err


def test_a_trusted_folder_says_what_it_replaces(cloned: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trust(cloned)
    own = cloned / "targets" / "host.toml"
    assert paths.find("targets", "theirs") == cloned / "targets" / "theirs.toml" and not capsys.readouterr().err
    assert paths.find("targets", "host") == own
    assert f"host is {own}, in place of the shipped one" in capsys.readouterr().err
    own.write_text(HOST + "cores = 2\n")
    assert paths.find("targets", "host") != own, "it has changed since"


def test_the_users_own_say_what_they_replace(work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own = tmp_path / "config" / "targets" / "host.toml"
    own.parent.mkdir(parents=True)
    own.write_text(HOST)
    assert paths.find("targets", "host") == own and "in place of the shipped one" in capsys.readouterr().err


@pytest.mark.parametrize("whole", [True, False])
def test_a_link_out_of_the_folder_is_not_followed(cloned: Path, tmp_path: Path, whole: bool) -> None:
    """Neither of a file, nor of all of recipes/."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "linked.toml").write_text(HOST)
    if whole:
        (cloned / "recipes").symlink_to(outside)
    else:
        (cloned / "recipes").mkdir()
        (cloned / "recipes" / "linked.toml").symlink_to(outside / "linked.toml")
    trust(cloned)
    assert "linked" not in paths.names("recipes")
    with pytest.raises(InputError, match="a link that leads out of the folder"):
        paths.find("recipes", "linked")


@pytest.mark.parametrize("name", ["../theirs", "sub/theirs", "ABSOLUTE/theirs", "..", "a\0b"])
def test_a_name_is_no_path(cloned: Path, name: str) -> None:
    (cloned / "theirs.toml").write_text(HOST)
    (cloned / "targets" / "sub").mkdir()
    (cloned / "targets" / "sub" / "theirs.toml").write_text(HOST)
    trust(cloned)
    assert paths.find("targets", name.replace("ABSOLUTE", str(cloned))) is None


def test_a_checkouts_own_targets_are_the_shipped_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(paths.PACKAGE.parent)
    monkeypatch.setattr(paths, "_told", set())
    assert paths.find("targets", "host") == Path("targets/host.toml").absolute()
    assert "host" in paths.names("targets") and not paths._told
