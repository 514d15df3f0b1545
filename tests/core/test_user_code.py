"""The user's own code: found, run, and its errors told in a line with the place."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgekit.core import identity, registry, trust, user_code
from edgekit.core.errors import DeviceError, InputError
from edgekit.core.user_code import is_reference, reason, resolve, run_user_code


@pytest.fixture(autouse=True)
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("net.py:Net", True),
        ("folder/net.py:make", True),
        ("json:dumps", True),
        ("json.decoder:JSONDecoder", True),
        ("nowhere:Net", False),
        ("net.py", False),
        ("net.py:two words", False),
        ("C:\\net", False),
        ("onnx", False),
    ],
)
def test_what_is_a_reference(name: str, is_one: bool) -> None:
    assert is_reference(name) is is_one


def test_a_folder_of_data_is_no_module(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    assert not is_reference("data:train")


@pytest.mark.usefixtures("own_code")
def test_a_file_is_run_once(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import itertools\ncount = next(itertools.count(7))\nclass Net: pass\n")
    assert resolve("net.py:count") == 7
    assert resolve("net.py:Net") is resolve(f"{tmp_path}/net.py:Net")


@pytest.mark.usefixtures("own_code")
def test_a_file_does_not_hide_a_module(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("dumps = 'mine'\n")
    assert resolve("json.py:dumps") == "mine"
    assert callable(resolve("json:dumps"))


@pytest.mark.usefixtures("own_code")
def test_a_file_imports_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "neighbour_of_net.py").write_text("value = 3\n")
    (tmp_path / "folder" / "net.py").write_text("from neighbour_of_net import value\n")
    assert resolve("folder/net.py:value") == 3


@pytest.mark.usefixtures("own_code")
def test_what_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def make(): ...\ndef _hidden(): ...\n")
    with pytest.raises(InputError, match=r"no file other\.py"):
        resolve("other.py:make")
    with pytest.raises(InputError, match="defines no 'mak'") as caught:
        resolve("net.py:mak")
    assert "make" in caught.value.next and "_hidden" not in caught.value.next


@pytest.mark.usefixtures("own_code")
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\n1 / 0\n", "ZeroDivisionError: division by zero (net.py, line 2)"),
        ("def f(:\n", "SyntaxError"),
        ("import not_installed_at_all\n", "ModuleNotFoundError: No module named 'not_installed_at_all'"),
        ("raise SystemError('a\\nb')\n", "SystemError: a (net.py, line 1)"),
    ],
)
def test_what_it_raises_is_told_in_a_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "net.py").write_text(text)
    for _ in range(2):  # a module that failed is not taken for one that is loaded
        with pytest.raises(InputError) as caught:
            resolve("net.py:Net")
        assert caught.value.what == "cannot run net.py" and words in caught.value.why


@pytest.mark.usefixtures("own_code")
def test_the_line_is_in_the_users_file(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("import json\ndef make():\n    return json.loads('{')\n")
    with pytest.raises(InputError) as caught:
        run_user_code("net.py:make", "cannot build net.py:make", resolve("net.py:make"))
    assert "(net.py, line 3)" in caught.value.why


def test_edgekit_s_own_errors_pass() -> None:
    def fail() -> None:
        raise DeviceError("it is gone")

    with pytest.raises(DeviceError):
        run_user_code("net.py:make", "cannot build", fail)
    assert run_user_code("net.py:make", "cannot build", lambda: 3) == 3


def test_a_reason_without_words() -> None:
    try:
        raise ValueError
    except ValueError as error:
        assert reason("net.py", error).startswith("ValueError:")


@pytest.mark.usefixtures("own_code")
@pytest.mark.parametrize("line", ["from .blocks import Block", "from shop.blocks import Block", "import shop.blocks"])
@pytest.mark.parametrize("marked", [True, False])
def test_a_file_in_a_package_imports_from_it(tmp_path: Path, line: str, marked: bool) -> None:
    if not marked and not line.startswith("from ."):
        pytest.skip("a folder without __init__.py is no package of its own")
    package = tmp_path / "shop"
    package.mkdir()
    (package / "blocks.py").write_text("class Block: pass\n")
    (package / "model.py").write_text(f"{line}\nclass Net: pass\n")
    if marked:
        (package / "__init__.py").write_text("")
    assert resolve("shop/model.py:Net").__module__ == "shop.model"
    before = identity.of_member("models", "shop/model.py:Net")
    (package / "blocks.py").write_text("class Block: size = 2\n")
    assert identity.of_member("models", "shop/model.py:Net") != before, "its neighbours are code of the network"


MARK = "from pathlib import Path\nPath({!r}).touch()\nclass Net: pass\nclass Other: pass\n"


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`evil.py` and the package `evilpack`, which make this file where they are run; nothing is trusted yet."""
    path = tmp_path / "it-ran"
    (tmp_path / "evil.py").write_text(MARK.format(str(path)))
    (tmp_path / "evilpack").mkdir()
    for name in ("__init__.py", "net.py"):
        (tmp_path / "evilpack" / name).write_text(MARK.format(str(path)))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv(user_code.CODE, "")
    monkeypatch.setattr(user_code, "_typed", set())
    return path


@pytest.mark.parametrize("name", ["evil.py:Net", "evilpack.net:Net", "os:system", "timeit:timeit"])
def test_what_only_data_names_is_not_run(mark: Path, name: str) -> None:
    with pytest.raises(InputError, match="is not run") as caught:
        registry.load("models", name)
    assert caught.value.next == f"if you trust it: edgekit trust {name}"
    assert not mark.exists()


@pytest.mark.parametrize("group", ["steps", "formats", "runtimes", "devices"])
def test_other_members_are_never_references(mark: Path, group: str) -> None:
    """As in the step and kind of an artifact."""
    user_code.typed("evil.py:Net")
    with pytest.raises(InputError, match="there is no"):
        registry.load(group, "evil.py:Net")
    assert not mark.exists()


def test_to_look_at_a_name_runs_nothing(mark: Path, tmp_path: Path) -> None:
    before = list(sys.path)
    assert is_reference("evilpack.net:Net") and not is_reference("evilpack.absent:Net")
    assert not is_reference("\0.py:Net")
    identity.of_member("models", "evilpack.net:Net")
    assert not mark.exists() and sys.path == before


def test_what_was_typed_is_run_and_remembered(mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By this user, in this folder; another name in the same file is another thing."""
    user_code.typed({"fields": ["evil.py:Net"]})
    assert not trust.file().exists(), "it was not run yet"
    assert resolve("evil.py:Net").__name__ == "Net" and mark.exists()
    monkeypatch.setattr(user_code, "_typed", set())  # as a later command
    monkeypatch.setenv(user_code.CODE, "")
    assert resolve("evil.py:Net").__name__ == "Net"
    with pytest.raises(InputError, match=r"'evil\.py:Other' is not run"):
        resolve("evil.py:Other")
    assert trust.file().stat().st_mode & 0o777 == 0o600
    assert trust.file().parent.stat().st_mode & 0o777 == 0o700


def test_where_nothing_can_be_remembered_it_runs_all_the_same(mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container without a home; the processes that it starts are told by the environment."""
    (mark.parent / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(mark.parent / "file" / "below"))
    user_code.typed("evil.py:Net")
    resolve("evil.py:Net")
    assert os.environ[user_code.CODE] == str(mark.parent / "evil.py:Net")
    monkeypatch.setattr(user_code, "_typed", set())
    resolve("evil.py:Net")


@pytest.mark.parametrize(
    "text", ["cars.py:Cars", "cars.py:Cars:val", "train.model=cars.py:Cars", "x?a=cars.py:Cars&b=1", '["cars.py:Cars"]']
)
def test_references_in_what_is_typed(text: str) -> None:
    assert "cars.py:Cars" in user_code.references_in(text)


def test_a_folder_with_spaces_in_its_name() -> None:
    assert "my = net/net.py:Net.make" in user_code.references_in("my = net/net.py:Net.make")
    assert not list(user_code.references_in("C:\\net.py")) and not list(user_code.references_in("x=3"))
