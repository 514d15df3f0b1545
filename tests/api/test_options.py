"""The types of the arguments: those of the steps' own settings, and refused at a call as by a type checker."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgekit
from edgekit.api import options
from edgekit.core import registry
from edgekit.core.errors import InputError
from edgekit.workflows.quantize.attempts import METHODS

#: parameters of the functions that are fields of the step, too, or set by edgekit
EXPLICIT = {"train": {"model", "epochs", "init", "teacher"}, "prune": {"ratio", "macs", "parameters", "speedup"}}
EXPLICIT["prune"] |= {"target", "teacher"}


def as_list(hint: Any) -> Any:
    return Sequence[typing.get_args(hint)[0]] if typing.get_origin(hint) is tuple else hint


@pytest.mark.parametrize(("step", "table"), [("train", options.TrainOptions), ("prune", options.PruneOptions)])
def test_the_settings_are_those_of_the_step(step: str, table: type) -> None:
    cls = registry.load("steps", step)
    hints = typing.get_type_hints(cls)
    fields = {field.name: as_list(hints[field.name]) for field in dataclasses.fields(cls)}
    assert typing.get_type_hints(table) == {k: v for k, v in fields.items() if k not in EXPLICIT[step]}


def test_the_choices_are_those_that_exist() -> None:
    assert typing.get_args(options.Method) == METHODS
    assert set(typing.get_args(options.Format)) == set(registry.names("formats")) - {"ranges"}
    steps = registry.names("steps")
    assert {f"onnx_{precision}" for precision in typing.get_args(options.Precision)} <= set(steps)
    fields = {f.name for s in steps if s.startswith("to_") for f in dataclasses.fields(registry.load("steps", s))}
    assert fields - {"calibration", "sizes"} == set(typing.get_type_hints(options.ExportOptions))


@pytest.mark.parametrize("name", ["export", "quantize", "prune", "bench", "deploy"])
def test_the_methods_take_what_the_functions_take(name: str) -> None:
    hints, _ = options._hints(inspect.unwrap(getattr(edgekit, name)))
    table = typing.get_type_hints(getattr(options, f"{name.title()}Arguments"))
    assert table == {key: hints[key] for key in table}
    first = set(inspect.signature(getattr(edgekit.Model, name)).parameters) | {"model", "models", "example", "out"}
    assert set(hints) - set(table) <= first


class Network:
    """What a torch module has."""

    training = False

    def state_dict(self) -> None: ...


@pytest.mark.parametrize(
    ("call", "said", "next"),
    [
        (lambda: edgekit.train("mnist", epochs="3"), "epochs must be an integer, not '3'", ""),  # type: ignore[arg-type]
        (lambda: edgekit.train("mnist", lr=float("nan")), "lr must be a number, not nan", ""),
        (lambda: edgekit.train("mnist", optimizer="adamv"), "optimizer must be one of 'sgd', ", "adamw"),  # type: ignore[arg-type]
        (lambda: edgekit.train("mnist", batch_size=3), r"train\(\) has no parameter 'batch_size'", "batch"),  # type: ignore[call-arg]
        (lambda: edgekit.train("mnist", model=lambda x: x), "model must be text, not a function", ""),  # type: ignore[arg-type]
        (lambda: edgekit.quantize("a", "int4"), "precision must be one of", "int8"),  # type: ignore[call-overload]
        (lambda: edgekit.quantize("a", methods="minmax"), "methods must be one of", "min-max"),  # type: ignore[call-overload]
        (lambda: edgekit.quantize("a", effort="slow"), "effort must be one of", ""),  # type: ignore[call-overload]
        (lambda: edgekit.quantize("a", max_drop="0.5"), "max_drop must be a number or None, not '0.5'", ""),  # type: ignore[call-overload]
        (lambda: edgekit.export("a", "onx"), "to must be one of 'torch', 'onnx'", "onnx"),  # type: ignore[call-overload]
        (lambda: edgekit.export("a", opset="x"), "opset must be an integer", ""),  # type: ignore[call-overload]
        (lambda: edgekit.bench("a", threads="2"), "threads must be an integer or a list", ""),  # type: ignore[arg-type]
        (lambda: edgekit.bench("a", quick=1), "quick must be True or False, not 1", ""),  # type: ignore[arg-type]
        (lambda: edgekit.bench("a", quick=True, thorough=True), "exclude each other", "leave one out"),
        (lambda: edgekit.bench([]), "there are no models", "pass a Model"),
        (lambda: edgekit.bench(3), "int is no model", "pass a path"),  # type: ignore[arg-type]
        (lambda: edgekit.compare(3), "int is no model", "pass a path"),  # type: ignore[arg-type]
        (lambda: edgekit.gate(3, "a", "p50>+5%"), "int is no model", "pass a path"),  # type: ignore[arg-type]
        (lambda: edgekit.optimize("a", trials=0), "trials must be at least 1", ""),
        (lambda: edgekit.optimize("a", trials=True), "trials must be an integer, not True", ""),
        (lambda: edgekit.import_model(None), "there is no model", ""),  # type: ignore[arg-type]
        (lambda: edgekit.inspect("a", shape={"x": 5}), "shape must be a mapping of name → a list", ""),  # type: ignore[dict-item]
        (lambda: edgekit.inspect("a", shape={"x": "1x3"}), "not {'x': '1x3'}", ""),  # type: ignore[dict-item]
        (lambda: edgekit.inspect("a", shape={"x": (0, 3)}), r"shape must be positive integers, not \(0, 3\)", ""),
        (lambda: edgekit.inspect(Network()), "model must be text or a path", "import_model"),  # type: ignore[arg-type]
        (lambda: edgekit.quantize("a", max_drop=10**400), "max_drop must be a number or None, not 1000", ""),
        (lambda: edgekit.quantize("a", max_drop=10**5000), "max_drop must be a number or None, not an int", ""),
        (lambda: edgekit.run("mnist", out=3), "out must be text or a path or None, not 3", ""),  # type: ignore[arg-type]
    ],
)
def test_what_is_refused(call: Any, said: str, next: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        call()
    assert next in caught.value.next and "--" not in f"{caught.value} {caught.value.next}"


def test_numbers_and_lists_become_pythons_own() -> None:
    def function(a: int, b: float, c: Sequence[float] = (), d: str | Path = "") -> None: ...

    values = {"a": np.int64(3), "b": 1, "c": [np.float32(0.5), 2], "d": Path("x")}
    found = options.checked(function, [], values)
    assert options.checked(function, [], {"a": 10**400}) == {"a": 10**400}
    assert found == {"a": 3, "b": 1.0, "c": (0.5, 2.0), "d": Path("x")}
    assert [type(value) for value in found.values()][:3] == [int, float, tuple]
