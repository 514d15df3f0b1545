"""What is trusted: a folder with the files that it holds now, in a record that only the user can read."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers import trust as trust_folder

from edgekit.core import trust
from edgekit.core.errors import InputError


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "work" / "targets").mkdir(parents=True)
    (tmp_path / "work" / "edgekit.toml").write_text("batch = 2\n")
    (tmp_path / "work" / "targets" / "pi.toml").write_text("name = 'pi'\n")
    return tmp_path / "work"


def test_trust_ends_with_a_change(work: Path) -> None:
    assert not trust.is_trusted(work)
    trust_folder(work)
    assert trust.is_trusted(work)
    (work / "notes.txt").write_text("no part of it")
    (work / "net.py").write_text("class Net: ...\n")
    assert trust.is_trusted(work), "code is trusted by its name"
    for name, text in (("edgekit.toml", "batch = 3\n"), ("targets/pi.toml", ""), ("recipes/new.toml", "")):
        (work / name).parent.mkdir(exist_ok=True)
        (work / name).write_text(text)
        assert not trust.is_trusted(work), name
        trust_folder(work)
        assert trust.is_trusted(work)
    (work / "recipes" / "new.toml").rename(work / "recipes" / "other.toml")
    assert not trust.is_trusted(work), "the names count"
    trust_folder(work)
    (work / "edgekit.toml").unlink()
    assert not trust.is_trusted(work)


def test_a_link_to_a_trusted_folder_is_that_folder(work: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(work)
    trust_folder(tmp_path / "link")
    assert trust.is_trusted(work) and trust.is_trusted(tmp_path / "link")
    assert trust.read().folders.keys() == {str(work)}


def test_the_record_is_the_users_alone(work: Path) -> None:
    trust.file().parent.mkdir(parents=True, mode=0o755)
    trust_folder(work)
    assert trust.file().stat().st_mode & 0o777 == 0o600
    assert trust.file().parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '{"folders": {}}', '{"folders": {"a": 1}, "code": []}', "\0"])
def test_a_damaged_record(work: Path, text: str) -> None:
    """It trusts nothing, and is not replaced unasked."""
    trust_folder(work)
    trust.file().write_text(text)
    with pytest.raises(InputError, match="is damaged"):
        trust.is_trusted(work)
    with pytest.raises(InputError, match="is damaged"):
        trust_folder(work)
    assert trust.file().read_text() == text


def test_two_at_once_lose_nothing(work: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def add(index: int) -> None:
        with trust.changed() as record:
            record.code.append(f"/net{index}.py:Net")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert len(trust.read().code) == 40
