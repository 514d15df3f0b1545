"""A program of torch.export in a .pt2 archive, from elsewhere: checked whole before torch is allowed to load it.

torch.export.load unpickles, evaluates expressions and compiles names that stand in the archive, so each of them is
looked at first (torch 2.13, `torch/export/pt2_archive` and `torch/_export/serde`):

- payloads that torch would unpickle must load with `weights_only=True`; custom objects and compiled code are refused;
- expressions of sizes, which sympy would evaluate, may hold numbers, symbols and calls of sympy's own functions;
- operators must be torch's, or Python's arithmetic; names, which become Python source, must be plain;
- guards, which are Python source, are never compiled.
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import EdgekitError, InputError, os_errors

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from edgekit.networks.interface import Positional

FILE = "model.pt2"
#: what an archive may hold; anything else (custom objects, compiled code, a second program) is refused
RECORDS = re.compile(
    r"archive_format|archive_version|byteorder|\.format_version|\.storage_alignment|\.data/\w+|extra/[\w./-]+"
    r"|models/model\.json|data/weights/(weight_\d+|model_weights_config\.json|model\.pt)"
    r"|data/constants/(tensor_\d+|model_constants_config\.json|model\.pt)|data/sample_inputs/model\.pt"
)
GRAPH = "models/model.json"
CONFIGS = {
    "weights": "data/weights/model_weights_config.json",
    "constants": "data/constants/model_constants_config.json",
}
PICKLED = ("data/sample_inputs/model.pt", "data/weights/model.pt", "data/constants/model.pt")
PLAIN = re.compile(r"[\w.:+<>\[\]-]*")
OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|quantized|quantized_decomposed|torchvision|torchaudio)\.(?!from_file)"
    r"\w+(\.\w+)?|_operator\.[a-z]\w*|math\.[a-z]\w*|torch\.sym_\w+"
)
#: what stands in expressions as sympy prints them, with torch's additions
FUNCTIONS = frozenset(
    "Symbol Integer Float Rational Add Mul Pow Max Min Mod Abs floor ceiling Piecewise ExprCondPair And Or Not "
    "Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan FloorDiv ModularIndexing Where "
    "PythonMod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural FloatPow FloatTrueDiv IntTrueDiv "
    "IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt RoundDecimal ToFloat Identity".split()
)
CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
#: text that nothing evaluates or compiles: traces, string constants, and the guards, which are not used
IDLE = ("metadata", "as_string", "guards_code", "torch_version", "verifiers")


def load(folder: Path, reference: Mapping[str, Any]) -> Positional:
    """The program as a network. Raises InputError where the archive is damaged, or could run code."""
    return network(program(folder / FILE), reference["call"])


def network(found: ExportedProgram, keywords: Sequence[str]) -> Positional:
    """The program as a network that takes tensors by position; an exported program knows neither train nor eval."""
    from edgekit.networks.interface import Positional

    module = Positional(found.module(check_guards=False), keywords)
    module.training = False
    return module


def program(path: Path) -> ExportedProgram:
    """The archive's program, checked first. Raises InputError where it is damaged, or could run code."""
    import torch

    check(path)
    with _damaged(path):
        return torch.export.load(path)


def check(path: Path) -> None:
    """Raises InputError where the archive is damaged, or holds what torch would run."""
    import torch

    with os_errors("read", path), path.open("rb") as file:
        file.read(1)
    with _damaged(path):
        reader = torch._C.PyTorchFileReader(str(path))  # what torch itself will read, to the byte
        records: list[str] = reader.get_all_records()
        with zipfile.ZipFile(path) as archive:
            listed = [name.partition("/")[2] for name in archive.namelist()]
    odd = next((name for name in records if not RECORDS.fullmatch(name)), None)
    if odd or sorted(listed) != sorted(set(records)):
        why = f"{odd!r} in it" if odd else "it lists some of its entries twice"
        how = "save it with torch.export.save of torch 2.9 or later, without custom objects or compiled code"
        raise InputError(f"{path} is not an archive of plain tensors", why, how)
    with _damaged(path):
        graph, configs = json.loads(reader.get_record(GRAPH)), {}
        for kind, name in CONFIGS.items():
            configs[kind] = json.loads(reader.get_record(name))["config"] if name in records else {}
    _walk(graph, "", path)
    pickled = [name for name in PICKLED if name in records]
    for kind, config in configs.items():
        _walk(config, "", path)
        pickled += [f"data/{kind}/{entry['path_name']}" for entry in config.values() if entry.get("use_pickle")]
    for name in pickled:
        _unpickled(path, name, reader.get_record(name))


def _unpickled(path: Path, name: str, raw: bytes) -> None:
    import torch

    if not raw:
        return  # it was saved without example inputs
    try:
        torch.load(io.BytesIO(raw), weights_only=True)
    except Exception as error:  # torch raises many kinds here, and every one of them means the same
        why = f"{name} is damaged, or a pickle that could run code; it was not executed"
        raise _refused(path, why) from error


def _walk(value: Any, key: str, path: Path) -> None:
    """Every text in the description of a program, judged by the key under which it stands."""
    if isinstance(value, dict):
        for name, entry in value.items():
            if not (PLAIN.fullmatch(name) or _is_size(name)):
                raise _refused(path, f"the name {name!r} could be code")
            if name not in IDLE:
                _walk(entry, name, path)
    elif isinstance(value, list):
        for entry in value:
            _walk(entry, key, path)
    elif isinstance(value, str):
        if key == "expr_str" and not _is_size(value):
            raise _refused(path, f"the expression {value[:80]!r} could be code")
        if key in ("target", "as_operator") and not OPERATOR.fullmatch(value):
            raise _refused(path, f"the operator {value!r} is not one of torch's")
        if key in ("in_spec", "out_spec"):
            _tree(json.loads(value), path)
        elif key != "expr_str" and not PLAIN.fullmatch(value):
            raise _refused(path, f"the name {value[:80]!r} could be code")


def _is_size(text: str) -> bool:
    """Only numbers, symbols, arithmetic, and calls of functions that are known to do nothing else."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return all(map(_is_harmless, nodes))


def _is_harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS
    if isinstance(node, ast.Name):
        return node.id in FUNCTIONS or re.fullmatch(r"[a-z]+\d+|true|false", node.id) is not None
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str) or re.fullmatch(r"[\w.+-]+", node.value) is not None
    plain = (ast.Expression, ast.keyword, ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop)
    return isinstance(node, (*plain, ast.Load))


def _tree(spec: Any, path: Path) -> None:
    """How inputs and outputs are nested: torch would import what other containers name."""
    _, root = spec  # the protocol's version
    waiting = [root]
    while waiting:
        node = waiting.pop()
        context = node.get("context")
        if node["type"] not in CONTAINERS or not (context is None or re.fullmatch(r'[\w\s",.\[\]-]*', context)):
            raise _refused(path, f"its inputs or outputs are a {node['type']}")
        waiting += node["children_spec"]


def _refused(path: Path, why: str) -> InputError:
    return InputError(f"{path} cannot be trusted", why, "where you trust it, load it yourself and give net.py:make")


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (EdgekitError, MemoryError):
        raise
    except Exception as error:  # a zip, JSON or torch's own reader: each has its own kinds
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"cannot read {path}", f"not a whole program of torch.export: {said[:200]}", "save it again"
        ) from error
