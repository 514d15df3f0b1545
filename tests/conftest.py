"""What every test may use: a task learnt in a second, and one real run of it.

The task `bars` and a few broken steps live in `members/`, a distribution of their own that edgekit finds through its
entry points, in this process and in every one that `edgekit` starts.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from filelock import FileLock
from helpers import BARS, MEMBERS, ONE_THREAD, QUICK_PLAN, Ended, run_cli

import edgekit
from edgekit.core import registry, user_code


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module imports torch: see ONE_THREAD."""
    os.environ.update(ONE_THREAD)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow tests that may take longest come first: begun last, one of them would keep every other worker waiting."""

    def allowed(item: pytest.Item) -> float:
        limit = item.get_closest_marker("timeout")
        return float(limit.args[0]) if limit and item.get_closest_marker("slow") else 0.0

    items.sort(key=allowed, reverse=True)


# In CI the same examples every time: a change must not fail by the luck of the draw. Elsewhere new ones are sought.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def _own_configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the settings of whoever runs it."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("EDGEKIT_") and name != "EDGEKIT_DATA"]:
            patch.delenv(name)
        patch.delenv("GITHUB_ACTIONS", raising=False)  # annotations would be among the lines of stderr
        patch.setenv("XDG_CONFIG_HOME", str(home / "config"))
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        patch.setenv("XDG_STATE_HOME", str(home / "state"))
        patch.setenv("COLUMNS", "80")
        yield


@pytest.fixture(autouse=True)
def _own_log() -> None:
    """edgekit's warnings are heard, whatever level a library has given the root logger before."""
    logging.getLogger("edgekit").setLevel(logging.WARNING)


@pytest.fixture
def members(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The test-only members, in this process and those it starts."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(MEMBERS), os.environ.get("PYTHONPATH", "")])))
    path = sys.path  # a test may put another list in its place
    path.insert(0, str(MEMBERS))
    registry._entry_points.cache_clear()
    yield
    path.remove(str(MEMBERS))  # and nothing else: libraries add folders of their own, once
    registry._entry_points.cache_clear()


@pytest.fixture
def own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every reference to code counts as typed by the user, for tests of what is below the commands."""
    monkeypatch.setattr(user_code, "_is_typed", lambda reference: True)


@pytest.fixture
def cli(tmp_path: Path) -> Callable[..., Ended]:
    """`edgekit WORDS` in the test's own folder, in a process of its own."""

    def call(*words: object, **settings: Any) -> Ended:
        return run_cli(*words, **{"cwd": tmp_path, **settings})

    return call


@pytest.fixture
def brief_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search in this process times each attempt once and briefly, for tests that do not look at the times."""
    brief = {"quick": {"processes": 1, "seconds": 0.02}}
    monkeypatch.setattr("edgekit.workflows.quantize.attempt_times.PRESETS", brief)


def _once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills, once for all workers of this test run. Never written to afterwards."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with FileLock(f"{folder}.lock"):
        if not (folder / ".whole").exists():
            shutil.rmtree(folder, ignore_errors=True)  # one that failed
            folder.mkdir()
            make(folder)
            (folder / ".whole").touch()
    return folder


@pytest.fixture(scope="session")
def bars_made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One real run of the task `bars`: torch, onnx and onnx-int8, trained, verified and measured. Never written to."""
    return _once(tmp_path_factory, "bars", lambda folder: _run_recipe(folder, BARS)) / "run"


def _run_recipe(folder: Path, text: str) -> None:
    (folder / "bars.toml").write_text(text + QUICK_PLAN)
    ended = run_cli("run", "bars.toml", "--out", "run", cwd=folder)
    assert ended.code == 0, ended.err


@pytest.fixture(scope="session")
def bars_formats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in every format. Never written to."""
    chains = (["to_tflite", "tflite_int8"], ["to_openvino"])
    more = "".join(f"\n[[chain]]\nsteps = {json.dumps(['train', *steps])}\n" for steps in chains)
    return _once(tmp_path_factory, "formats", lambda folder: _run_recipe(folder, BARS + more)) / "run"


@pytest.fixture
def bars_run(bars_made: Path, tmp_path: Path) -> Path:
    """A copy of the bars run, the test's own; `bars.toml` beside it is the recipe it came from."""
    shutil.copy(bars_made.parent / "bars.toml", tmp_path / "bars.toml")
    return _copied(bars_made, tmp_path / "run")


def _copied(source: Path, place: Path) -> Path:
    return Path(shutil.copytree(source, place))


@pytest.fixture(scope="session")
def check_document() -> Callable[[dict[str, Any]], None]:
    """Fails where an object that --json printed is not as the shipped schema says."""
    import jsonschema

    schema = json.loads((Path(edgekit.__file__).parent / "schema" / "edgekit-1.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema).validate
