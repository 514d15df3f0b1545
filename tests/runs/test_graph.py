"""Chains as one graph: what two chains share is made once, parents come first, cycles are named."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from edgekit.core import registry
from edgekit.core.artifact import Kind
from edgekit.core.errors import RecipeError
from edgekit.core.step import ArtifactRef, Step
from edgekit.core.target import Target
from edgekit.runs.graph import nodes
from edgekit.runs.recipe import Chain, Recipe

HOST = Target("host", "", "local", arch="x86_64")
BOARD = Target("board", "", "ssh", arch="aarch64")


@dataclass(frozen=True)
class Start(Step):
    produces = Kind("torch")

    seed: int = 0
    teacher: ArtifactRef = ""


@dataclass(frozen=True)
class Cut(Step):
    accepts = frozenset({Kind("torch")})
    produces = Kind("torch")


@dataclass(frozen=True)
class Export(Step):
    accepts = frozenset({Kind("torch")})
    produces = Kind("onnx")

    scheme: str = ""

    def resolve(self, target: Target) -> Export:
        return Export(target.isa_class)


@pytest.fixture(autouse=True)
def _steps(monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (Start, Cut, Export):
        monkeypatch.setitem(registry._added, ("steps", step.__name__.lower()), step)


def made(*chains: Chain, targets: tuple[Target, ...] = (HOST,)) -> list[tuple[str, dict[str, str]]]:
    return [(node.name, dict(node.parents)) for node in nodes(Recipe("t", chains), targets)]


def test_what_chains_share_is_made_once() -> None:
    assert made(Chain("", (Start(), Export())), Chain("", (Start(),))) == [("torch", {}), ("onnx", {"parent": "torch"})]


def test_what_comes_before_another_of_its_kind_is_called_after_its_step() -> None:
    names = [name for name, _ in made(Chain("small", (Start(), Cut(), Export())))]
    assert names == ["small.torch~start", "small.torch", "small.onnx"]


def test_other_instructions_make_another_artifact() -> None:
    chain = Chain("", (Start(), Export()))
    assert made(chain, targets=(HOST, BOARD)) == [
        ("torch", {}),
        ("onnx", {"parent": "torch"}),
        ("onnx@arm64", {"parent": "torch"}),
    ]
    assert len(made(chain, targets=(HOST, HOST))) == 2


def test_a_teacher_comes_before_its_student() -> None:
    found = made(Chain("", (Start(teacher="big.torch"),)), Chain("big", (Start(seed=1),)))
    assert found == [("big.torch", {}), ("torch", {"teacher": "big.torch"})]


@pytest.mark.parametrize(
    ("chains", "words"),
    [
        ((Chain("", (Start(),)), Chain("", (Start(seed=1),))), "two different artifacts would be called 'torch'"),
        ((Chain("", (Start(teacher="tourch"),)), Chain("b", (Start(seed=1),))), "neither an artifact nor a file"),
        (
            (Chain("a", (Start(teacher="b.torch"),)), Chain("b", (Start(teacher="a.torch"),))),
            "depend on each other: a.torch, b.torch",
        ),
    ],
)
def test_what_cannot_be_made(chains: tuple[Chain, ...], words: str) -> None:
    with pytest.raises(RecipeError) as caught:
        made(*chains)
    (problem,) = caught.value.problems
    assert words in problem.what
