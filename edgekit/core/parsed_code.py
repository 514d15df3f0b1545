"""Python files read as syntax trees: what each definition says, and which other definitions it uses. Nothing is run.

A definition's text leaves out what makes no file: comments, formatting, docstrings, annotations of functions, what a
`raise` says, and log messages. The text is the same on every version of Python.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from edgekit.core.code_scopes import Binding, Member, Package, Target, bind_dynamic, bound_names, given

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SCOPES = (*FUNCTIONS, ast.Lambda)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
LEVELS = ("debug", "info", "warning", "error", "exception")
#: decorators that enter a function into no table
HARMLESS = ("functools.", "contextlib.", "dataclasses.", "typing.", "abc.", "enum.", "torch.no_grad", "torch.inference")
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


#: a module that a member names to have it imported when it is needed (`Format.observer`), on the floors below the steps
MODULE = re.compile(r"edgekit\.(?!workflows|cli|testing)\w+(\.\w+)+")


@dataclass(frozen=True)
class Use:
    """Something that a definition refers to: names from a module on, or all that a dynamic import may give.

    `type_only`: it is an annotation. `when`: the fields of a step without which that line is not reached.
    """

    target: Target | Package | Member
    type_only: bool = False
    when: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Code:
    """One function, method, class without its methods, or statement. `imports`: modules that it imports when run."""

    digest: str
    uses: tuple[Use, ...]
    attributes: frozenset[str]
    imports: tuple[Use, ...]
    #: what is used of a task: of `ctx.task`, or of what is called or annotated so
    of_task: frozenset[str]
    #: keywords of `replace(self, …)`: fields that the code itself may give another value
    replaced: frozenset[str]


@dataclass
class Module:
    """A file. `symbols`: name → the statements that define it; `effects`: those that do something when imported."""

    name: str
    path: Path | None
    symbols: dict[str, list[ast.stmt]] = field(default_factory=dict)
    names: dict[str, Binding] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)
    imports: list[str] = field(default_factory=list)
    #: a name of its own may be bound by `:=` in a function too; it looks things up by computed names
    walrus: bool = False
    looks_up: bool = False
    _codes: dict[int, Code] = field(default_factory=dict)

    @property
    def package(self) -> str:
        is_package = self.path is None or self.path.name == "__init__.py"
        return self.name if is_package else self.name.rpartition(".")[0]

    def parts(self, symbol: str) -> dict[str, list[Code]]:
        """Method → its code; what else defines the symbol is under ""."""
        codes: dict[str, list[Code]] = {"": []}
        for statement in self.symbols[symbol]:
            codes[""].append(self.code(statement))
            if isinstance(statement, ast.ClassDef):
                for method in statement.body:
                    if isinstance(method, FUNCTIONS):
                        codes.setdefault(method.name, []).append(self.code(method, statement))
        return codes

    def bases(self, symbol: str) -> list[Use]:
        """The base classes of a class."""
        classes = [s for s in self.symbols[symbol] if isinstance(s, ast.ClassDef)]
        reader = _Reader(self)
        for cls in classes:
            for base in (*cls.bases, *(keyword.value for keyword in cls.keywords)):
                reader.visit(base)
        return list(reader.uses)

    def is_type(self, symbol: str) -> bool:
        return any(isinstance(statement, ast.ClassDef) for statement in self.symbols[symbol])

    def code(self, statement: ast.stmt, owner: ast.ClassDef | None = None) -> Code:
        if id(statement) not in self._codes:
            self._codes[id(statement)] = _Reader(self).code(statement, owner)
        return self._codes[id(statement)]


def read(name: str, path: Path) -> Module:
    """The module of that dotted name, parsed again only where the file has changed. Raises SyntaxError, OSError."""
    stat = path.stat()
    return _read(name, path, stat.st_mtime_ns, stat.st_size)


@lru_cache(maxsize=2048)
def _read(name: str, path: Path, modified: int, size: int) -> Module:
    module, source = Module(name, path), path.read_bytes()
    _collect(module, ast.parse(source).body, runs=True)
    assigned = {name.decode() for name in re.findall(rb"(\w+)\s*:=", source)}
    module.walrus = not assigned.isdisjoint({*module.symbols, *module.names})
    module.looks_up = any(word in source for word in (b"import_module", b"registry", b"__import__"))
    return module


def _collect(module: Module, statements: Iterable[ast.stmt], runs: bool) -> None:
    """Enter what the statements of a module's own level define and do; not `runs`: for type checkers only."""
    for statement in statements:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            bindings = bound_names([statement], module.package)
            module.names.update(bindings)
            if runs:
                module.imports += imported(statement, module.package)
        elif isinstance(statement, ast.If) and _is_type_checking(statement.test):
            _collect(module, statement.body, runs=False)
            _collect(module, statement.orelse, runs)
        elif isinstance(statement, Definition):
            module.symbols.setdefault(statement.name, []).append(statement)
            if any(not _is_harmless(decorator, module) for decorator in statement.decorator_list):
                module.effects.append(statement)
        elif not _says_nothing(statement) and not _is_main(statement):
            _collect_statement(module, statement)


def _collect_statement(module: Module, statement: ast.stmt) -> None:
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    assigns = isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign)
    bindings = bound_names([statement], module.package)
    for name, binding in bindings.items():
        if isinstance(binding, Target):
            module.names[name] = binding
        elif name != "__all__":
            module.symbols.setdefault(name, []).append(statement)
    plain = all(isinstance(node, ast.Name | ast.Tuple) for node in targets)
    if not (assigns and plain) or "_" in bindings:
        module.effects.append(statement)
    for inner in ast.walk(statement):
        if isinstance(inner, ast.Import | ast.ImportFrom):
            module.imports += imported(inner, module.package)


def imported(statement: ast.Import | ast.ImportFrom, package: str) -> list[str]:
    """The modules that a statement may run; a name that is taken from one may be a module itself."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    bindings = bound_names([statement], package).values()
    targets = [binding for binding in bindings if isinstance(binding, Target)]
    return [*{t.module for t in targets}, *(".".join((t.module, *t.names)) for t in targets)]


def text(node: Any, in_class: bool = False) -> str:
    """The syntax tree in words that every version of Python gives alike."""
    if isinstance(node, list):
        kept = [one for one in node if not (isinstance(one, ast.stmt) and _says_nothing(one))]
        return f"[{','.join(text(one, in_class) for one in kept)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    if isinstance(node, ast.Raise):
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return f"Raise({text(raised)})"
    if isinstance(node, ast.JoinedStr):
        return f"JoinedStr({''.join(_joined(node))})"
    if isinstance(node, ast.AnnAssign) and not in_class:  # as without the annotation
        return f"(Assign targets=[{text(node.target)}] value={text(node.value)})"
    inside, kind = isinstance(node, ast.ClassDef), type(node)
    parts = [kind.__name__]
    for name in kind._fields:
        if name in _SKIPPED or (name == "annotation" and kind is ast.arg):
            continue
        value = getattr(node, name, None)
        if isinstance(value, ast.AST):
            parts.append(f"{name}={text(value)}")
        elif isinstance(value, list):
            parts += [f"{name}={text(value, inside)}"] if value else []
        elif value is not None:
            parts.append(f"{name}={value!r}")
    return f"({' '.join(parts)})"


#: fields that say nothing, or that not every version of Python has
_SKIPPED = frozenset(("ctx", "kind", "type_comment", "type_ignores", "returns", "type_params"))


def _joined(node: ast.JoinedStr) -> Iterator[str]:
    """Parts of an f-string; versions differ in how they cut up the plain ones."""
    plain = ""
    for value in node.values:
        if isinstance(value, ast.Constant):
            plain += str(value.value)
            continue
        yield f"{plain!r}{text(value)}"
        plain = ""
    yield repr(plain)


def _says_nothing(statement: ast.stmt) -> bool:
    """Docstrings and other constants, `pass`, log messages, annotations without a value in functions."""
    if isinstance(statement, ast.Pass):
        return True
    if not isinstance(statement, ast.Expr):
        return False
    value = statement.value
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute) and value.func.attr in LEVELS:
        owner = value.func.value
        return (owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")) in ("log", "logger")
    return isinstance(value, ast.Constant)


def _is_type_checking(test: ast.expr) -> bool:
    return (test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")) == "TYPE_CHECKING"


def _is_main(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and any(
        isinstance(node, ast.Name) and node.id == "__name__" for node in ast.walk(statement.test)
    )


def _is_harmless(decorator: ast.expr, module: Module) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    names = chain(called)
    if names is None:
        return False
    binding = module.names.get(names[0])
    if isinstance(binding, Target):
        return ".".join((binding.module, *binding.names, *names[1:])).startswith(HARMLESS)
    return names[0] not in module.symbols  # a built-in one: property, staticmethod


def _names_task(annotation: ast.expr) -> bool:
    return any(isinstance(node, ast.Name) and node.id == "Task" for node in ast.walk(annotation))


def chain(node: ast.expr) -> tuple[str, ...] | None:
    """("a", "b", "c") of `a.b.c`; None where it begins with anything but a name."""
    names: list[str] = []
    while isinstance(node, ast.Attribute):
        names.append(node.attr)
        node = node.value
    return (node.id, *reversed(names)) if isinstance(node, ast.Name) else None


class _Reader:
    """Collects what one definition uses."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.uses: dict[Use, None] = {}
        self.attributes: set[str] = set()
        self.imports: dict[Use, None] = {}
        self.of_task: set[str] = set()
        self.replaced: set[str] = set()
        #: classes that values are tested for: none of their code runs thereby
        self.tested: set[Binding] = set()
        self._tasks = {"task"}
        self._scopes: list[Mapping[str, Binding]] = []
        self._when: frozenset[str] = frozenset()
        self._self = ""

    def code(self, statement: ast.stmt, owner: ast.ClassDef | None) -> Code:
        if isinstance(statement, ast.ClassDef):
            rest = [one for one in statement.body if not isinstance(one, FUNCTIONS)]
            for one in (*statement.decorator_list, *statement.bases, *statement.keywords, *rest):
                self.visit(one)
            said = text([*statement.decorator_list, *statement.bases, *statement.keywords]) + text(rest, in_class=True)
        else:
            if owner is not None and isinstance(statement, FUNCTIONS) and statement.args.args:
                self._self = statement.args.args[0].arg
            self.visit(statement)
            said = text(statement)
        used = sorted({f"{use.target}" for use in self.uses if not use.type_only} | {f"{one}" for one in self.tested})
        digest = hashlib.sha256("\n".join([said, *used]).encode("utf-8", "surrogatepass")).hexdigest()
        frozen = (
            frozenset(self.attributes),
            tuple(self.imports),
            frozenset(self.of_task),
            frozenset(self.replaced),
        )
        return Code(digest, tuple(self.uses), *frozen)

    def visit(self, node: ast.AST) -> None:
        value = node.value if self._scopes and isinstance(node, ast.Assign | ast.AnnAssign) else None
        if value is not None and given(value, self.resolve) is not None:
            self._children(value)  # what is used of it is seen where the variable is
            return
        if isinstance(node, SCOPES):
            self._function(node)
        elif isinstance(node, COMPREHENSIONS):
            self._comprehension(node)
        elif isinstance(node, ast.Name | ast.Attribute):
            self._name(node)
        elif isinstance(node, ast.Call):
            self._call(node)
        elif isinstance(node, ast.If | ast.IfExp):
            self._branch(node)
        elif isinstance(node, ast.AnnAssign):
            self._annotation(node.annotation)
            for part in (node.target, node.value):
                if part is not None:
                    self.visit(part)
        elif isinstance(node, ast.ExceptHandler):
            if node.type is not None:
                self._test(node.type)
            self._block(node.body)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            for name in imported(node, self.module.package):
                self.imports[Use(Target(name, ()), when=self._when)] = None
        elif isinstance(node, ast.Constant):
            if isinstance(node.value, str) and MODULE.fullmatch(node.value):
                self._use(Target(node.value, ()))
        elif not isinstance(node, ast.Raise) and not (isinstance(node, ast.stmt) and _says_nothing(node)):
            self._children(node)

    def _children(self, node: ast.AST) -> None:
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.AST):
                self.visit(value)
            elif isinstance(value, list) and value and isinstance(value[0], ast.stmt):
                self._block(value)
            elif isinstance(value, list):
                for one in value:
                    if isinstance(one, ast.AST):
                        self.visit(one)

    def _block(self, statements: list[ast.stmt]) -> None:
        """After `if not self.field: return` the rest needs that field."""
        before = self._when
        for statement in statements:
            self.visit(statement)
            if isinstance(statement, ast.If) and isinstance(statement.body[-1], ast.Return | ast.Raise):
                self._when |= self._needed(ast.UnaryOp(ast.Not(), statement.test))
        self._when = before

    def _branch(self, node: ast.If | ast.IfExp) -> None:
        self.visit(node.test)
        before = self._when
        sides = ((node.test, node.body), (ast.UnaryOp(ast.Not(), node.test), node.orelse))
        for test, body in sides:
            self._when = before | self._needed(test)
            if isinstance(body, list):
                self._block(body)
            else:
                self.visit(body)
        self._when = before

    def _needed(self, test: ast.expr) -> frozenset[str]:
        """The fields of `self` that must be true where `test` is."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            inner = test.operand
            if isinstance(inner, ast.UnaryOp) and isinstance(inner.op, ast.Not):
                return self._needed(inner.operand)
            return frozenset()
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
            return frozenset().union(*map(self._needed, test.values))
        names = chain(test)
        of_self = bool(self._self) and names is not None and names[0] == self._self and len(names) == 2
        return frozenset(names[1:]) if of_self and names else frozenset()

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> None:
        arguments = node.args
        every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        for value in (*getattr(node, "decorator_list", ()), *arguments.defaults, *arguments.kw_defaults):
            if value is not None:
                self.visit(value)
        tasks = {one.arg for one in every if one and one.annotation and _names_task(one.annotation)}
        before, self._tasks = self._tasks, self._tasks | tasks
        for annotation in (*(one.annotation for one in every if one), getattr(node, "returns", None)):
            if annotation is not None:
                self._annotation(annotation)
        body = [node.body] if isinstance(node, ast.Lambda) else node.body
        scope = {} if isinstance(node, ast.Lambda) else bound_names(body, self.module.package, self.module.walrus)
        scope.update({one.arg: None for one in every if one})
        self._scopes.append(scope)
        if self.module.looks_up:
            bind_dynamic(body, scope, self.resolve)
        if isinstance(node, ast.Lambda):
            self.visit(node.body)
        else:
            self._block(node.body)
        self._scopes.pop()
        self._tasks = before

    def _comprehension(self, node: Any) -> None:
        scope: dict[str, Binding] = {}
        for part in node.generators:
            scope.update({one.id: None for one in ast.walk(part.target) if isinstance(one, ast.Name)})
        self.visit(node.generators[0].iter)  # it is computed outside
        self._scopes.append(scope)
        self._children(node)
        self._scopes.pop()

    def resolve(self, names: tuple[str, ...]) -> Binding:
        """What a chain of names refers to; None for what is local or built in."""
        for scope in reversed(self._scopes):
            if names[0] in scope:
                binding = scope[names[0]]
                return binding and binding.then(names[1:])
        if names[0] in self.module.symbols:
            return Target(self.module.name, names)
        binding = self.module.names.get(names[0])
        return binding and binding.then(names[1:])

    def _use(self, target: Binding, type_only: bool = False) -> None:
        if target is not None:
            self.uses[Use(target, type_only, self._when)] = None

    def _name(self, node: ast.expr) -> None:
        names = chain(node)
        if names is not None:
            self.attributes.update(names[1:])
            self.of_task |= {b for a, b in pairwise(names) if a in self._tasks}
            self._use(self.resolve(names))
            return
        attributes: list[str] = []
        while isinstance(node, ast.Attribute):
            attributes.append(node.attr)
            node = node.value
        self.attributes.update(attributes)
        looked_up = given(node, self.resolve)
        if looked_up is not None:
            self._use(looked_up.then(tuple(reversed(attributes))))
            self._children(node)
        else:
            self.visit(node)

    def _call(self, node: ast.Call) -> None:
        self._use(given(node, self.resolve))
        names = chain(node.func) or ()
        if names in (("isinstance",), ("issubclass",)) and len(node.args) == 2:
            self.visit(node.args[0])
            self._test(node.args[1])
            return
        first = node.args[0] if node.args else None
        if self._self and names[-1:] == ("replace",) and isinstance(first, ast.Name) and first.id == self._self:
            self.replaced |= {keyword.arg or "" for keyword in node.keywords}
        if names == ("getattr",) and len(node.args) > 1 and isinstance(node.args[1], ast.Constant):
            self.attributes.add(str(node.args[1].value))
            if any(getattr(one, "id", getattr(one, "attr", "")) in self._tasks for one in ast.walk(node.args[0])):
                self.of_task.add(str(node.args[1].value))
        self._children(node)

    def _test(self, classes: ast.expr) -> None:
        """Of `isinstance` and `except`."""
        if chain(classes) is None:
            for child in ast.iter_child_nodes(classes):
                if isinstance(child, ast.expr):
                    self._test(child)
        else:
            self.tested.add(self.resolve(chain(classes) or ()))

    def _annotation(self, node: ast.expr) -> None:
        """Its classes are used, if only those of their methods that are called by name."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                self._annotation(ast.parse(node.value, mode="eval").body)
            except SyntaxError:
                return
        elif isinstance(node, ast.Name | ast.Attribute):
            names = chain(node)
            if names is not None:
                self._use(self.resolve(names), type_only=True)
        elif isinstance(node, ast.Subscript) and (chain(node.value) or ("",))[-1] == "Literal":
            return
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.expr):
                    self._annotation(child)
