"""Writing a bundle to a folder: an earlier bundle is replaced, and nothing of the user's is."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest

from edgekit.core.errors import InputError
from edgekit.core.files import sha256
from edgekit.devices.shared.bundle import MANIFEST, Bundle
from edgekit.workflows.deploy import bundle


def made(folder: Path, text: str, *more: str) -> Bundle:
    files = {}
    for name in ("predict.py", "model/model.onnx", *more):
        path = files[name] = folder / text / name.replace("/", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    hashes = {name: {"sha256": sha256(path), "bytes": 1} for name, path in files.items()}
    manifest = {"schema": bundle.SCHEMA, "files": hashes}
    files[MANIFEST] = folder / text / MANIFEST
    files[MANIFEST].write_text(json.dumps(manifest))
    return Bundle(text, manifest, files)


def content(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def test_an_earlier_bundle_is_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, more in (("old", ["only/in/old"]), ("new", ["only-in-new"])):
        new = made(tmp_path / "source", text, *more)
        monkeypatch.chdir(tmp_path)
        bundle.write(new, Path("app"))
        assert content(tmp_path / "app") == {name: path.read_text() for name, path in new.files.items()}
        assert not (tmp_path / "app" / "only").exists() or text == "old"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["app", "source"]
        assert (tmp_path / "app").stat().st_mode & 0o055


@pytest.mark.parametrize("mine", ["notes.txt", "model/mine.onnx", "model/model.onnx", "empty/", "link"])
def test_a_bundle_with_files_of_the_users_stays(tmp_path: Path, mine: str) -> None:
    bundle.write(made(tmp_path / "source", "old"), tmp_path / "app")
    if mine == "link":
        (tmp_path / "app" / mine).symlink_to(tmp_path / "source")
    elif mine == "empty/":
        (tmp_path / "app" / mine).mkdir()
    else:
        (tmp_path / "app" / mine).write_text("mine")
    before = content(tmp_path / "app")
    with pytest.raises(InputError, match="more than a bundle") as caught:
        bundle.write(made(tmp_path / "source", "new"), tmp_path / "app")
    assert mine.strip("/") in str(caught.value) and content(tmp_path / "app") == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["app", "source"]


@pytest.mark.parametrize("text", ["{}", '{"name": "my web page"}', '{"schema": "edgekit-bundle/1"}', "[", "[]"])
def test_other_folders_with_a_manifest_are_the_users(tmp_path: Path, text: str) -> None:
    """manifest.json is a common name."""
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / MANIFEST).write_text(text)
    (tmp_path / "web" / "index.html").write_text("mine")
    with pytest.raises(InputError, match="not a bundle"):
        bundle.write(made(tmp_path / "source", "new"), tmp_path / "web")
    assert content(tmp_path / "web") == {MANIFEST: text, "index.html": "mine"}


def test_links_and_files_in_place_of_the_folder(tmp_path: Path) -> None:
    new = made(tmp_path / "source", "new")
    bundle.write(made(tmp_path / "source", "old"), tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("mine")
    (tmp_path / ".real.old-bundle").mkdir()
    (tmp_path / ".real.old-bundle" / "mine").write_text("mine")
    before = content(tmp_path)
    for name in ("link", "link/", "dangling", "file", "real"):
        with pytest.raises(InputError):
            bundle.write(new, tmp_path / name)
    assert content(tmp_path) == before and (tmp_path / "link").is_symlink() and (tmp_path / "dangling").is_symlink()


@pytest.mark.parametrize("name", ["../secret", "/secret", "model/../../secret"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    new = made(tmp_path / "source", "new")
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match="outside itself"):
        bundle.write(Bundle("x", {}, {**new.files, name: new.files["predict.py"]}), tmp_path / "out" / "app")
    assert not list((tmp_path / "out").iterdir()) and not (tmp_path / "secret").exists()


@pytest.mark.parametrize("moment", range(9))
def test_a_kill_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int) -> None:
    """Killed at each renaming and deletion; the next command finishes."""
    old, new = made(tmp_path / "source", "old"), made(tmp_path / "source", "new")
    app = tmp_path / "here" / "app"
    bundle.write(old, app)
    count = iter(range(10**6))

    def dying(name: str) -> None:
        real = getattr(Path, name)

        def call(path: Path, *words: object, **options: object) -> object:
            if next(count) >= moment:
                raise KeyboardInterrupt
            return real(path, *words, **options)

        monkeypatch.setattr(Path, name, call)

    for name in ("rename", "unlink", "rmdir"):
        dying(name)
    with suppress(KeyboardInterrupt):
        bundle.write(new, app)
    monkeypatch.undo()
    wholes = [{name: path.read_text() for name, path in each.files.items()} for each in (old, new)]
    whole = [p for p in app.parent.iterdir() if content(p) in wholes]
    assert whole and (app in whole or moment == 1), "between the two renamings the old one has another name"
    bundle.write(new, app)
    assert content(app) == wholes[1] and [p.name for p in app.parent.iterdir()] == ["app"]
