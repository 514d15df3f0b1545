"""A name is a file; entry points add to the files; nothing is imported before it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.core import errors, extension_points, registry, user_code
from edgekit.core.device import Device
from edgekit.core.errors import BrokenPlugin, InputError
from edgekit.core.format import Format
from edgekit.core.registry import GROUPS
from edgekit.core.samples import SampleSet
from edgekit.core.step import Step
from edgekit.measure import targets
from edgekit.tasks import Classification

PACKAGE = Path(registry.__file__).parents[1]


@pytest.mark.parametrize("group", GROUPS)
def test_names_are_files(group: str) -> None:
    files = {p.stem for p in (PACKAGE / group).glob("*.py") if not p.stem.startswith("_")}
    hyphens = group in ("tasks", "models")
    assert {f.replace("_", "-") if hyphens else f for f in files} <= set(registry.names(group))


@pytest.mark.parametrize("group", GROUPS)
def test_names_are_found_without_importing(group: str) -> None:
    code = f"import sys; from edgekit.core import registry; registry.names({group!r}); " + (
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'onnx', 'numpy', 'edgekit_members')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("to_onnx", "ToOnnx"), ("onnx_int8", "OnnxInt8"), ("fashion-mnist", "FashionMnist"), ("cnn", "Cnn")],
)
def test_class_names(name: str, expected: str) -> None:
    assert registry.class_name(name) == expected


def test_source_is_found_without_importing() -> None:
    assert registry.source("models", "ds-cnn") == PACKAGE / "models" / "ds_cnn.py"


def test_a_member_of_another_package(members: None) -> None:
    assert "bars" in registry.names("tasks")
    assert registry.load("tasks", "bars").__module__ == "edgekit_members.bars"
    assert registry.source("tasks", "bars").name == "bars.py"


def test_without_that_package_it_is_not_there() -> None:
    with pytest.raises(InputError) as error:
        registry.load("tasks", "bars")
    assert "there is no task 'bars'" in error.value.what


def test_near_names() -> None:
    with pytest.raises(InputError) as error:
        registry.load("steps", "onnx_int")
    assert "onnx_int8" in error.value.next
    assert errors.suggest("zzzzzz", ("alpha", "beta")) == "known: alpha, beta"
    assert errors.suggest("alpa", ("alpha", "beta")) == "did you mean alpha?"
    assert errors.suggest("x", ()) == ""


def test_a_class_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a script defines itself is found by its name, and gone with the process."""
    monkeypatch.setattr(registry, "_added", {})

    class Mine(Classification):
        def load(self, split: str) -> SampleSet:
            raise NotImplementedError

    registry.add("tasks", "mine", Mine)
    assert registry.load("tasks", "mine") is Mine
    assert "mine" in registry.names("tasks")
    assert "mine" not in registry.names("steps")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_code: None) -> Path:
    """An empty folder to work in; what it adds to the import path is gone afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_a_file_of_ones_own(here: Path) -> None:
    """Its neighbours can be imported; its name may be one that Python knows already."""
    (here / "neighbour.py").write_text("WIDTH = 3\n")
    (here / "test.py").write_text("from neighbour import WIDTH\nclass Net:\n    width = WIDTH\n")
    assert user_code.is_reference("test.py:Net")
    assert registry.load("models", "test.py:Net").width == 3
    assert registry.source("models", "test.py:Net") == here / "test.py"


def test_a_module_of_ones_own(here: Path) -> None:
    (here / "ownpackage").mkdir()
    (here / "ownpackage" / "__init__.py").touch()
    (here / "ownpackage" / "net.py").write_text("def make():\n    return 5\n")
    assert registry.load("models", "ownpackage.net:make")() == 5


@pytest.mark.parametrize(
    "word", ["mnist:test", "mnist", "C:\\net", "net.py:", "net.py:a b", "no_such_module:Net", ":x"]
)
def test_what_is_no_reference(here: Path, word: str) -> None:
    assert not user_code.is_reference(word)


@pytest.mark.parametrize(
    ("code", "word", "said"),
    [
        (None, "net.py:Net", "there is no file net.py"),
        ("class Nets: ...\n", "net.py:Net", "net.py defines no 'Net'"),
        ("\n\n1 / 0\n", "net.py:Net", "ZeroDivisionError: division by zero (net.py, line 3)"),
        ("x = = 1\n", "net.py:Net", "SyntaxError: invalid syntax (net.py, line 1)"),
        ("import no_such_package\n", "net.py:Net", "No module named 'no_such_package' (net.py, line 1)"),
    ],
)
def test_code_that_cannot_be_had(here: Path, code: str | None, word: str, said: str) -> None:
    if code is not None:
        (here / "net.py").write_text(code)
    with pytest.raises(InputError) as error:
        registry.load("models", word)
    assert said in str(error.value)


class Whole:
    """The least that a runtime is."""

    formats = ("onnx",)
    package = "numpy"

    @staticmethod
    def prepare_imports() -> None: ...

    def __init__(self, model: str, threads: int, precision: str, specs: object) -> None: ...

    def bind(self, feeds: object) -> None: ...

    def facts(self) -> None: ...


def test_what_a_runtime_does_not_declare_has_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_added", {("runtimes", "whole"): Whole})
    declared = registry.runtime("whole")
    assert (declared.cls, declared.formats, declared.package) == (Whole, ("onnx",), "numpy")
    assert (declared.extra, declared.precisions, declared.older) == ("", ("fp32",), ())
    assert declared.computes and not declared.needs_edgekit and declared.profile is declared.problems is None
    assert declared.takes("onnx") and not declared.takes("tflite")
    assert registry.runtime("null").takes("anything")


@pytest.mark.parametrize(
    ("group", "member", "said"),
    [
        (
            "runtimes",
            type("Half", (), {"formats": ("onnx",)}),
            "it has no package, __init__, prepare_imports, bind, facts",
        ),
        ("runtimes", type("Word", (Whole,), {"formats": "onnx"}), "'formats' must be a tuple of strings, not 'onnx'"),
        ("runtimes", type("None_", (Whole,), {"formats": ()}), "'formats' names no format"),
        ("runtimes", type("One", (Whole,), {"needs_edgekit": 1}), "'needs_edgekit' must be a bool, not 1"),
        ("runtimes", lambda: None, "it is a function, not a class"),
        ("steps", type("Loose", (), {}), "it does not inherit edgekit.core.step.Step; it has no produces, apply"),
        ("steps", type("Bare", (Step,), {"produces": 1, "apply": print}), "it is not a dataclass"),
        ("devices", type("Deaf", (Device,), {"provenance": "measured"}), "it has no facts, run"),
        ("formats", type("Shut", (Format,), {"file": "model.x"}), "it has no describe"),
        ("tasks", type("Idle", (Classification,), {}), "it has no load"),
        ("models", 3, "it is a int, not a function or class that returns a network"),
    ],
)
def test_what_a_member_lacks_is_named(
    group: str, member: object, said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is refused where it is loaded, and skipped once with a warning where all members are looked through."""
    monkeypatch.setattr(registry, "_added", {(group, "mine"): member})
    monkeypatch.setattr(registry, "_skipped", set())
    with pytest.raises(BrokenPlugin) as error:
        registry.load(group, "mine")
    assert error.value.code == 2 and error.value.why == said
    for _ in range(2):
        assert "mine" not in dict(registry.members(group, "mi"))
    assert [record.getMessage() for record in caplog.records].count(
        f"warning: {error.value.what}: {said} (skipped)"
    ) == 1
    assert [(g, n) for g, n, _ in registry.broken()] == [(group, "mine")]


@pytest.mark.parametrize("group", GROUPS)
def test_every_shipped_member_offers_what_it_must(group: str) -> None:
    for name in registry.names(group):
        assert extension_points.problems(group, name, registry.load(group, name)) == []


def test_a_step_is_known_by_its_entry_point(members: None) -> None:
    assert registry.step_name(registry.load("steps", "to_flipped")()) == "to_flipped"
    assert registry.distribution("steps", "to_flipped") == "edgekit-members"
    assert registry.distribution("steps", "to_onnx") == errors.DISTRIBUTION


def test_installed_runtimes_of_others_belong_to_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = type("Absent", (Whole,), {"package": "no-such-package"})
    idle = type("Idle", (Whole,), {"computes": False})
    added = {("runtimes", "whole"): Whole, ("runtimes", "absent"): absent, ("runtimes", "idle"): idle}
    before = dict(targets.load("host").runtimes)
    monkeypatch.setattr(registry, "_added", added)
    assert dict(targets.load("host").runtimes) == {**before, "whole": ""}
    assert dict(targets.load("null").runtimes) == {"null": ""}
