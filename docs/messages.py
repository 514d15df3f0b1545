"""The list of all error messages, which mkdocs puts into docs/messages.md: read from edgekit's source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parents[1] / "edgekit"
#: the error classes, in the order of core/errors.py
CLASSES = [
    node.name
    for node in ast.parse((SOURCE / "core" / "errors.py").read_text(encoding="utf-8")).body
    if isinstance(node, ast.ClassDef) and node.name != "Problem"
]
#: in the place of what differs from case to case: a path, a name, a number
OPEN = "…"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """mkdocs' hook: fill in the list where a page asks for it."""
    mark = "<!-- messages -->"
    return markdown.replace(mark, _listed()) if mark in markdown else markdown


def messages() -> list[tuple[str, str, str, str]]:
    """(class, what, why, next) of every error with text of its own, sorted; "" where it differs from case to case."""
    found = {message for path in SOURCE.rglob("*.py") for message in _raised(path)}
    return sorted(
        found, key=lambda message: (CLASSES.index(message[0]), message[1].lstrip(OPEN + " ").lower(), message)
    )


def _listed() -> str:
    """A heading for each message, which the site's search finds, and under it what can follow."""
    lines = []
    for (name, what), rows in groupby(messages(), key=lambda row: row[:2]):
        heading = f"## {name}"
        lines += [] if heading in lines else [heading, ""]
        lines += [f"### {_escaped(what)}", ""]
        for _, _, why, next in rows:
            texts = (_escaped(why), f"Next: {_escaped(next)}" if next else "")
            lines += [f"- {'. '.join(filter(None, texts))}"] if any(texts) else []
        lines.append("")
    return "\n".join(lines)


def _escaped(text: str) -> str:
    return " ".join(text.split()).translate(_ESCAPES)


#: what Markdown would take for markup
_ESCAPES = {ord(character): f"&#{ord(character)};" for character in "&<>|*_`[]{}\\~^#"}


def _raised(path: Path) -> Iterator[tuple[str, str, str, str]]:
    for scope in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(scope, ast.FunctionDef):
            yield from _raised_in(scope)


def _raised_in(function: ast.FunctionDef) -> Iterator[tuple[str, str, str, str]]:
    texts: dict[str, str] = {}
    nodes = [node for node in ast.walk(function) if isinstance(node, ast.Assign | ast.Call)]
    for node in sorted(nodes, key=lambda node: node.lineno):
        if isinstance(node, ast.Assign):
            to, given = node.targets[0], node.value
            several = isinstance(to, ast.Tuple) and isinstance(given, ast.Tuple)
            pairs = zip(to.elts, given.elts, strict=False) if several else [(to, given)]  # type: ignore[attr-defined]
            texts |= {name.id: _text(value, texts) for name, value in pairs if isinstance(name, ast.Name)}
        elif isinstance(node.func, ast.Attribute) and node.func.attr == "install" and len(node.args) > 2:
            what, package, extra = (_text(argument, texts) for argument in node.args[:3])
            yield (
                "Missing",
                f"{what} needs {package}",
                f"{package} is not installed",
                f"pip install 'edgekit-toolkit[{extra}]'" if extra else f"pip install '{package}'",
            )
        elif isinstance(node.func, ast.Name) and node.func.id in CLASSES:
            words = dict(zip(("what", "why", "next"), (_text(argument, texts) for argument in node.args), strict=False))
            words |= {str(word.arg): _text(word.value, texts) for word in node.keywords}
            what, why, next = (words.get(name, "") for name in ("what", "why", "next"))
            if _says(what):
                yield node.func.id, what, why if _says(why) else "", next if _says(next) else ""


def _says(text: str) -> bool:
    return any(character.isalpha() for character in text)


def _text(node: ast.AST, texts: dict[str, str]) -> str:
    """What an expression says, with `OPEN` for its parts that are not constant."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, texts) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, texts) + _text(node.right, texts)
    if isinstance(node, ast.Name):
        return texts.get(node.id, OPEN)
    return OPEN
