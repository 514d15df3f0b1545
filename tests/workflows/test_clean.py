"""`edgekit clean`: what edgekit wrote goes, and nothing else, whatever else is in the folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgekit.core.files import sha256
from edgekit.runs import written
from edgekit.runs.store import LOG, RECIPE, REPORT, RESULTS, Store
from edgekit.workflows import clean

pytestmark = pytest.mark.usefixtures("members")


def test_nothing_is_left_of_a_whole_run(bars_run: Path) -> None:
    assert clean.is_run(bars_run)
    assert clean.clean(bars_run) == [] and not bars_run.exists()


def test_the_users_files_are_left(bars_run: Path) -> None:
    mine = ["mine.txt", "onnx/notes.txt", "torch/sub/deep.txt", "data/artifact.json", "data/model.onnx"]
    mine += [".scratch-mine/x", ".making-mine/x", "samples-holiday.json", "optimize.db", "report.md"]
    for name in mine:
        (bars_run / name).parent.mkdir(parents=True, exist_ok=True)
        (bars_run / name).write_text("{}")
    left = clean.clean(bars_run)
    found = {str(path.relative_to(bars_run)) for path in bars_run.rglob("*") if path.is_file()}
    assert found == set(mine)
    assert {"mine.txt", "onnx/notes.txt", "torch/sub/deep.txt", "data"} <= set(left)
    assert not clean.is_run(bars_run)


def test_files_that_were_changed_are_left(bars_run: Path) -> None:
    changed = [RESULTS, RECIPE, REPORT, "onnx/model.onnx", "onnx/artifact.json", LOG]
    for name in changed:
        with (bars_run / name).open("a") as file:
            file.write("my own line\n")
    assert sorted(clean.clean(bars_run)) == sorted(changed)
    assert all((bars_run / name).read_text(errors="replace").endswith("my own line\n") for name in changed)


def test_a_folder_that_looks_like_an_artifact_is_the_users(tmp_path: Path, bars_made: Path) -> None:
    """Copied by hand into a folder that edgekit worked in: there is no record of it."""
    with Store(tmp_path / "run").lock():
        pass
    shutil.copytree(bars_made / "onnx", tmp_path / "run" / "backup")
    (tmp_path / "run" / REPORT).write_text("my report")
    assert sorted(clean.clean(tmp_path / "run"))[-1] == REPORT
    assert (tmp_path / "run" / "backup" / "model.onnx").is_file()


def test_a_lock_alone_makes_no_run(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    assert not clean.is_run(tmp_path)


def test_links_are_not_followed(bars_run: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    shutil.copytree(bars_run / "onnx", outside)
    before = sorted(path.name for path in outside.iterdir())
    shutil.rmtree(bars_run / "onnx")
    (bars_run / "onnx").symlink_to(outside)
    (bars_run / "torch" / "model.json").rename(outside / "model.json")
    (bars_run / "torch" / "model.json").symlink_to(outside / "model.json")
    clean.clean(bars_run)
    assert sorted(path.name for path in outside.iterdir()) == sorted([*before, "model.json"])
    assert (bars_run / "onnx").is_symlink()
    (tmp_path / "latest").symlink_to(bars_run)
    assert not clean.is_run(tmp_path / "latest")


@pytest.mark.parametrize("name", ["../precious", "/{folder}/precious", "sub/../../precious"])
def test_a_record_from_somebody_else_reaches_no_other_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / "run").mkdir()
    words = [sha256(tmp_path / "precious"), "made"]
    name = name.format(folder=tmp_path)
    (tmp_path / "run" / written.FILE).write_text("".join(f"{word}  {name}\n" for word in words) + "made  .making-x\n")
    (tmp_path / "run" / ".making-x").symlink_to(tmp_path)
    clean.clean(tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "kept"


@pytest.mark.parametrize("prefix", [".making-", ".scratch-"])
def test_a_recorded_folder_behind_a_link_is_not_deleted(tmp_path: Path, prefix: str) -> None:
    documents = tmp_path / "home" / "Documents"
    documents.mkdir(parents=True)
    (documents / "letter").touch()
    (documents / ".a.part").touch()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / written.FILE).write_text(f"made  {prefix}x\nmade  {prefix}x/Documents\n")
    (tmp_path / "run" / f"{prefix}x").symlink_to(tmp_path / "home")
    with Store(tmp_path / "run").lock():  # recovers what a killed process left
        pass
    clean.clean(tmp_path / "run")
    assert (documents / "letter").exists() and (documents / ".a.part").exists()


def test_a_clean_that_is_killed_can_be_finished(bars_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, count = Path.unlink, iter(range(10**6))

    def dies(path: Path, missing_ok: bool = False) -> None:
        if next(count) == 3:
            raise KeyboardInterrupt
        real(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", dies)
    with pytest.raises(KeyboardInterrupt):
        clean.clean(bars_run)
    monkeypatch.undo()
    assert clean.is_run(bars_run)
    assert clean.clean(bars_run) == []
