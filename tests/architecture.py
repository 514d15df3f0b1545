"""The floor plan's rules, as functions over source code: each returns one line for every place that breaks it.

import-linter has the layers and the circles (pyproject.toml); here is what it does not know. Nothing is imported, only
parsed, so that the rules can be tried on sources written for the purpose.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from edgekit.core import registry

GALLERIES = ("devices", "formats", "models", "runtimes", "steps", "tasks")
#: third-party packages that every process of edgekit loads anyway
LIGHT = {"click"}
#: of the standard library, but slow: imported late, it keeps `edgekit --help` fast
SLOW_STANDARD = {"hashlib", "importlib.metadata"}
#: these run on a device, where imports are late so that a missing package can be named
ON_DEVICE = ("edgekit.ondevice", "edgekit.runtimes")
#: the package of the command line
COMMANDS = "edgekit.cli"
#: a verb that Python reserves
FUNCTIONS = {"import_": "import_model"}
#: commands with commands of their own: `targets add`
COMMAND_GROUPS = {"targets"}
#: commands about the command line itself
SHELL = {"completion"}
#: packages that core/ never loads
FRAMEWORKS = {"litert_torch", "onnx", "onnxruntime", "openvino", "torch"}
#: methods and functions that read or write files
INPUT_OUTPUT = {"open", "read_text", "write_text", "read_bytes", "write_bytes", "mkdir", "unlink", "rename", "rmtree"}
INPUT_OUTPUT |= {"touch", "rmdir", "symlink_to", "glob", "rglob", "iterdir", "stat", "exists", "is_file", "is_dir"}


@dataclass(frozen=True)
class Import:
    """One import: `import MODULE`, or `from MODULE import` each of `names`, which is then called as in `bound`."""

    module: str
    names: tuple[str, ...]
    bound: tuple[str, ...]
    line: int

    @property
    def of_edgekit(self) -> bool:
        return self.module.partition(".")[0] == "edgekit"


@dataclass(frozen=True)
class Module:
    """A parsed source file."""

    name: str
    path: str
    tree: ast.Module

    @property
    def is_package(self) -> bool:
        return self.path.endswith("/__init__.py")

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def package(self) -> str:
        return self.name if self.is_package else self.name.rpartition(".")[0]

    @cached_property
    def at_import(self) -> list[Import]:
        """What is loaded with the module; imports for type checkers alone are left out."""
        return list(_imports(_executed(self.tree.body)))

    @cached_property
    def in_functions(self) -> list[Import]:
        bodies = [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        return list(dict.fromkeys(each for body in bodies for each in _imports(ast.walk(body))))

    @cached_property
    def everywhere(self) -> list[Import]:
        return list(_imports(ast.walk(self.tree)))

    def functions(self) -> set[str]:
        """At the top level."""
        return {node.name for node in self.tree.body if isinstance(node, ast.FunctionDef)}

    def classes(self) -> set[str]:
        """At the top level."""
        return {node.name for node in self.tree.body if isinstance(node, ast.ClassDef)}


class Code:
    """All modules of `edgekit`, by their dotted names."""

    def __init__(self, sources: Mapping[str, str]) -> None:
        """`sources`: text by path, such as `edgekit/cli/run.py`."""
        self.modules: dict[str, Module] = {}
        for path, text in sorted(sources.items()):
            name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            self.modules[name] = Module(name, path, ast.parse(text))
        self._loaded: dict[str, set[str]] = {}

    @classmethod
    def read(cls, root: Path) -> Code:
        files = (root / "edgekit").rglob("*.py")
        return cls({str(file.relative_to(root)): file.read_text() for file in files})

    def targets(self, each: Import) -> list[str]:
        """The modules that an import loads last: `from package import module` loads the module."""
        inner = [f"{each.module}.{name}" for name in each.names]
        return [name if name in self.modules else each.module for name in inner] or [each.module]

    def third_party(self, name: str) -> set[str]:
        """The heavy packages that are in memory once module `name` is imported."""
        if name not in self._loaded:
            self._loaded[name] = heavy(each for module in self._closure(name) for each in module.at_import)
        return self._loaded[name]

    def _closure(self, start: str) -> list[Module]:
        """A module, the packages it lies in, and all of edgekit that these import."""
        seen: dict[str, Module] = {}
        waiting = [start]
        while waiting:
            name = waiting.pop()
            if name in seen or name not in self.modules:
                continue
            seen[name] = module = self.modules[name]
            waiting.append(name.rpartition(".")[0])
            waiting += [target for each in module.at_import for target in self.targets(each)]
        return list(seen.values())


def heavy(imports: Iterable[Import]) -> set[str]:
    """The third-party packages among these that are not always loaded."""
    tops = {each.module.partition(".")[0] for each in imports}
    return tops - LIGHT - set(sys.stdlib_module_names) - {"edgekit"}


def _imports(nodes: Iterable[ast.AST]) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, (), (alias.asname or alias.name,), node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = tuple(alias.name for alias in node.names)
            yield Import(node.module, names, tuple(alias.asname or alias.name for alias in node.names), node.lineno)


def _executed(body: Iterable[ast.stmt]) -> Iterator[ast.AST]:
    """The statements that run when a module is imported, class bodies included; TYPE_CHECKING is false."""
    for node in body:
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            yield from _executed(node.orelse)
            continue
        for field in ("body", "orelse", "finalbody"):
            yield from _executed(getattr(node, field, []))
        for handler in getattr(node, "handlers", []):
            yield from _executed(handler.body)


def verbs(code: Code) -> Iterator[str]:
    """A command `edgekit/cli/VERB.py` has a module or folder `edgekit/workflows/VERB` with the function VERB.

    A group of commands has a folder there, with a file and function for each that does more than print.
    """
    for module in code.modules.values():
        if module.package != COMMANDS or module.is_package or module.stem in SHELL:
            continue
        home = code.modules.get(f"edgekit.workflows.{module.stem}")
        if home is None:
            yield f"{module.path}: there is no edgekit/workflows/{module.stem}"
            continue
        files = [other for name, other in code.modules.items() if name.rpartition(".")[0] == home.name]
        wanted = FUNCTIONS.get(module.stem, module.stem)
        if module.stem in COMMAND_GROUPS:
            lacking = (file for file in files if file.stem not in file.functions())
            yield from (f"{file.path}: has no function {file.stem}" for file in lacking)
        elif not any(wanted in file.functions() for file in [home, *files]):
            yield f"{home.path}: has no function {wanted}"


def private(code: Code) -> Iterator[str]:
    """Nothing takes a private name out of another module, nor a private module out of another package."""
    for module in code.modules.values():
        modules: dict[str, str] = {}
        for each in filter(lambda each: each.of_edgekit, module.everywhere):
            for name, bound in zip(each.names, each.bound, strict=False):
                whole = f"{each.module}.{name}"
                if whole in code.modules:
                    modules[bound] = whole
                sibling = whole in code.modules and each.module == module.package
                if _private(name) and not sibling:
                    yield f"{module.path}:{each.line}: imports {name} of {each.module}"
            parts = each.module.split(".")
            for index, part in enumerate(parts):
                if _private(part) and ".".join(parts[:index]) != module.package:
                    yield f"{module.path}:{each.line}: imports of {each.module}"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and _private(node.attr):
                origin = modules.get(node.value.id, module.name)
                if origin != module.name:
                    yield f"{module.path}:{node.lineno}: uses {node.attr} of {origin}"


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def loose(code: Code) -> Iterator[str]:
    """Every module lies in a room."""
    for module in code.modules.values():
        if module.path.count("/") == 1 and Path(module.path).stem not in ("__init__", "__main__"):
            yield f"{module.path}: lies in no room"


def galleries(code: Code) -> Iterator[str]:
    """A folder of members holds members: a file each, with the class that the registry will look for."""
    for module in code.modules.values():
        room, *rest = module.name.split(".")[1:] or [""]
        if room not in GALLERIES or not rest or rest[0] == "shared":
            continue
        if len(rest) > 1 or module.is_package:
            yield f"{module.path}: only shared/ may be a folder here"
        elif _private(rest[0]):
            yield f"{module.path}: is no member, so it belongs to shared/"
        elif registry.class_name(rest[0]) not in module.classes():
            yield f"{module.path}: has no class {registry.class_name(rest[0])}"


def late_imports(code: Code) -> Iterator[str]:
    """An import inside a function saves loading a heavy package; one that saves nothing belongs to the top.

    The command line is left out, where each module counts: see `quick_help`.
    """
    for module in code.modules.values():
        if module.name.startswith((*ON_DEVICE, COMMANDS, "edgekit.__main__")):
            continue
        loaded = code.third_party(module.name)
        for each in module.in_functions:
            packages = set().union(*map(code.third_party, code.targets(each))) if each.of_edgekit else heavy([each])
            if not packages - loaded and each.module not in SLOW_STANDARD:
                yield f"{module.path}:{each.line}: the import of {each.module} saves nothing inside a function"


def quick_help(code: Code) -> Iterator[str]:
    """`edgekit --help` reads every command's file: these load cli and core alone, the rest when they are called."""
    for module in code.modules.values():
        if module.package != COMMANDS:
            continue
        for each in module.at_import:
            if each.of_edgekit and each.module != "edgekit" and not each.module.startswith((COMMANDS, "edgekit.core")):
                yield f"{module.path}:{each.line}: loads {each.module} for the help alone"


def core(code: Code, numeric: Iterable[str], files: Iterable[str]) -> Iterator[str]:
    """core/ loads no framework, numpy in the modules `numeric` alone, and opens files in `files` alone."""
    for module in code.modules.values():
        if module.package != "edgekit.core":
            continue
        for package in sorted(heavy(module.at_import)):
            if package in FRAMEWORKS or (package == "numpy" and module.stem not in numeric):
                yield f"{module.path}: loads {package}"
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and module.stem not in files:
                called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if called in INPUT_OUTPUT:
                    yield f"{module.path}:{node.lineno}: calls {called}"


def computes(module: Module) -> bool:
    """Has it a function that does something: more than a docstring, `...`, or saying that it is not implemented?"""
    functions = [node for node in ast.walk(module.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    nothing = (ast.Pass, ast.Raise)
    statements = (line for node in functions for line in node.body if not isinstance(line, nothing))
    return any(not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant)) for line in statements)


def untested(code: Code, tests: Iterable[str], through: Mapping[str, str]) -> Iterator[str]:
    """Every module that computes has a test file of its name in the same place, or is in `through`.

    `tests`: paths of the test files, from the tests' folder on. Commands are tested by behaviour, members of a gallery
    by its contract suite, `testing` is such suites itself, examples are programs to copy.
    """
    files = set(tests)
    needed = set()
    for module in code.modules.values():
        path = module.path.removeprefix("edgekit/").removesuffix(".py")
        room, _, rest = path.partition("/")
        if not rest or room in ("cli", "testing") or path.startswith("ondevice/examples/"):
            continue
        member = room in GALLERIES and "/" not in rest
        if member or not computes(module):
            continue
        folder, _, name = path.rpartition("/")
        own = f"{folder}/test_{Path(folder).name if name == '__init__' else name}.py"
        if own in files:
            if path in through:
                yield f"{module.path}: has a test file of its name, and need not be listed"
            continue
        entry = next((key for key in (path, f"{folder}/") if key in through), "")
        needed.add(entry)
        if not entry:
            yield f"{module.path}: there is no tests/{own}"
        elif through[entry] not in files:
            yield f"{module.path}: there is no tests/{through[entry]} either"
    yield from (f"{entry}: is listed, and no module needs it" for entry in sorted(through.keys() - needed))
