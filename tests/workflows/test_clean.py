"""`edgekit clean`: what edgekit wrote goes, and nothing else, whatever else is in the folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from edgekit.core.errors import InputError
from edgekit.measure.context import log
from edgekit.runs import written
from edgekit.runs.store import LOG, RECIPE, REPORT, RESULTS, Store
from edgekit.workflows import clean, setup

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
    from edgekit.core.files import sha256

    (tmp_path / "precious").write_text("kept")
    (tmp_path / "run").mkdir()
    words = [sha256(tmp_path / "precious"), "made"]
    name = name.format(folder=tmp_path)
    (tmp_path / "run" / written.FILE).write_text("".join(f"{word}  {name}\n" for word in words) + "made  .making-x\n")
    (tmp_path / "run" / ".making-x").symlink_to(tmp_path)
    clean.clean(tmp_path / "run")
    assert (tmp_path / "precious").read_text() == "kept"


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


# --- what is written in place of the user's files ------------------------------------------------------------------


def test_a_recipe_of_the_users_is_moved_aside(bars_run: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`edgekit run recipe.toml --out .`, say: the resolved recipe has the same name."""
    (bars_run / RECIPE).write_text("mine")
    written.write(bars_run, RECIPE, "edgekit's")
    written.write(bars_run, RECIPE, "edgekit's, again")
    assert (bars_run / RECIPE).read_text() == "edgekit's, again"
    assert (bars_run / f"{RECIPE}.kept").read_text() == "mine"
    assert not (bars_run / f"{RECIPE}.kept-2").exists()
    assert clean.clean(bars_run) == [f"{RECIPE}.kept"]


def test_a_write_that_is_killed_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store(tmp_path / "run").lock():
        written.write(tmp_path / "run", RESULTS, "old")
        monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            written.write(tmp_path / "run", RESULTS, "new")
        monkeypatch.undo()
    assert (tmp_path / "run" / RESULTS).read_text() == "old"
    assert clean.clean(tmp_path / "run") == [], "both were recorded, and what was half-written is no more"


def test_the_log_of_a_user_is_continued_and_never_deleted(tmp_path: Path) -> None:
    (tmp_path / LOG).write_text("my diary\n")
    with setup.open_run(Store(tmp_path)):
        log.info("two\nlines")
    assert (tmp_path / LOG).read_text().startswith("my diary\n")
    assert clean.clean(tmp_path) == [LOG]


def test_the_log_of_a_killed_run_is_deleted(tmp_path: Path) -> None:
    with setup.open_run(Store(tmp_path / "run")):
        log.info("two\nlines")
        shutil.copytree(tmp_path / "run", tmp_path / "killed")
    assert "two\n  lines\n" in (tmp_path / "killed" / LOG).read_text()
    assert clean.clean(tmp_path / "killed") == []


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x"])
def test_nothing_is_written_outside(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(InputError):
        written.write(tmp_path / "run", name, "text")
    assert [path.name for path in tmp_path.iterdir()] == ["run"] and not list((tmp_path / "run").iterdir())


def test_results_from_somebody_else_name_no_other_files(bars_run: Path) -> None:
    """Parts of file names: of charts, predictions and scores."""
    document = json.loads((bars_run / RESULTS).read_text())
    for field in ("artifact", "target", "runtime", "key"):
        changed = json.loads(json.dumps(document))
        changed["measurements"][0][field] = "../../x"
        (bars_run / RESULTS).write_text(json.dumps(changed))
        with pytest.raises(InputError, match=f"{field}: "):
            Store(bars_run).measurements()
