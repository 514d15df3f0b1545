"""Class names from folders, files and code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgekit.core.errors import InputError
from edgekit.networks.signatures import classes

pytestmark = pytest.mark.usefixtures("own_code")


def test_where_class_names_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("cat", "bird", ".cache"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    assert classes.read("photos") == ("bird", "cat")
    (tmp_path / "names.txt").write_text("cat\n\n bird\r\n")
    assert classes.read("names.txt") == ("cat", "bird")
    (tmp_path / "a.json").write_text(json.dumps(["b", "a"]))
    assert classes.read("a.json") == ("b", "a")
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"1": "dog", "0": "cat"}}))
    assert classes.read("config.json") == ("cat", "dog")
    (tmp_path / "mydata.py").write_text("NAMES = ('x', 'y')\nCOUNT = 2\n")
    assert classes.read("mydata.py:NAMES") == ("x", "y")
    with pytest.raises(InputError, match="no list of names"):
        classes.read("mydata.py:COUNT")


@pytest.mark.parametrize("content", ["", "[1, 2]", "{}", '{"0": "a", "2": "b"}', "[" * 100_000, "\ufeffx", '""'])
def test_what_holds_no_names(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError):
        classes.read(str(tmp_path / "a.json"))


def test_what_is_not_there(tmp_path: Path) -> None:
    for source in ("nothing", str(tmp_path / "none.txt"), str(tmp_path)):
        with pytest.raises(InputError):
            classes.read(source)
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="UTF-8"):
        classes.read(str(tmp_path / "a.txt"))
