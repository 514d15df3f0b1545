"""Releases in a folder that is the user's, too: only what was placed is deleted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from edgekit.ondevice.releases import ReleaseError, Releases

IDS = [f"{n:016x}" for n in range(1, 5)]
Place = Callable[[str], Mapping[str, Any]]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app").mkdir()
    return tmp_path / "app"


@pytest.fixture
def place(app: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Place a release and make it current."""

    def call(id: str) -> Mapping[str, Any]:
        monkeypatch.chdir(tmp_path)
        texts = {"predict.py": "", "model/model.onnx": id}
        files = {name: {"sha256": hashlib.sha256(text.encode()).hexdigest()} for name, text in texts.items()}
        texts["manifest.json"] = json.dumps({"files": files})
        for name, text in texts.items():
            (tmp_path / "bundle" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "bundle" / name).unlink(missing_ok=True)
            (tmp_path / "bundle" / name).write_text(text)
        hashes = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in texts.items()}
        releases = Releases({"folder": str(app), "id": id, "files": hashes, "environment": ""})
        placed = dict(releases.do_place())
        return {**placed, **releases.do_switch()}

    return call


def test_old_releases_go_and_what_is_the_users_stays(app: Path, place: Place) -> None:
    mine = ["releases/v1.0/app.py", "releases/0123456789abcdef/app.py", "environments/mine/x", "config.toml"]
    for name in mine:
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text("mine")
    for id in IDS:
        status = place(id)
        (app / "releases" / id / "settings.ini").write_text("mine")
    assert (status["current"], status["previous"]) == (IDS[3], IDS[2])
    assert status["releases"] == IDS[2:]
    assert all((app / name).read_text() == "mine" for name in mine)
    for id in IDS[:2]:
        assert [p.name for p in (app / "releases" / id).iterdir()] == ["settings.ini"], "edgekit's own files are gone"
    (app / "releases" / IDS[2] / "settings.ini").unlink()
    place(IDS[3])
    assert place(IDS[0])["placed"]
    assert not (app / "releases" / IDS[2]).exists()
    assert (app / "releases" / f"{IDS[0]}.kept-1" / "settings.ini").read_text() == "mine"


def test_a_damaged_release_is_placed_again(app: Path, place: Place) -> None:
    place(IDS[0])
    model = app / "releases" / IDS[0] / "model" / "model.onnx"
    model.unlink()  # it may share its storage with the bundle
    model.write_text("changed by somebody")
    assert place(IDS[0])["placed"] and model.read_text() == IDS[0]
    kept = app / "releases" / f"{IDS[0]}.kept-1" / "model" / "model.onnx"
    assert kept.read_text() == "changed by somebody"


@pytest.mark.parametrize("name", ["current", "previous"])
def test_a_link_of_the_users_is_not_replaced(app: Path, place: Place, name: str) -> None:
    if name == "previous":
        place(IDS[0])
    (app / name).symlink_to("releases/v1.0")
    with pytest.raises(ReleaseError, match="not a link that edgekit made"):
        place(IDS[1])
    assert (app / name).readlink() == Path("releases/v1.0")


@pytest.mark.parametrize("name", ["releases", f"releases/{IDS[0]}"])
def test_links_are_not_followed(app: Path, place: Place, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("mine")
    (app / name).parent.mkdir(exist_ok=True)
    (app / name).symlink_to(tmp_path / "outside")
    with pytest.raises(ReleaseError, match="is a link"):
        place(IDS[0])
    assert [p.name for p in (tmp_path / "outside").iterdir()] == ["file"]


def test_a_manifest_of_an_old_release_reaches_no_other_folder(app: Path, place: Place, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "precious").write_text("kept")
    place(IDS[0])
    old = app / "releases" / IDS[0]
    digest = hashlib.sha256(b"kept").hexdigest()
    names = ["../../../precious", str(tmp_path / "precious"), "link/precious", "direct"]
    (old / "link").symlink_to(tmp_path / "outside")
    (old / "direct").symlink_to(tmp_path / "precious")
    (old / "manifest.json").unlink()
    (old / "manifest.json").write_text(json.dumps({"files": {name: {"sha256": digest} for name in names}}))
    place(IDS[1])
    place(IDS[2])
    assert (tmp_path / "precious").exists() and (tmp_path / "outside" / "precious").exists()


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", ""])
def test_files_are_placed_in_the_release_only(app: Path, tmp_path: Path, name: str) -> None:
    releases = Releases({"folder": str(app), "id": IDS[0], "files": {name: "0"}, "environment": ""})
    with pytest.raises(ReleaseError, match="not a file of a bundle"):
        releases.do_place()
    assert not list(app.iterdir())
