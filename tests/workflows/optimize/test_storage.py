"""A storage's URL: checked before any work, its faults named, its password never shown."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ended

pytest.importorskip("optuna")
from workflows.optimize.made_up import SPACE, shared, tried

from edgekit.core.errors import EdgekitError, InputError
from edgekit.workflows.optimize import claims
from edgekit.workflows.optimize.causes import masked
from edgekit.workflows.optimize.storage import Storage, local
from edgekit.workflows.optimize.study import Study


@pytest.mark.parametrize(
    ("url", "why", "next"),
    [
        ("postgresql+psycopg2cffi://u:hush@h/d", "psycopg2cffi is not installed", "pip install 'psycopg2cffi'"),
        ("oracle+oracledb://u:hush@h/d", "oracledb is not installed", "pip install 'oracledb'"),
        ("redis://u:hush@h/0", "unknown kind of database: redis", "for example sqlite:///"),
        ("postgresql://u:hu@sh@h/d", "more than one @", "write an @ in the user or the password as %40"),
        ("sqlite:///no/such/folder/t.db", "its folder does not exist", "create the folder"),
        ("sqlite:///text.db", "not an SQLite database", "name another file"),
        ("sqlite:///file:ro.db?mode=ro&uri=true", "may not create tables in it or write", "grant"),
        (
            "sqlite:///old.db",
            "made by another version of Optuna",
            "optuna storage upgrade --storage 'sqlite:///old.db'",
        ),
        ("sqlite:///new.db", "made by another version of Optuna", "pip install -U optuna"),
        ("sqlite://", "a database in memory cannot be shared", "for example"),
        ("nonsense", "it is not a URL", "for example"),
    ],
)
def test_a_storage_that_cannot_be_used(
    url: str, why: str, next: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.db").write_text("this is no database " * 100)
    version = {"old.db": "v2.6.0.a", "new.db": "v99"}.get(url.removeprefix("sqlite:///"))
    if version or "ro.db" in url:
        name = "ro.db" if version is None else url.removeprefix("sqlite:///")
        Storage(f"sqlite:///{name}", claims.prepare)
        with contextlib.closing(sqlite3.connect(name)) as connection, connection:
            connection.execute("UPDATE alembic_version SET version_num = coalesce(?, version_num)", (version,))
    with pytest.raises(EdgekitError) as raised:
        Storage(url, claims.prepare)
    error = raised.value
    assert error.code == (3 if "pip install '" in next else 2)
    assert "the storage " + masked(url) in error.what and why in error.why and next in error.next
    assert "hush" not in str(error) + error.next


def test_the_storage_is_checked_before_anything_else(cli: Callable[..., Ended]) -> None:
    ended = cli("optimize", "no-such-task", "--target", "none", "--storage", "oracle+oracledb://u:hush@h/d")
    assert ended.code == 3 and "the storage oracle+oracledb://u:***@h/d needs oracledb" in ended.line
    assert "pip install 'oracledb'" in ended.err and "hush" not in ended.err + ended.out


@pytest.mark.parametrize("name", ["a?b", "50%41", "{x}", "plain"])
def test_a_run_folder_of_any_name_holds_its_storage(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    study = Study(Storage(local(tmp_path / name / "optimize.db")), "study", SPACE, 0)
    study.add(tried(SPACE.point()))
    assert (tmp_path / name / "optimize.db").is_file() and len(list(tmp_path.iterdir())) == 1


def test_a_lost_storage_is_waited_for_and_then_named(tmp_path: Path) -> None:
    study = shared(tmp_path / "t.db", "one", patience_s=0.5)
    with contextlib.closing(sqlite3.connect(tmp_path / "t.db")) as connection:
        connection.execute("DROP TABLE trial_params")
        connection.execute("DROP TABLE edgekit_claims")
    with pytest.raises(InputError, match="its tables or this search were deleted"):
        study.next(9)


def test_a_search_that_was_deleted_in_the_middle(tmp_path: Path) -> None:
    study = shared(tmp_path / "t.db", "one")
    point = study.next(9)
    assert point is not None
    with contextlib.closing(sqlite3.connect(tmp_path / "t.db")) as connection, connection:
        connection.execute("DELETE FROM studies")
    with pytest.raises(InputError, match="this search were deleted"):
        study.add(tried(point))
