"""An imported torch.export program (.pt2 archive), checked completely before torch loads it.

torch.export.load unpickles, evaluates expressions and compiles names of the archive, so all of them are checked first
(torch 2.13, `torch/export/pt2_archive` and `torch/_export/serde`):

- pickled payloads must load with `weights_only=True`; custom objects and compiled code are rejected;
- size expressions, which sympy evaluates, may hold numbers, symbols and calls of known sympy functions;
- operators must be torch's, or Python's arithmetic; names, which become Python source, must be plain;
- guards, which are Python source, are never compiled.
"""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import EdgekitError, InputError, os_errors
from edgekit.core.files import check_unpacked
from edgekit.core.mute import muted

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from edgekit.networks.interface import Positional

log = logging.getLogger("edgekit")

FILE = "model.pt2"
#: allowed records; others (custom objects, compiled code, a second program) are rejected
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
PLAIN_NAME = re.compile(r"[\w.:+<>\[\]-]*")
OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|higher_order|quantized|quantized_decomposed|torchvision|torchaudio)\.(?!from_file)"
    r"\w+(\.\w+)?|_operator\.[a-z]\w*|math\.[a-z]\w*|torch\.sym_\w+"
)
#: functions in expressions as printed by sympy, with torch's additions
FUNCTIONS = frozenset(
    "Symbol Integer Float Rational Add Mul Pow Max Min Mod Abs floor ceiling Piecewise ExprCondPair And Or Not "
    "Equality Unequality StrictLessThan LessThan StrictGreaterThan GreaterThan FloorDiv ModularIndexing Where "
    "PythonMod CleanDiv CeilToInt FloorToInt CeilDiv LShift RShift PowByNatural FloatPow FloatTrueDiv IntTrueDiv "
    "IsNonOverlappingAndDenseIndicator TruncToFloat TruncToInt RoundToInt RoundDecimal ToFloat Identity".split()
)
CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict")
#: text that is never evaluated or compiled: traces, string constants, and the unused guards
NOT_EVALUATED = ("metadata", "as_string", "guards_code", "torch_version", "verifiers")


def load(folder: Path, reference: Mapping[str, Any]) -> Positional:
    """The program as a network. Raises InputError if the archive is damaged, or could run code."""
    return network(program(folder / FILE), reference["call"], reference.get("kept"))


def network(exported: ExportedProgram, keywords: Sequence[str], kept: Sequence[int] | None = None) -> Positional:
    """The program as a network with positional inputs; exported programs have no train and eval modes."""
    from edgekit.networks.interface import Positional

    module = Positional(exported.module(check_guards=False), keywords, kept)
    module.training = False
    return module


def program(path: Path) -> ExportedProgram:
    """The archive's program, checked first. Raises InputError if it is damaged, or could run code."""
    import torch

    check(path)
    with _damaged(path), muted(log, loggers=("torch.export",)):  # it warns of the traceback of what it raises
        return torch.export.load(path)


def check(path: Path) -> None:
    """Raises InputError if the archive is damaged, or holds code that torch would run."""
    import torch

    with os_errors("read", path), path.open("rb") as file:
        file.read(1)
    with _damaged(path):
        with zipfile.ZipFile(path) as archive:
            check_unpacked(path, archive, "save it again")
        reader = torch._C.PyTorchFileReader(str(path))  # the reader that torch.export.load uses
        records: list[str] = reader.get_all_records()
        with zipfile.ZipFile(path) as archive:
            listed = [name.partition("/")[2] for name in archive.namelist()]
    unexpected = next((name for name in records if not RECORDS.fullmatch(name)), None)
    if unexpected or sorted(listed) != sorted(set(records)):
        why = f"it holds {unexpected!r}" if unexpected else "it has duplicate entries"
        advice = "save it with torch.export.save of torch 2.9 or later, without custom objects or compiled code"
        raise InputError(f"{path} is not an archive of plain tensors", why, advice)
    with _damaged(path):
        graph, configs = json.loads(reader.get_record(GRAPH)), {}
        for kind, name in CONFIGS.items():
            configs[kind] = json.loads(reader.get_record(name))["config"] if name in records else {}
    _check_text(graph, "", path)
    pickled = [name for name in PICKLED if name in records]
    for kind, config in configs.items():
        _check_text(config, "", path)
        pickled += [f"data/{kind}/{entry['path_name']}" for entry in config.values() if entry.get("use_pickle")]
    for name in pickled:
        _check_pickle(path, name, reader.get_record(name))


def _check_pickle(path: Path, name: str, raw: bytes) -> None:
    import torch

    if not raw:
        return  # it was saved without example inputs
    try:
        torch.load(io.BytesIO(raw), weights_only=True)
    except Exception as error:  # torch raises many types here
        why = f"{name} is damaged, or a pickle that could run code; it was not executed"
        raise _untrusted(path, why) from error


def _check_text(value: Any, key: str, path: Path) -> None:
    """Check all text in the description of a program, according to its key."""
    if isinstance(value, dict):
        for name, entry in value.items():
            if not (PLAIN_NAME.fullmatch(name) or _is_size(name)):
                raise _untrusted(path, f"the name {name!r} could be code")
            if name not in NOT_EVALUATED:
                _check_text(entry, name, path)
    elif isinstance(value, list):
        for entry in value:
            _check_text(entry, key, path)
    elif isinstance(value, str):
        if key == "expr_str" and not _is_size(value):
            raise _untrusted(path, f"the expression {value[:80]!r} could be code")
        if key in ("target", "as_operator") and not OPERATOR.fullmatch(value):
            raise _untrusted(path, f"the operator {value!r} is not one of torch's")
        if key in ("in_spec", "out_spec"):
            _check_tree_spec(json.loads(value), path)
        elif key != "expr_str" and not PLAIN_NAME.fullmatch(value):
            raise _untrusted(path, f"the name {value[:80]!r} could be code")


def _is_size(text: str) -> bool:
    """Whether it holds only numbers, symbols, arithmetic, and calls of known functions."""
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


def _check_tree_spec(spec: Any, path: Path) -> None:
    """Check the nesting of inputs and outputs: torch would import other container types by name."""
    _, root = spec  # the protocol's version
    pending = [root]
    while pending:
        node = pending.pop()
        context = node.get("context")
        if node["type"] not in CONTAINERS or not (context is None or re.fullmatch(r'[\w\s",.\[\]-]*', context)):
            raise _untrusted(path, f"its inputs or outputs are a {node['type']}")
        pending += node["children_spec"]


def _untrusted(path: Path, why: str) -> InputError:
    return InputError(f"{path} cannot be trusted", why, "if you trust it, load it in your own function: net.py:make")


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    try:
        yield
    except (EdgekitError, MemoryError):
        raise
    except Exception as error:  # the zip, JSON and torch readers raise many types
        message = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"cannot read {path}", f"not a complete torch.export program: {message[:200]}", "save it again"
        ) from error
