"""Steps: which fields name an artifact, and what a step does by itself."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekit.core.artifact import Kind
from edgekit.core.progress import quiet
from edgekit.core.step import ArtifactRef, Context, Step, references
from edgekit.core.target import Target


@dataclass(frozen=True)
class Example(Step):
    produces = Kind("onnx")

    teacher: ArtifactRef = ""
    ranges: ArtifactRef = ""
    name: str = ""
    epochs: int = 1


def test_fields_that_name_an_artifact() -> None:
    assert references(Example()) == ("teacher", "ranges")


def test_what_a_step_does_by_itself(tmp_path: Path) -> None:
    step, context = Example(), Context(None, {}, quiet, logging.getLogger())
    assert list(step.check(None)) == [] and step.sets(None) == {}
    assert step.resolve(Target("t", "", "local")) is step
    with pytest.raises(NotImplementedError):
        step.apply({}, tmp_path, context)


def test_progress_that_shows_nothing() -> None:
    assert list(quiet(iter("abc"), "letters", 3)) == ["a", "b", "c"]
