"""What is shown of a folder before it is trusted, and what is recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core import trust as trusted
from edgekit.core.errors import InputError
from edgekit.workflows import trust


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "work" / "targets").mkdir(parents=True)
    (tmp_path / "work" / "edgekit.toml").write_text("batch = 2\n# \x1b[2J\r\u202egnp\n")
    (tmp_path / "work" / "targets" / "host.toml").write_text('device = "ssh"\naddress = "pi@evil"\n')
    (tmp_path / "work" / "targets" / "broken.toml").write_text("device =\n")
    (tmp_path / "work" / "net.py").write_text("class Net: ...\n")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def test_what_is_shown(work: Path) -> None:
    """All of the settings, without what would move a cursor; where a target leads, and what it replaces."""
    lines = trust.look(work).lines
    assert lines[:3] == ("edgekit.toml:", "    batch = 2", "    # \\x1b[2J")
    assert lines[3] == "    \\u202egnp"
    assert lines[4].startswith("targets/broken.toml: it is not TOML")
    assert lines[5] == "targets/host.toml: device 'ssh', address 'pi@evil', in place of the shipped one"


def test_what_changes_while_it_is_shown_is_not_trusted(work: Path) -> None:
    shown = trust.look(work)
    (work / "edgekit.toml").write_text("batch = 3\n")
    trust.trust(shown)
    assert not trusted.is_trusted(work)
    assert [entry["state"] for entry in trust.listed()] == ["changed"]


def test_code_by_its_name(work: Path) -> None:
    assert trust.trust_code("net.py:Net") == f"{work}/net.py:Net" == trust.trust_code(f"{work}/net.py:Net")
    assert trust.trust_code("net:Net") == f"{work}/net:Net"
    assert [entry["what"] for entry in trust.listed()] == [f"{work}/net.py:Net", f"{work}/net:Net"]
    assert trust.remove("net.py:Net") == f"{work}/net.py:Net"
    assert trust.remove(f"{work}/net:Net") == f"{work}/net:Net"
    assert trust.listed() == []


@pytest.mark.parametrize("name", ["absent.py:Net", "absent:Net", "net.py:a b", ":", "net.py:"])
def test_code_that_is_none(work: Path, name: str) -> None:
    with pytest.raises(InputError):
        trust.trust_code(name)
    assert not trusted.file().exists()


def test_a_folder_that_is_none(work: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        trust.folder_of("absent")
    with pytest.raises(InputError, match="is not trusted"):
        trust.remove(".")
