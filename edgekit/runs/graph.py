"""A recipe's chains as one graph of artifacts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit.core import errors
from edgekit.core.errors import Problem, RecipeError
from edgekit.core.registry import step_name
from edgekit.core.step import Step, references
from edgekit.core.target import Target
from edgekit.runs.recipe import Chain, Recipe


@dataclass(frozen=True)
class Node:
    """One artifact to make: its name, the resolved step, role → name of its parent node (or stored artifact)."""

    name: str
    step: Step
    parents: Mapping[str, str]


def nodes(recipe: Recipe, targets: Sequence[Target]) -> tuple[Node, ...]:
    """Every artifact of the recipe, parents before children.

    Raises RecipeError: duplicate names, cycles, a missing parent.
    """
    name_of: dict[tuple[Step, ...], str] = {}
    nodes: dict[str, Node] = {}
    problems: list[Problem] = []
    for index, target in enumerate(targets):
        for chain in recipe.chains:
            steps = tuple(step.resolve(target) for step in chain.steps)
            for depth, step in enumerate(steps):
                key = steps[: depth + 1]
                if key in name_of:
                    continue
                name = _name(chain, depth) + (f"@{target.isa_class}" if index else "")
                if name in nodes:
                    what = f"two different artifacts would be called {name!r}"
                    problems.append(Problem(f"chain {chain.name!r}", what, "give one of the chains another name"))
                    continue
                name_of[key] = name
                parents = {"parent": name_of[key[:-1]]} if depth and key[:-1] in name_of else {}
                nodes[name] = Node(name, step, parents)
    known = tuple(nodes)
    for node in list(nodes.values()):
        references = dict(_references(node, known, problems))
        nodes[node.name] = dataclasses.replace(node, parents={**node.parents, **references})
    ordered = _sort(nodes, problems)
    if problems:
        raise RecipeError("the recipe", problems)
    return ordered


def _name(chain: Chain, depth: int) -> str:
    stem = chain.steps[depth].produces.stem
    later = any(step.produces.stem == stem for step in chain.steps[depth + 1 :])
    plain = f"{chain.name}.{stem}" if chain.name else stem
    return f"{plain}~{step_name(chain.steps[depth])}" if later else plain


def _references(node: Node, known: tuple[str, ...], problems: list[Problem]) -> Iterator[tuple[str, str]]:
    for role in references(node.step):
        value = getattr(node.step, role)
        if value in known:
            yield role, value
        elif value and not value.startswith("timm:") and not Path(value).exists():
            hint = errors.suggest(value, known)
            problems.append(Problem(node.name, f"{role} = {value!r} is neither an artifact nor a file", hint))


def _sort(nodes: Mapping[str, Node], problems: list[Problem]) -> tuple[Node, ...]:
    """Parents before children, otherwise in the recipe's order (Kahn's algorithm); cycles become problems."""
    ordered: dict[str, Node] = {}
    remaining = dict(nodes)
    while remaining:
        ready = [n for n in remaining.values() if all(p in ordered or p not in nodes for p in n.parents.values())]
        if not ready:
            cycle = ", ".join(sorted(remaining))
            problems.append(Problem("recipe", f"these artifacts depend on each other: {cycle}"))
            break
        ordered[ready[0].name] = remaining.pop(ready[0].name)
    return tuple(ordered.values())
