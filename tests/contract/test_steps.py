"""What every step owes: typed fields, kinds that parse, a stable identity, and help in its docstring."""

from __future__ import annotations

import dataclasses
import pickle
import tomllib
import typing
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from edgekit.core import registry
from edgekit.core.artifact import Kind
from edgekit.core.config import build, convert
from edgekit.core.step import Step, references, step_name
from edgekit.core.target import Target
from edgekit.measure import targets
from edgekit.runs.store import tools

ROOT = Path(__file__).parents[2]
#: packages that come with another of the same extra
FOLLOW = {"litert-converter"}
STEPS = registry.names("steps")
TARGETS = [
    targets.load("host"),
    Target("vnni", "", "ssh", arch="x86_64", isa=("avx512_vnni",)),
    Target("old", "", "ssh", arch="x86_64"),
    Target("pi", "", "ssh", arch="aarch64"),
    Target("other", "", "ssh", arch="riscv64"),
]


@pytest.fixture(params=STEPS)
def cls(request: pytest.FixtureRequest) -> type[Step]:
    found: type[Step] = registry.load("steps", request.param)
    return found


def test_it_is_a_frozen_record(cls: type[Step]) -> None:
    assert issubclass(cls, Step) and dataclasses.is_dataclass(cls)
    step: Any = cls()
    assert step_name(step) in STEPS
    assert hash(step) == hash(cls()) and step == cls()
    assert pickle.loads(pickle.dumps(step)) == step
    for field in dataclasses.fields(step):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(step, field.name, None)


def test_it_says_what_it_is(cls: type[Step]) -> None:
    assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}("), "no docstring of its own"
    module = __import__("sys").modules[cls.__module__]
    assert module.__doc__ and "→" in module.__doc__.splitlines()[0], "the module does not say from what to what"
    assert cls.preserves in ("outputs", "accuracy", "nothing")
    if len({kind.format for kind in cls.accepts}) <= 1:  # else it needs what its parent's format needs
        assert cls.extra, "which extra brings its packages?"
        assert cls.tools, "whose versions enter its id?"
    assert set(tools(cls())) == set(cls.tools)


def test_its_extra_brings_its_packages(cls: type[Step]) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert cls.extra in extras or not cls.tools
    brought = {Requirement(line).name for line in extras.get(cls.extra, ())}
    assert set(cls.tools) - FOLLOW <= brought, "what it needs is not in its extra"


def test_its_kinds(cls: type[Step]) -> None:
    step = cls()
    for kind in (*step.accepts, step.produces):
        assert isinstance(kind, Kind)
        assert Kind.parse(str(kind)) == kind
        assert kind.format in registry.names("formats")
    name = step_name(step)
    if name.startswith("to_"):
        assert step.produces.stem == name.partition("_")[2]
    if name.startswith("import_"):
        assert step.produces.format == cls.format  # type: ignore[attr-defined]
    if name.startswith("to_"):
        assert cls.preserves == "outputs", "an exporter keeps the outputs"
    if step.accepts and step.produces.precision:
        assert cls.preserves == "accuracy", "a compressor keeps the accuracy"
        if {kind.format for kind in step.accepts} == {step.produces.format}:
            assert name == f"{step.produces.format}_{step.produces.precision}"
    if not step.accepts:
        assert cls.preserves == "nothing"


def test_its_fields_are_typed_and_default_to_what_they_allow(cls: type[Step]) -> None:
    hints = typing.get_type_hints(cls)
    table = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]
        default = field.default
        assert default is not dataclasses.MISSING, f"{field.name} has no default: `edgekit quantize` could not make it"
        assert convert(list(default) if isinstance(default, tuple) else default, hints[field.name]) == default
        table[field.name] = default
    made, problems = build(cls, table, "")
    assert not problems and made == cls()


def test_resolving_twice_changes_nothing_more(cls: type[Step]) -> None:
    for target in TARGETS:
        once = cls().resolve(target)
        assert type(once) is cls
        assert once.resolve(target) == once
        assert all(once.resolve(other) == once for other in TARGETS), "what was fixed for a target must stay"


def test_what_it_reads(cls: type[Step]) -> None:
    class Some:
        name = "some"
        models = ("cnn",)

    step = cls()
    for task in (None, Some()):
        for role, text in step.sets(task).items():  # type: ignore[arg-type]
            assert role.isidentifier() and isinstance(text, str) and text
            assert not text.endswith(":test"), "a step must not see test data"
        assert all(isinstance(problem, str) and problem for problem in step.check(task))  # type: ignore[arg-type]
    if not list(step.check(Some())):  # type: ignore[arg-type]
        assert all(path.is_file() for path in step.files())
    assert set(references(step)) <= {field.name for field in dataclasses.fields(step)}  # type: ignore[arg-type]
    calibrates = "calibration" in {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if calibrates:
        assert set(step.sets(Some()).values()) == {"some:train"}, "calibration samples come from training data"  # type: ignore[arg-type]
