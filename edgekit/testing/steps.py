"""What every step owes: typed fields, kinds that parse, a stable identity, and help in its docstring."""

from __future__ import annotations

import dataclasses
import pickle
import sys
import typing
from importlib.metadata import requires
from pathlib import Path
from typing import Any, ClassVar

import pytest
from packaging.requirements import Requirement

from edgekit.core import extension_points, registry
from edgekit.core.artifact import Kind
from edgekit.core.config import build, convert
from edgekit.core.errors import CannotConvert
from edgekit.core.registry import step_name
from edgekit.core.step import Step, references
from edgekit.core.target import Target
from edgekit.core.task import Task
from edgekit.measure import targets
from edgekit.runs.store import Store, tools
from edgekit.testing.members import Contract
from edgekit.testing.network import Make, context


class SomeTask(Task):
    name = "some"
    models = ("cnn",)


class StepContract(Contract):
    """`follow`: packages that come with another of the same extra."""

    follow: ClassVar[frozenset[str]] = frozenset()

    @pytest.fixture
    def cls(self, name: str) -> type[Step]:
        step: type[Step] = registry.load("steps", name)
        return step

    def test_it_offers_what_it_must(self, name: str, cls: type[Step]) -> None:
        assert extension_points.problems("steps", name, cls) == []

    def test_it_is_a_frozen_record(self, name: str, cls: type[Step]) -> None:
        assert issubclass(cls, Step) and dataclasses.is_dataclass(cls)
        step: Any = cls()
        assert step_name(step) == name
        assert hash(step) == hash(cls()) and step == cls()
        assert pickle.loads(pickle.dumps(step)) == step  # noqa: S301 - its own
        for field in dataclasses.fields(step):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(step, field.name, None)

    def test_it_says_what_it_is(self, cls: type[Step]) -> None:
        assert cls.__doc__ and not cls.__doc__.startswith(f"{cls.__name__}("), "no docstring of its own"
        module = sys.modules[cls.__module__]
        assert module.__doc__ and "→" in module.__doc__.splitlines()[0], "the module does not say from what to what"
        assert cls.preserves in ("outputs", "accuracy", "nothing")
        if len({kind.format for kind in cls.accepts}) <= 1:  # else it needs what its parent's format needs
            assert cls.extra, "which extra brings its packages?"
            assert cls.tools, "whose versions enter its id?"
        assert set(tools(cls())) == set(cls.tools)

    def test_its_extra_brings_its_packages(self, name: str, cls: type[Step]) -> None:
        """Its extra is one of the distribution that the step came with."""
        distribution = registry.distribution("steps", name)
        required = [Requirement(line) for line in requires(distribution) or ()]
        marked = f'extra == "{cls.extra}"'
        brought = {r.name for r in required if r.marker is None or marked in str(r.marker)}
        assert any(marked in str(r.marker) for r in required) or not cls.tools, f"{distribution} has no such extra"
        assert set(cls.tools) - self.follow <= brought, "what it needs is not in its extra"

    def test_its_kinds(self, name: str, cls: type[Step]) -> None:
        step = cls()
        for kind in (*step.accepts, step.produces):
            assert isinstance(kind, Kind)
            assert Kind.parse(str(kind)) == kind
            assert kind.format in registry.names("formats")
        if name.startswith("to_"):
            assert step.produces.stem == name.partition("_")[2]
            assert cls.preserves == "outputs", "an exporter keeps the outputs"
        if name.startswith("import_"):
            assert step.produces.format == cls.format  # type: ignore[attr-defined]
        if step.accepts and step.produces.precision:
            assert cls.preserves == "accuracy", "a compressor keeps the accuracy"
            if {kind.format for kind in step.accepts} == {step.produces.format}:
                assert name == f"{step.produces.format}_{step.produces.precision}"
        if not step.accepts:
            assert cls.preserves == "nothing"

    def test_its_fields_are_typed_and_default_to_what_they_allow(self, cls: type[Step]) -> None:
        hints = typing.get_type_hints(cls)
        table = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            default = field.default
            assert default is not dataclasses.MISSING, (
                f"{field.name} has no default: `edgekit quantize` could not make it"
            )
            assert convert(list(default) if isinstance(default, tuple) else default, hints[field.name]) == default
            table[field.name] = default
        step, problems = build(cls, table, "")
        assert not problems and step == cls()

    def test_resolving_twice_changes_nothing_more(self, cls: type[Step]) -> None:
        others = [
            targets.load("host"),
            Target("vnni", "", "ssh", arch="x86_64", isa=("avx512_vnni",)),
            Target("old", "", "ssh", arch="x86_64"),
            Target("pi", "", "ssh", arch="aarch64"),
            Target("other", "", "ssh", arch="riscv64"),
        ]
        for target in others:
            once = cls().resolve(target)
            assert type(once) is cls
            assert all(once.resolve(other) == once for other in others), "what was fixed for a target must stay"

    def test_what_it_reads(self, cls: type[Step]) -> None:
        step = cls()
        for task in (None, SomeTask()):
            for role, text in step.sets(task).items():
                assert role.isidentifier() and isinstance(text, str) and text
                assert not text.endswith(":test"), "a step must not see test data"
            assert all(isinstance(problem, str) and problem for problem in step.check(task))
        assert set(references(step)) <= {field.name for field in dataclasses.fields(step)}  # type: ignore[arg-type]
        calibrates = "calibration" in {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if calibrates:
            assert set(step.sets(SomeTask()).values()) == {"some:train"}, "calibration samples come from training data"


class ExporterContract(Contract):
    """Every exporter from torch: an operator that it cannot convert is named, with its module and line."""

    def test_an_operator_without_a_way_is_named(self, name: str, tmp_path: Path) -> None:
        store = Store(tmp_path / "run")
        with store.lock():
            parent = store.make("torch", Make("Unknown"), {}, context())
            with pytest.raises(CannotConvert) as caught:
                store.make("made", registry.load("steps", name)(), {"parent": parent}, context())
        said = str(caught.value)
        assert "bessel_j0" in said and "module 'inner'" in said and "network.py, line" in said
        assert "\n" not in said
        assert store.names() == ("torch",), "nothing half-made is left"
