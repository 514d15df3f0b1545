"""The hash of the code that a step, a network or a task really uses, found without running any of it.

From a class on, every name in its code is followed to what it means in edgekit, or in the class' own package, and on
from there. So the hash changes with a helper's logic, and not with a comment, a docstring, or a function that nothing
here calls. Further than names go:

- what a module does when it is imported (entering functions into a table) counts for all who import it;
- a class that is named in an annotation only counts with those methods whose names are used;
- a module imported by a computed name may be any module of its package, `registry.load(group, name)` any member of the
  group that fits. Networks and tasks are left out: a step names them in fields (`NetworkRef`, `TaskRef`);
- where the code asks for a field of the step first (`if self.teacher:`), what follows counts only where it is set;
- of the user's own files whole modules count.
"""

from __future__ import annotations

import ast
import dataclasses
import fnmatch
import gc
import hashlib
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgekit.core import registry, user_code
from edgekit.core.code_scopes import Binding, Member, Package, Target
from edgekit.core.errors import InputError, os_errors
from edgekit.core.parsed_code import Code, Module, read

EDGEKIT = __name__.partition(".")[0]
#: edgekit's own folder lies in it
_HOME = Path(__file__).parents[2]
#: groups whose members a step names in its fields
NAMED_BY_FIELDS = ("models", "tasks")

Fields = frozenset[str]
#: package → modules of it
Modules = Mapping[str, frozenset[str]]

_known: dict[Any, tuple[Closure, tuple[tuple[Path, int, int], ...]]] = {}


def of_class(cls: type, unset: Fields = frozenset(), only: Modules | None = None) -> str:
    """Hash of the code behind a class. `unset`: its fields that are empty, 0 or False.

    `only`: package → the modules of it that a computed import can mean here.
    """
    return closure(cls, unset, only).digest


def of_methods(cls: type, methods: frozenset[str]) -> str:
    """Hash of the code behind some methods, what they call of their class included."""
    where, symbol = cls.__module__, cls.__qualname__.partition(".")[0]
    return _remembered((where, symbol, methods), lambda: _methods_closure(where, symbol, methods)).digest


def of_member(group: str, name: str) -> str:
    """Hash of the code behind a member's name, or a reference to the user's own code (whole files).

    Raises InputError where there is no such member, or its source is nowhere.
    """
    where, _, symbol = registry.reference(group, name).rpartition(":")
    key = (str(Path(where).resolve()) if where.endswith(".py") else where, symbol)
    return _remembered(key, lambda: _closure(where, symbol, whole=registry.is_own(group, name))).digest


def closure(cls: type, unset: Fields = frozenset(), only: Modules | None = None) -> Closure:
    """All that `of_class` hashes."""
    where, symbol = cls.__module__, cls.__qualname__.partition(".")[0]
    own = frozenset((base.__module__, base.__qualname__) for base in cls.__mro__)
    fields = {one.name for one in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    constants = {
        name: value
        for base in reversed(cls.__mro__)
        for name, value in vars(base).items()
        if isinstance(value, str) and name not in fields
    }
    key = (where, symbol, unset, own, tuple(sorted((only or {}).items())))
    return _remembered(key, lambda: _closure(where, symbol, unset, own, constants, only or {}))


def _remembered(key: Any, make: Callable[[], Closure]) -> Closure:
    """Taken from the files again only where one of them has changed."""
    if key in _known:
        known, stamps = _known[key]
        if all(_stamp(path) == (path, *stamp) for path, *stamp in stamps):
            return known
    collects = gc.isenabled()
    gc.disable()  # trees are large, and hold no circles
    try:
        known = make()
    finally:
        if collects:
            gc.enable()
    _known[key] = known, tuple(_stamp(path) for path in known.paths())
    return known


def _stamp(path: Path) -> tuple[Path, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return path, 0, 0
    return path, stat.st_mtime_ns, stat.st_size


def _closure(
    where: str,
    symbol: str,
    unset: frozenset[str] = frozenset(),
    own: frozenset[tuple[str, str]] = frozenset(),
    constants: Mapping[str, str] | None = None,
    only: Mapping[str, frozenset[str]] | None = None,
    whole: bool = False,
) -> Closure:
    files, module = _files(where)
    reached = Closure(files, whole or files.loose, unset, own, constants or {}, only or {})
    reached.start(module, symbol)
    return reached


def _methods_closure(where: str, symbol: str, methods: frozenset[str]) -> Closure:
    files, module = _files(where)
    reached = Closure(files, files.loose, attributes=set(methods))
    reached.start(module, symbol, type_only=True)
    return reached


@dataclass(frozen=True)
class Files:
    """Where modules are looked for: edgekit's, and those in `folder`: of the package `top`, "" for any there.

    `loose`: the code is no package's, but a file of the user's own.
    """

    folder: Path | None = None
    top: str = ""
    loose: bool = False

    def module(self, name: str) -> Module | None:
        """The module of a dotted name, empty for a folder without `__init__.py`; None for what is elsewhere."""
        top = name.partition(".")[0]
        if name == __name__:  # it says what made a file, and makes none
            return None
        if top == EDGEKIT:
            folder = _HOME
        elif self.folder is not None and top and self.top in ("", top):
            folder = self.folder
        else:
            return None
        place = folder.joinpath(*name.split("."))
        for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
            if path.is_file():
                with os_errors("read", path):
                    return _parsed(name, path)
        return Module(name, None) if place.is_dir() else None


def _parsed(name: str, path: Path) -> Module:
    try:
        return read(name, path)
    except SyntaxError as error:
        why = f"SyntaxError: {error.msg} ({path.name}, line {error.lineno})"
        raise InputError(f"cannot read {path}", why, "fix it; running it with python shows more") from error


def _files(where: str) -> tuple[Files, str]:
    """Where to look from a module's name or a file on, and the name it has there. Raises InputError."""
    if where.partition(".")[0] == EDGEKIT:
        return Files(), where
    path, parts = _path(where), where.split(".")
    if where.endswith(".py") or parts[-1] not in (path.stem, path.parent.name):
        package = user_code.package_of(path) if where.endswith(".py") else ""
        parts = (
            package.split(".") if package else [path.stem]
        )  # a file that was loaded by its path has a name of its own
    folder = path.parents[len(parts) - (path.name != "__init__.py")]
    installed = folder in {Path(place).resolve() for place in sysconfig.get_paths().values()}
    return Files(folder, parts[0] if installed else "", not installed and len(parts) == 1), ".".join(parts)


def _path(where: str) -> Path:
    if where.endswith(".py"):
        if not Path(where).is_file():
            raise InputError(f"there is no file {where}", f"looked for it in {Path.cwd()}", "check the path")
        return Path(where).resolve()
    file = getattr(sys.modules.get(where), "__file__", None)
    if file is None:
        spec = user_code.find_module(where)
        file = spec.origin if spec else None
    if file is None or not file.endswith(".py"):
        why = "it is in no file of Python"
        raise InputError(f"the source of {where} cannot be found", why, "write it to a file, and import it from there")
    return Path(file).resolve()


@dataclass
class Closure:
    """What was reached: `parts` is (module, symbol, method) → digests, `copied` modules count byte for byte.

    `unknown`: places that import a module by a name that says not even its package.
    """

    files: Files
    whole: bool = False
    unset: frozenset[str] = frozenset()
    own: frozenset[tuple[str, str]] = frozenset()
    constants: Mapping[str, str] = field(default_factory=dict)
    only: Mapping[str, frozenset[str]] = field(default_factory=dict)
    parts: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)
    attributes: set[str] = field(default_factory=set)
    of_task: set[str] = field(default_factory=set)
    copied: set[str] = field(default_factory=set)
    unknown: set[tuple[str, str]] = field(default_factory=set)
    _modules: dict[str, Module | None] = field(default_factory=dict)
    _imported: set[str] = field(default_factory=set)
    _reached: set[tuple[str, str, bool]] = field(default_factory=set)
    _waiting: dict[str, list[tuple[Module, str, str]]] = field(default_factory=dict)
    _todo: list[tuple[Module, str, str]] = field(default_factory=list)

    def start(self, module: str, symbol: str, type_only: bool = False) -> None:
        """Reach everything from one class or function on. Raises InputError where it is not there."""
        first = self.module(module)
        if first is None:
            raise InputError(f"the source of {module} cannot be found", "it is in no file of Python")
        if symbol in first.symbols and not self.whole:
            self._reach_symbol(first, symbol, type_only)
        else:
            self._reach_module(first)
        while self._todo:
            self._include(*self._todo.pop())

    def module(self, name: str) -> Module | None:
        """As it was when it was first looked at."""
        if name not in self._modules:
            self._modules[name] = self.files.module(name)
        return self._modules[name]

    @property
    def reads_task(self) -> bool:
        """Does the code look at a `task`, as a step does at that of its context?"""
        return "task" in self.attributes

    @property
    def modules(self) -> set[str]:
        return {module for module, _, _ in self.parts} | self.copied

    @property
    def digest(self) -> str:
        lines = [f"{'/'.join(key)} {digest}" for key, digests in sorted(self.parts.items()) for digest in digests]
        for name in sorted(self.copied):
            module = self.module(name)
            assert module is not None and module.path is not None
            lines.append(f"{name} {hashlib.sha256(module.path.read_bytes()).hexdigest()}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def paths(self) -> list[Path]:
        """Every file that was looked at."""
        modules = (self.module(name) for name in {*self._imported, *self.modules})
        return [module.path for module in modules if module is not None and module.path is not None]

    def _include(self, module: Module, symbol: str, part: str) -> None:
        """Enter one function, method or statement, and what it uses."""
        key = (module.name, symbol, part)
        if key in self.parts:
            return
        codes = [module.code(s) for s in module.effects] if not symbol else module.parts(symbol)[part]
        self.parts[key] = [code.digest for code in codes]
        for code in codes:
            self._follow(module, symbol, code)

    def _follow(self, module: Module, symbol: str, code: Code) -> None:
        unset = self.unset - code.replaced if (module.name, symbol) in self.own else frozenset()
        self.of_task |= code.of_task
        for attribute in code.attributes - self.attributes:
            self.attributes.add(attribute)
            self._todo += self._waiting.pop(attribute, [])
        for use in (*code.uses, *code.imports):
            if use.when & unset:
                continue
            if use in code.imports:
                assert isinstance(use.target, Target)
                self._import(use.target.module)
            else:
                self._reach(module, symbol, use.target, use.type_only)

    def _reach(self, module: Module, symbol: str, target: Binding, type_only: bool) -> None:
        if isinstance(target, Target):
            self._reach_target(target, type_only)
        elif isinstance(target, Package):
            self._reach_package(module, symbol, target)
        elif isinstance(target, Member):
            if "*" in target.group:
                self.unknown.add((module.name, symbol))
            else:
                self._reach_members(target)

    def _reach_target(self, target: Target, type_only: bool = False) -> None:
        """Walk from a module along names: its own definitions, what it imports, then the modules in it."""
        module, names = self.module(target.module), list(target.names)
        while module is not None:
            self._import(module.name)
            if not names:
                if not type_only:
                    self._reach_module(module)
                return
            name = names.pop(0)
            binding = module.names.get(name)
            if name in module.symbols:
                self._reach_symbol(module, name, type_only)
                return
            if isinstance(binding, Target) and binding != Target(module.name, (name,)):
                self._reach_target(binding.then(tuple(names)), type_only)
                return
            inner = self.module(f"{module.name}.{name}")
            if inner is None and name == "__file__":
                self.copied.add(module.name)
                return
            if inner is None and not type_only and not name.startswith("__"):
                self._reach_module(module)  # it has this name by means that are not seen here
            module = inner

    def _reach_module(self, module: Module) -> None:
        self._import(module.name)
        for symbol in module.symbols:
            self._enter(module, symbol, type_only=False)

    def _reach_symbol(self, module: Module, symbol: str, type_only: bool) -> None:
        if self.whole and module.name.partition(".")[0] != EDGEKIT:
            self._reach_module(module)
        else:
            self._import(module.name)
            self._enter(module, symbol, type_only)

    def _enter(self, module: Module, symbol: str, type_only: bool) -> None:
        if (module.name, symbol, type_only) in self._reached or (module.name, symbol, False) in self._reached:
            return
        self._reached.add((module.name, symbol, type_only))
        if not module.is_type(symbol):
            if not type_only:
                self._todo.append((module, symbol, ""))
            elif not isinstance(module.symbols[symbol][0], ast.FunctionDef | ast.AsyncFunctionDef):
                for use in (use for code in module.parts(symbol)[""] for use in code.uses):
                    self._reach(module, symbol, use.target, type_only=True)
            return
        for base in module.bases(symbol):
            self._reach(module, symbol, base.target, type_only)
        for part in module.parts(symbol):
            if not type_only or part in self.attributes or not part or part.startswith("__"):
                self._todo.append((module, symbol, part))
            else:
                self._waiting.setdefault(part, []).append((module, symbol, part))

    def _reach_package(self, module: Module, symbol: str, target: Package) -> None:
        """Any module of the package: those of its definitions that are used, or all."""
        package = target.package.replace("__name__", module.name)
        if package.startswith("="):
            self._reach_target(Target(package[1:], target.names))
            return
        if not package or package == EDGEKIT:
            self.unknown.add((module.name, symbol))
            return
        for name in self._inside(package):
            inner = self.module(f"{package}.{name}")
            if inner is None or (package in self.only and name not in self.only[package]):
                continue
            if not target.names:
                self._reach_module(inner)
            elif target.names[0] in inner.symbols or target.names[0] in inner.names:
                self._reach_target(Target(inner.name, target.names[:1]))

    def _inside(self, package: str) -> Iterable[str]:
        outer = self.module(package)
        if outer is None or outer.path is None:
            return ()
        folder = outer.path.parent
        packages = {path.parent.name for path in folder.glob("*/__init__.py")}
        return sorted(packages | {path.stem for path in folder.glob("*.py")} - {"__init__"})

    def _reach_members(self, target: Member) -> None:
        """Every shipped member of the group whose name fits; a constant name may be a third party's."""
        pattern = target.pattern
        if pattern.startswith("self."):
            pattern = self.constants.get(pattern.removeprefix("self."), "*")
        if target.group in NAMED_BY_FIELDS:
            return
        names = registry.names(target.group) if "*" not in pattern else registry.shipped(target.group)
        for name in fnmatch.filter(names, pattern):
            where, _, symbol = registry.reference(target.group, name).rpartition(":")
            self._reach_target(Target(where, (symbol,)), type_only=bool(target.names))

    def _import(self, name: str) -> None:
        """What a module, the packages around it, and all that these import do when they are imported."""
        waiting = [name]
        while waiting:
            name = waiting.pop()
            module = None if name in self._imported else self.module(name)
            if module is None:
                continue
            self._imported.add(name)
            waiting += [name.rpartition(".")[0], *module.imports]
            if module.effects:
                self._todo.append((module, "", ""))
            if self.whole and name.partition(".")[0] != EDGEKIT:
                self._reach_module(module)
