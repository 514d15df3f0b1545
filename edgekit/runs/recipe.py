"""Recipes: TOML → Recipe, with every problem found before any work.

A chain is valid if each step accepts the kind that the step before produces. `graph.nodes` merges the chains into one
graph: shared prefixes are made once, and a field that names an artifact adds a parent.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit import tasks
from edgekit.core import errors, paths, registry, relative_paths, user_code
from edgekit.core.config import build, parse, read_toml
from edgekit.core.errors import InputError, Problem, RecipeError
from edgekit.core.registry import step_name
from edgekit.core.step import Step
from edgekit.core.target import Plan
from edgekit.core.task import Task

STARTER = "mnist"

#: characters of a chain's name, which is a part of file names
LONGEST_NAME = 60


@dataclass(frozen=True)
class Gates:
    """Limits that set the exit code: the accuracy drop in percentage points against the float root, SQNR in dB against
    the parent, the KL divergence of compressed models in nats (0: only where there are no labels). With `strict` an
    undecided budget fails, too.
    """

    max_drop_pp: float = 0.5
    min_sqnr_db: float = 60.0
    strict: bool = False
    max_kl: float = 0.0


@dataclass(frozen=True)
class Chain:
    name: str
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Recipe:
    task: str
    chains: tuple[Chain, ...]
    seed: int = 0
    targets: tuple[str, ...] = ("host",)
    plan: Plan = field(default_factory=Plan)
    gates: Gates = field(default_factory=Gates)


def find(name: str) -> Path:
    """A recipe's file: a path, or the name of a shipped recipe. Raises InputError."""
    if name.endswith(".toml") or "/" in name:
        return Path(name)
    path = paths.find("recipes", name)
    if path is None:
        hint = errors.suggest(name, paths.names("recipes"))
        raise InputError(f"there is no recipe {name!r}", next=f"{hint}; or give the path of a .toml file")
    return path


def load(name: str, sets: Sequence[str] = (), overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read, override (`sets` are "step.field=value") and check. Raises RecipeError with every problem, InputError."""
    path = find(name)
    table = read_toml(path)
    user_code.typed(sets, overrides)
    if not paths.is_of_folder(path) or path == Path(name):  # trusting a folder allows no code
        user_code.typed(table)
    problems = _apply_sets(table, sets)
    recipe, more = check({**table, **(overrides or {})})
    if recipe is None or problems:
        raise RecipeError(str(path), [*problems, *more])
    return recipe


def check(table: Mapping[str, Any]) -> tuple[Recipe | None, list[Problem]]:
    """The recipe in `table`, or None and every problem with it."""
    step_names = registry.names("steps")
    known = ("task", "seed", "targets", "chain", "plan", "gates", *step_names)
    problems = [
        Problem("recipe", f"unknown key {key!r}", errors.suggest(key, known)) for key in table if key not in known
    ]
    head = {key: table[key] for key in ("task", "seed", "targets") if key in table}
    header, more = build(_Head, head, "")
    problems += more
    task = _task(header.task, problems) if header else None
    plan, more = build(Plan, _table(table, "plan", problems), "plan")
    problems += more
    gates, more = build(Gates, _table(table, "gates", problems), "gates")
    problems += more
    if header:
        problems += [
            Problem("targets", f"there is no target {name!r}", errors.suggest(name, paths.names("targets")))
            for name in header.targets
            if paths.find("targets", name) is None
        ]
    for name in step_names:
        _table(table, name, problems)
    chains = list(_chains(table, header.seed if header else 0, task, problems))
    if problems or header is None or plan is None or gates is None:
        return None, problems
    return Recipe(header.task, tuple(chains), header.seed, header.targets, plan, gates), []


def to_table(recipe: Recipe) -> dict[str, Any]:
    """The resolved recipe, with every field of every step. `check` reads it back as the same recipe."""
    return {
        "task": recipe.task,
        "seed": recipe.seed,
        "targets": list(recipe.targets),
        "chain": [
            {"name": c.name, "steps": [{"step": step_name(s), **_plain(dataclasses.asdict(s))} for s in c.steps]}  # type: ignore[call-overload]
            for c in recipe.chains
        ],
        "plan": dataclasses.asdict(recipe.plan),
        "gates": dataclasses.asdict(recipe.gates),
    }


@dataclass(frozen=True)
class _Head:
    task: str
    seed: int = 0
    targets: tuple[str, ...] = ("host",)

    def problems(self) -> Iterator[str]:
        if not self.targets:
            yield "targets must name at least one target"


def _apply_sets(table: dict[str, Any], sets: Sequence[str]) -> list[Problem]:
    """Write each "step.field=value" into `table`; "plan.threads=2" and "seed=1" work, too."""
    problems = []
    for text in sets:
        path, separator, value = text.partition("=")
        section, _, name = path.strip().rpartition(".")
        if not separator or not path.strip():
            problems.append(Problem("--set", f"{text!r} is not step.field=value", "for example train.epochs=3"))
            continue
        fields = table.setdefault(section, {}) if section else table
        if not isinstance(fields, dict):
            problems.append(Problem("--set", f"{section!r} is not a table of the recipe"))
            continue
        try:
            fields[name] = parse(value.strip(), _hint(section, name))
        except TypeError as error:
            problems.append(Problem("--set", f"{path}: {error}"))
        for chain in table.get("chain", []):
            for step in chain.get("steps", []) if isinstance(chain, dict) else []:
                if isinstance(step, dict) and step.get("step") == section:
                    step.pop(name, None)
    return problems


def _hint(section: str, name: str) -> Any:
    classes = {"plan": Plan, "gates": Gates, "": _Head}
    if section in registry.names("steps"):
        classes[section] = registry.load("steps", section)
    return typing.get_type_hints(classes[section]).get(name, Any) if section in classes else Any


def _table(table: Mapping[str, Any], name: str, problems: list[Problem]) -> Mapping[str, Any]:
    value = table.get(name, {})
    if isinstance(value, dict):
        return value
    problems.append(Problem(name, f"must be a table [{name}], not {value!r}"))
    return {}


def _task(name: str, problems: list[Problem]) -> Task | None:
    try:
        return tasks.load(name)
    except InputError as error:
        problems.append(Problem("task", error.what, error.next))
        return None


def _chains(table: Mapping[str, Any], seed: int, task: Task | None, problems: list[Problem]) -> Iterator[Chain]:
    chains = table.get("chain", [])
    if not isinstance(chains, list) or not all(isinstance(chain, dict) for chain in chains):
        problems.append(Problem("chain", "must be written as [[chain]] tables"))
        return
    if not chains:
        problems.append(Problem("recipe", "there is no [[chain]]", 'add one: [[chain]] steps = ["train", "to_onnx"]'))
    for index, chain in enumerate(chains, 1):
        where = f"chain {chain.get('name') or index}"
        problems += [
            Problem(where, f"unknown key {key!r}", errors.suggest(key, ("name", "steps")))
            for key in chain
            if key not in ("name", "steps")
        ]
        name, entries = chain.get("name", ""), chain.get("steps", [])
        is_plain = isinstance(name, str) and not (name and relative_paths.problem(name)) and len(name) <= LONGEST_NAME
        if not is_plain or any(c in name for c in "./@~\\") or name.startswith("-"):
            what = f"the name {name!r:.80} must not contain . / @ ~ \\ or start with -, and must be short"
            problems.append(Problem(where, what, "use letters and digits"))
            continue
        if not isinstance(entries, list) or not entries:
            problems.append(Problem(where, "steps must be a non-empty list of steps"))
            continue
        steps = [_step(entry, table, seed, task, f"{where}, step {i}", problems) for i, entry in enumerate(entries, 1)]
        problems += _neighbours(where, steps)
        yield Chain(name, tuple(step for step in steps if step is not None))


def _step(
    entry: Any, table: Mapping[str, Any], seed: int, task: Task | None, where: str, problems: list[Problem]
) -> Step | None:
    """One entry of a chain: a step's name, or {step = name, field = value …}, which overrides the [name] table."""
    entry = {"step": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not isinstance(entry.get("step"), str):
        problems.append(Problem(where, f'must be a name or {{step = "name", …}}, not {entry!r}'))
        return None
    try:
        cls = registry.load("steps", entry["step"])
    except InputError as error:
        problems.append(Problem(where, error.what, error.next))
        return None
    shared = table.get(entry["step"], {})
    values = {**(shared if isinstance(shared, dict) else {}), **{k: v for k, v in entry.items() if k != "step"}}
    if "seed" in {f.name for f in dataclasses.fields(cls)}:
        values.setdefault("seed", seed)
    step, step_problems = build(cls, values, f"{where} ({entry['step']})")
    if step is not None:
        step_problems = [Problem(f"{where} ({entry['step']})", text) for text in step.check(task)]
    problems += step_problems
    return step


def _neighbours(where: str, steps: Sequence[Step | None]) -> Iterator[Problem]:
    before: Step | None = None
    for index, step in enumerate(steps):
        if step is not None:
            name, accepts = step_name(step), ", ".join(sorted(map(str, step.accepts)))
            if index == 0 and step.accepts:
                yield Problem(where, f"the first step, {name}, needs {accepts}", "start with train or an import")
            elif index and not step.accepts:
                yield Problem(where, f"{name} must be the first step of a chain, not step {index + 1}")
            elif before is not None and before.produces not in step.accepts:
                what = f"{name} accepts {accepts}, but {step_name(before)} before it produces {before.produces}"
                yield Problem(where, what)
        before = step


def _plain(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Field values that TOML can represent; it has no None, which is the default of a field that may be None."""
    given = {name: value for name, value in fields.items() if value is not None}
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
