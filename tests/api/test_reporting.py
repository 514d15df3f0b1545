"""Errors in Python's words, and when progress is shown."""

from __future__ import annotations

import pytest

from edgekit.api.reporting import Shown, in_python, in_pythons_words
from edgekit.core.errors import InputError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pass --calibration SET (an .npz)", "pass calibration=SET (an .npz)"),
        ("allow more with --max-drop, or use the float model", "allow more with max_drop=, or use the float model"),
        ("see edgekit train --help", "see help(edgekit.train)"),
        ("see edgekit import --help", "see help(edgekit.import_model)"),
        ("try --thorough", 'try effort="thorough"'),
        ("runs/a--b", "runs/a--b"),
        ("edgekit verify --layers; pass --val SET", "edgekit verify --layers; pass val=SET"),
        ("nothing was sent; choose another artifact", "nothing was sent; choose another artifact"),
    ],
)
def test_the_words(text: str, said: str) -> None:
    assert in_pythons_words(text) == said


def test_an_error_is_translated_where_it_leaves() -> None:
    with pytest.raises(InputError, match="val= needs") as caught, in_python():
        raise InputError("--val needs labels", "why", "pass --val SET")
    assert caught.value.next == "pass val=SET" and str(caught.value) == "val= needs labels: why"


def test_nothing_is_shown_but_in_a_terminal_or_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    quiet = Shown(None)
    quiet.say("  made")
    assert list(quiet.progress([1, 2], "counting")) == [1, 2]
    assert capsys.readouterr() == ("", "")
    loud = Shown(True)
    loud.say("  made\x1b[2J")
    assert list(loud.progress([1, 2], "[counting]")) == [1, 2]
    out, err = capsys.readouterr()
    assert out == "" and "made" in err and "\x1b[2J" not in err
