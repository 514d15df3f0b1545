"""Records keep paths that work from another place, and none that names this machine's user."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.local_paths import names_only, portable, resolved


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "home" / "data" / "pets").mkdir(parents=True)
    (tmp_path / "home" / "runs" / "a").mkdir(parents=True)
    (tmp_path / "home" / "net.py").touch()
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("{}/data/pets", "{run}/../../data/pets"),
        ("{}/data/pets/", "{run}/../../data/pets/"),
        ("{}/data/pets?label=a/b:train", "{run}/../../data/pets?label=a/b:train"),
        ("{}/data/shards-{{000..010}}.tar", "{run}/../../data/shards-{{000..010}}.tar"),
        ("{}/net.py:Net", "{run}/../../net.py:Net"),
        ("{}/runs/a/x.toml", "{run}/x.toml"),
        ("pets?data={}/data/pets&size=3:train", "pets?data={run}/../../data/pets&size=3:train"),
    ],
)
def test_a_path_is_kept_relative_to_the_run(project: Path, text: str, stored: str) -> None:
    text, stored = text.replace("{}", str(project)).replace("{{", "{").replace("}}", "}"), stored.replace("{{", "{")
    stored = stored.replace("}}", "}")
    run = project / "runs" / "a"
    assert portable({"x": [text]}, run) == {"x": [stored]}
    assert resolved({"x": [stored]}, run) == {"x": [text]}


def test_both_can_be_moved_together(project: Path) -> None:
    stored = portable(f"{project}/data/pets", project / "runs" / "a")
    moved = project.with_name("elsewhere")
    shutil.move(project, moved)
    assert resolved(stored, moved / "runs" / "a") == f"{moved}/data/pets"


def test_a_link_to_the_run_changes_nothing(project: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(project / "runs" / "a")
    stored = portable(f"{project}/net.py", project / "runs" / "a")
    assert resolved(stored, tmp_path / "link") == f"{project}/net.py"


@pytest.mark.parametrize(
    "value",
    ["data/pets", "mnist:train", "/conv1/Conv", "/MatMul", "", '{"inputs": []}', 3, None, [1.5], "/" + "x" * 5000],
)
def test_what_is_no_path_of_this_machine_stays(tmp_path: Path, value: Any) -> None:
    assert portable(value, tmp_path) == value == names_only(value)


@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_every_value_comes_back(value: Any) -> None:
    run = Path("/usr/lib")
    if "{run}/" not in str(value):
        assert resolved(portable(value, run), run) == value


def test_a_sentence_keeps_the_names(
    project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    other = tmp_path_factory.mktemp("someone")
    assert names_only(f"cannot read {project}/data/x.png: broken") == "cannot read data/x.png: broken"
    assert names_only(("weights", f"{other}/net.safetensors: 3")) == ("weights", "net.safetensors: 3")
    assert names_only("/conv1/Conv and https://host/a/b and 3/4") == "/conv1/Conv and https://host/a/b and 3/4"
