"""A task in a file of the user's own: found, run, and answered in a line whatever it does wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit import tasks
from edgekit.core.errors import InputError
from edgekit.runs import named_sets

pytestmark = pytest.mark.usefixtures("own_code")

TASK = """
import numpy as np
from edgekit.sets import sample_set
from edgekit.tasks import Classification

class Mine(Classification):
    classes = ("no", "yes")

    def load(self, split):
        {body}
"""
FINE = 'return sample_set(split, {"x": np.arange(6.0).reshape(3, 2)}, np.array([0, 1, 1]))'


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_it_is_found_by_its_path() -> None:
    Path("own.py").write_text(TASK.format(body=FINE))
    task = tasks.load("own.py:Mine")
    assert task.name == "own.py:Mine" and task.classes == ("no", "yes") and task.arguments("net.py:Net") == {}
    data = named_sets.load("own.py:Mine:val")
    assert data.inputs["x"].shape == (3, 2)
    assert task.score({"o": np.eye(2)[[0, 1, 0]]}, np.array([0, 1, 1])).per_sample.tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return open('absent')", "FileNotFoundError"),
        ("return 1 / 0", "line 10"),
        ("return None", "returns a NoneType"),
        ('return sample_set(split, {"x": np.zeros((3, 2))}, np.zeros(2))', "x 3, labels 2"),
        ("return sample_set(split, {}, None)", "there are no arrays"),
        ('return sample_set(split, {"x": np.zeros((0, 2))}, None)', "not 0"),
    ],
)
def test_a_load_that_goes_wrong(body: str, said: str) -> None:
    Path("own.py").write_text(TASK.format(body=body))
    with pytest.raises(InputError) as error:
        named_sets.load("own.py:Mine:train")
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("Mine = 3", "cannot make the task"),
        ("class Mine: pass", "it has no load, loss, score"),
        ("def Mine(path): pass", "missing 1 required"),
        ("class Mine:\n    def __init__(self):\n        raise ValueError('my own words')", "my own words"),
        ("class Yours: pass", "defines no 'Mine'"),
    ],
)
def test_what_is_no_task(code: str, said: str) -> None:
    Path("own.py").write_text(code)
    with pytest.raises(InputError) as error:
        tasks.load("own.py:Mine")
    assert said in str(error.value)
