"""The same tensors in two models of one format: a float model, and what was made of it.

A format names the module that knows how (`Format.pairs`): its `pair` opens both models so that one run of each gives
every float tensor that both still have.
Integers come back as the numbers they stand for. The kernels are those that will run in earnest, as far as they can be
looked into without changing them.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgekit.core import registry
from edgekit.core.errors import InputError

#: input name → array of one sample
Feed = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Node:
    """An operator of the float model, with those after it that a quantizer takes for a part of it (a Conv's Relu).

    `name` is that of the first, as the format's reader gives it; `type` those of all, joined by plus signs. `reads` and
    `writes` are names of tensors that depend on the model's inputs.
    """

    name: str
    type: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class Pair:
    """`nodes` in graph order; `run` gives (tensor, what the float model has there, what the other has)."""

    nodes: tuple[Node, ...]
    run: Callable[[Feed], Iterator[tuple[str, NDArray[Any], NDArray[Any]]]]


def pair(format: str, path: Path, other: Path) -> Pair:
    """Both models, opened. Raises InputError for a format that does not support it."""
    module = registry.load("formats", format).pairs
    if not module:
        raise InputError(f"{format} models cannot be compared tensor by tensor", "no runtime shows theirs")
    found: Pair = importlib.import_module(module).pair(path, other)
    return found


def grouped(nodes: Iterable[Node], follows: Callable[[Node, Node], bool], outputs: Iterable[str]) -> tuple[Node, ...]:
    """Each node joined to the one before it where it `follows` that, alone reads what it writes, and reads no more.

    What is between the two is then not compared: to look at it would undo the fusion that the runtime makes of them.
    """
    nodes, kept = list(nodes), set(outputs)
    readers = Counter(name for node in nodes for name in set(node.reads))
    made: list[Node] = []
    place: dict[str, int] = {}
    for node in nodes:
        (before, *more) = node.reads or ("",)
        at = place.get(before)
        if at is not None and not more and readers[before] == 1 and before not in kept and follows(made[at], node):
            joined = made[at]
            if joined.writes == (before,):
                made[at] = Node(joined.name, f"{joined.type}+{node.type}", joined.reads, node.writes)
                place |= dict.fromkeys(node.writes, at)
                continue
        place |= dict.fromkeys(node.writes, len(made))
        made.append(node)
    return tuple(made)
