"""Which names a piece of code binds, and to what; modules and members that are looked up by a computed name."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Target:
    """Names from a module on: Target("edgekit.core.files", ("sha256",)); no names: the module itself."""

    module: str
    names: tuple[str, ...] = ()

    def then(self, names: tuple[str, ...]) -> Target:
        return Target(self.module, (*self.names, *names)) if names else self


@dataclass(frozen=True)
class Package:
    """Any module of a package, imported by a computed name; `names` is what is used of it. "" where not even the
    package is known.
    """

    package: str
    names: tuple[str, ...] = ()

    def then(self, names: tuple[str, ...]) -> Package:
        return Package(self.package, (*self.names, *names))


@dataclass(frozen=True)
class Member:
    """`registry.load(group, name)`: `pattern` is the name with * for what is computed, "self.x" for a field.

    `names`: what is used of the class; none: it is called, or passed on.
    """

    group: str
    pattern: str
    names: tuple[str, ...] = ()

    def then(self, names: tuple[str, ...]) -> Member:
        return Member(self.group, self.pattern, (*self.names, *names))


#: what a name is bound to: something of a module, or a value that is computed (None)
Binding = Target | Package | Member | None
Resolve = Callable[[tuple[str, ...]], Binding]


def bound_names(statements: Iterable[ast.AST], package: str, deep: bool = True) -> dict[str, Binding]:
    """Every name that the statements bind in their own scope; imports win over what else binds the same name.

    `deep`: expressions are searched too, for `:=`.
    """
    names: dict[str, Binding] = {}
    imports: dict[str, Binding] = {}
    others: set[str] = set()
    for node in own(statements, deep):
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                names[node.id] = None
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] = None
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar):
            names.update({node.name: None} if node.name else {})
        elif isinstance(node, ast.MatchMapping):
            names.update({node.rest: None} if node.rest else {})
        elif isinstance(node, ast.Global | ast.Nonlocal):
            others.update(node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.asname or alias.name.partition(".")[0]
                imports[name] = Target(alias.name if alias.asname else name)
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(node, package)
            imports.update({alias.asname or alias.name: Target(origin, (alias.name,)) for alias in node.names})
    return {name: binding for name, binding in {**names, **imports}.items() if name not in others}


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")
    base = parts[: len(parts) - node.level + 1]
    return ".".join([*base, *([node.module] if node.module else [])])


#: fields of statements that can bind nothing, `:=` left out
_READ_ONLY = frozenset(("value", "test", "iter", "decorator_list", "cause", "exc", "context_expr", "guard"))


def own(nodes: Iterable[Any], deep: bool) -> Iterator[ast.AST]:
    """The nodes of this scope: not the insides of functions and classes; of comprehensions only what they bind here."""
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, COMPREHENSIONS):
            waiting += [inner.target for inner in ast.walk(node) if isinstance(inner, ast.NamedExpr)]
            continue
        yield node
        if isinstance(node, NESTED):
            continue
        for name in node._fields:
            if not deep and name in _READ_ONLY and not isinstance(node, ast.Starred):
                continue
            value = getattr(node, name, None)
            if isinstance(value, list):
                waiting += [one for one in value if isinstance(one, ast.AST)]
            elif isinstance(value, ast.AST):
                waiting.append(value)


def given(node: Any, resolve: Resolve) -> Package | Member | None:
    """What a call gives, where it imports a module or loads a member; else None."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    names: list[str] = []
    function: Any = node.func
    while isinstance(function, ast.Attribute):
        names.append(function.attr)
        function = function.value
    if not isinstance(function, ast.Name):
        return None
    target = resolve((function.id, *reversed(names)))
    if function.id == "__import__" and target is None:
        return Package(_package(node.args[0]))
    if not isinstance(target, Target):
        return None
    whole = ".".join((target.module, *target.names))
    if whole == "importlib.import_module":
        return Package(_package(node.args[0]))
    if whole == "edgekit.core.registry.load" and len(node.args) > 1:
        return Member(_pattern(node.args[0]), _pattern(node.args[1]))
    return None


def bind_dynamic(statements: Iterable[ast.AST], scope: dict[str, Binding], resolve: Resolve) -> None:
    """Enter the variables that hold such a result, so that what is used of them is known."""
    for node in own(statements, deep=False):
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        binding_given = given(value, resolve)
        if binding_given is not None and isinstance(target, ast.Name):
            scope[target.id] = binding_given


def _package(node: ast.expr) -> str:
    """The package in `f"edgekit.networks.{name}"` and `f"{__name__}.{name}"`; "" where it is not said."""
    if isinstance(node, ast.Constant):
        return f"={node.value!s}"
    if not isinstance(node, ast.JoinedStr):
        return ""
    start = ""
    for value in node.values:
        if isinstance(value, ast.Constant):
            start += str(value.value)
        elif (
            isinstance(value, ast.FormattedValue)
            and isinstance(value.value, ast.Name)
            and value.value.id
            in (
                "__name__",
                "__package__",
            )
        ):
            start += "__name__"
        else:
            break
    return start.rpartition(".")[0]


def _pattern(node: ast.expr) -> str:
    """The string, with * for what is computed."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(v.value) if isinstance(v, ast.Constant) else "*" for v in node.values)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
        return f"self.{node.attr}"
    return "*"
