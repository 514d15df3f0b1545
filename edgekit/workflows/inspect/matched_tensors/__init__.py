"""The tensors that two models of one format have in common: a float model, and a model made from it.

A format names the module that does this (`Format.matched_tensors`): its `match` opens both models so that one run of
each gives every float tensor that both have. Integers are dequantized. As far as the runtime allows, its kernels are
those of normal inference.
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
    """An operator of the float model, with the operators after it that a quantizer fuses into it (a Conv's Relu).

    `name` is that of the first, as the format's reader gives it; `type` joins the types of all by plus signs. `reads`
    and `writes` are names of tensors that depend on the model's inputs.
    """

    name: str
    type: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]


@dataclass(frozen=True)
class MatchedTensors:
    """`nodes` in graph order; `run` yields (tensor, its values in the float model, its values in the other)."""

    nodes: tuple[Node, ...]
    run: Callable[[Feed], Iterator[tuple[str, NDArray[Any], NDArray[Any]]]]


def match(format: str, path: Path, other: Path) -> MatchedTensors:
    """Open both models. Raises InputError for a format that does not support it."""
    module = registry.load("formats", format).matched_tensors
    if not module:
        raise InputError(f"{format} models cannot be compared tensor by tensor", "no runtime exposes them")
    matched: MatchedTensors = importlib.import_module(module).match(path, other)
    return matched


def nodes(format: str, path: Path) -> tuple[Node, ...]:
    """The graph of a model, which is read and not opened in a runtime. Raises InputError for a format without one."""
    module = registry.load("formats", format).matched_tensors
    if not module:
        raise InputError(f"the graph of {format} models cannot be read", "no runtime exposes its tensors")
    found: tuple[Node, ...] = importlib.import_module(module).nodes(path)
    return found


def grouped(nodes: Iterable[Node], follows: Callable[[Node, Node], bool], outputs: Iterable[str]) -> tuple[Node, ...]:
    """Join each node to the one before it if it `follows` that, is the only reader of its output, and reads no more.

    The tensor between the two is then not compared: reading it would undo the runtime's fusion of them.
    """
    nodes, graph_outputs = list(nodes), set(outputs)
    readers = Counter(name for node in nodes for name in set(node.reads))
    groups: list[Node] = []
    group_of: dict[str, int] = {}
    for node in nodes:
        (before, *more) = node.reads or ("",)
        at = group_of.get(before)
        only_reader = not more and readers[before] == 1 and before not in graph_outputs
        if at is not None and only_reader and follows(groups[at], node):
            joined = groups[at]
            if joined.writes == (before,):
                groups[at] = Node(joined.name, f"{joined.type}+{node.type}", joined.reads, node.writes)
                group_of |= dict.fromkeys(node.writes, at)
                continue
        group_of |= dict.fromkeys(node.writes, len(groups))
        groups.append(node)
    return tuple(groups)
