"""The record of what edgekit wrote: the user's files are moved aside, and nothing is written outside a run folder."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from edgekit.core.errors import InputError
from edgekit.measure.context import log
from edgekit.runs import written
from edgekit.runs.store import LOG, RECIPE, RESULTS, Store
from edgekit.workflows import clean, setup

pytestmark = pytest.mark.usefixtures("members")


def test_a_recipe_of_the_users_is_moved_aside(bars_run: Path) -> None:
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
    assert "two\n    lines\n" in (tmp_path / "killed" / LOG).read_text()
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


def test_a_damaged_record_is_no_error(tmp_path: Path) -> None:
    (tmp_path / written.FILE).write_bytes(b"\xff\xfe\n\nmade\nmade  \nmade  a\0b\n0123  half of a li")
    assert written.read(tmp_path) == {"half of a li": {"0123"}}
    (tmp_path / written.FILE).unlink()
    (tmp_path / written.FILE).mkdir()
    assert written.read(tmp_path) == {}
