"""The pages of the site: their commands parse, their Python compiles, their messages exist, their quickstarts run. The
site that is built from them is complete, loads nothing from elsewhere, and answers five questions within two clicks."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import click
import pytest
import yaml
from browser import browser
from helpers import environment

import edgekit
from edgekit.cli import group

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
BLOCK = re.compile(r"^( *)```([\w-]*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
#: the one of the table and the sounds trains and measures twice: it is for the nightly tier
QUICKSTARTS = [
    pytest.param(page, id=page.stem, marks=[pytest.mark.nightly] if page.stem == "quickstart-data" else [])
    for page in PAGES
    if page.name.startswith("quickstart-")
]
#: the program of a line of shell, behind variables and another program's options
PROGRAM = re.compile(r"^(?:\w+=\S+ +|torchrun .*? -m +|python (?:-P )?-m +)*edgekit (?=[a-z-])")
#: tasks that people come with → the page that solves it, and what it must hold
TASKS = {
    "quantize my model": ("int8.html", "edgekit quantize"),
    "deploy to a Pi": ("quickstart-pytorch.html", "edgekit deploy"),
    "a gate in CI": ("quickstart-gate.html", "--fail-if"),
    "what does an error mean": ("troubleshooting.html", "DeviceError"),
    "what is drop": ("glossary.html", 'id="drop"'),
}

names = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, *kinds: str) -> list[str]:
    """The fenced blocks of these kinds; "": of no kind."""
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [re.sub(f"^{indent}", "", text, flags=re.MULTILINE) for indent, kind, text in found if kind in kinds]


def commands(page: Path) -> Iterator[tuple[list[str], bool]]:
    """The arguments of every `edgekit` in blocks of shell, in workflows' `run`, and in code spans of the text: does it
    stand in the text, where `edgekit deploy` is the name of a command?"""
    lines = [line for text in blocks(page, "", "sh", "bash") for line in text.replace("\\\n", " ").splitlines()]
    for text in blocks(page, "yaml"):
        lines += [line for run in _runs(yaml.safe_load(text)) for line in run.splitlines()]
    spans = re.findall(r"`([^`]+)`", BLOCK.sub("", page.read_text(encoding="utf-8")))
    for line, named in [*((line, False) for line in lines), *((" ".join(span.split()), True) for span in spans)]:
        if PROGRAM.match(line):
            words = shlex.split(line, comments=True)
            words = words[words.index("edgekit") + 1 :]
            ends = [words.index(word) for word in ("|", "&&", ">", "||") if word in words]
            yield words[: min(ends, default=len(words))], named


def _runs(tree: object) -> Iterator[str]:
    if isinstance(tree, dict):
        yield from (value for key, value in tree.items() if key in ("run", "script") and isinstance(value, str))
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _runs(value)


def parse(words: list[str]) -> None:
    """As Click would, up to the point where the command begins. Raises UsageError."""
    command: click.Command = group
    context: click.Context | None = None
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        parent = context or click.Context(group, info_name="edgekit")
        name, found, words = command.resolve_command(parent, words)
        assert found is not None and name is not None
        command, context = found, click.Context(found, parent=parent, info_name=name)
    with suppress(click.exceptions.Exit):  # --help
        command.make_context(command.name, list(words), parent=context and context.parent)


@names
def test_every_command_parses(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, named in commands(page):
        try:
            parse(words)
        except click.MissingParameter:
            assert named, f"edgekit {shlex.join(words)} lacks an argument"
        except click.UsageError as error:
            pytest.fail(f"edgekit {shlex.join(words)}: {error.format_message()}")


@pytest.mark.parametrize("line", ["quantise runs/a", "quantize --int9", "bench --batch many", "targets ad x --ssh y"])
def test_a_wrong_command_would_be_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        parse(line.split())


def test_commands_are_found_everywhere(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "`edgekit run\n--dry-run` and `edgekit VERB`\n\n```\nA=1 edgekit doctor   # so\nedgekit bench a | tee b\n```\n"
        "```yaml\njobs: [{run: 'edgekit train x'}]\n```\n- a\n\n  ```sh\n  edgekit trust \\\n    --yes\n  ```\n"
    )
    found = [shlex.join(words) for words, _ in commands(page)]
    assert found == ["doctor", "bench a", "trust --yes", "train x", "run --dry-run"]


@names
def test_every_python_block_compiles_and_its_names_exist(page: Path) -> None:
    for text in blocks(page, "python"):
        for node in ast.walk(ast.parse(text)):
            wrong = _wrong(node)
            assert not wrong, f"{wrong} in:\n{text}"


def _wrong(node: ast.AST) -> str:
    """What an import or a use of edgekit names that does not exist; "" if nothing."""
    if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "edgekit":
        module = importlib.import_module(str(node.module))
        return ", ".join(alias.name for alias in node.names if not hasattr(module, alias.name))
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "edgekit":
        return "" if node.attr in edgekit.__all__ or hasattr(edgekit, node.attr) else f"edgekit.{node.attr}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        owner = node.func.value
        if isinstance(owner, ast.Name) and owner.id == "edgekit" and not _wrong(node.func):
            parameters = inspect.signature(getattr(edgekit, node.func.attr)).parameters
            if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
                return ", ".join(str(word.arg) for word in node.keywords if word.arg not in parameters)
    return ""


def test_a_wrong_name_would_be_found() -> None:
    for text in ("from edgekit.sets import samples_set", "edgekit.trian('mnist')", "edgekit.bench(quik=True)"):
        assert any(_wrong(node) for node in ast.walk(ast.parse(text))), text


@pytest.fixture(scope="module")
def source() -> ModuleType:
    spec = importlib.util.spec_from_file_location("messages", DOCS / "messages.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_class_of_error_is_explained(source: ModuleType) -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^### (\w+)$", page, re.MULTILINE)) == set(source.CLASSES)
    for code in {getattr(importlib.import_module("edgekit.core.errors"), name).code for name in source.CLASSES}:
        assert re.search(rf"^## .*exit codes? .*\b{code}\b", page, re.MULTILINE), code


def test_every_message_that_is_quoted_exists() -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8").partition("## It worked")[0]
    cells = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    quoted = [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]
    assert len(quoted) > 50
    known = _texts()
    assert [message for message in quoted if not _exists(message, known)] == []
    assert not _exists("no method keeps … inside the budget", known)


def _texts() -> set[str]:
    """Every text in the source, with … in the place of what is filled in."""
    found = set()
    for path in (ROOT / "edgekit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 300:
                found.add(re.sub(r"\{\w+\}", "…", node.value))
    return found


def _exists(message: str, known: set[str]) -> bool:
    """Is it one of these texts, or one with its open places filled in, of which most is text?"""
    if message in known:
        return True
    patterns = [text for text in known if "…" in text and len(text.replace("…", "").strip()) > len(message) / 2]
    return any(re.fullmatch(".+".join(map(re.escape, text.split("…"))), message) for text in patterns)


def test_all_messages_are_read_from_the_source(source: ModuleType) -> None:
    found = source.messages()
    assert len(found) > 500
    assert ("Locked", "another edgekit is working in …", "it holds the lock", "wait for it, or use --out RUN") in found
    assert (
        "Missing",
        "reading ONNX needs onnx",
        "onnx is not installed",
        "pip install 'edgekit-toolkit[onnx]'",
    ) in found
    assert not [message for message in found if "[]" in message[3]]


def test_every_public_name_is_on_the_page_of_the_api() -> None:
    names = re.findall(r"^::: edgekit\.(\w+)$", (DOCS / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(names) == sorted(set(edgekit.__all__) - {"__version__"})


class _Page(HTMLParser):
    """What a built page links to from its text, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: list[str] = []
        self.ids: set[str] = set()
        self._in_text = False
        self.text = path.read_text(encoding="utf-8")
        self.feed(self.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self._in_text |= tag == "article"
        self.ids.add(given.get("id", ""))
        if tag == "a" and self._in_text and not urlsplit(given.get("href", "")).scheme:
            self.links.add(given.get("href", "").partition("#")[0])
        if tag in ("script", "img", "iframe", "source") or (tag == "link" and given.get("rel") != "canonical"):
            self.loads.append(given.get("src", "") or given.get("href", ""))

    def handle_endtag(self, tag: str) -> None:
        self._in_text &= tag != "article"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as `make docs` does: a dead link, a missing anchor or a page outside of the menu ends it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "-q", "--strict", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=environment(NO_MKDOCS_2_WARNING="1"), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.mark.slow
def test_the_built_site(site: Path) -> None:
    pages = {path.relative_to(site).as_posix(): _Page(path) for path in sorted(site.rglob("*.html"))}
    assert len(pages) > 40
    for name, page in pages.items():
        elsewhere = [url for url in page.loads if urlsplit(url).scheme not in ("", "data") or url.startswith("//")]
        assert not elsewhere, (name, elsewhere)
        assert "|---" not in page.text and "::: " not in page.text, f"{name}: markup that was not rendered"
    assert not re.search(r"url\((?:\"|')?(?:https?:)?//", "".join(p.read_text() for p in site.rglob("*.css")))

    assert {f"edgekit.{name}" for name in edgekit.__all__ if name != "__version__"} <= pages["api.html"].ids
    context = click.Context(group)
    for verb in group.list_commands(context):
        command = group.get_command(context, verb)
        assert f"edgekit-{verb}" in pages["cli.html"].ids
        options = [p for p in command.params if isinstance(p, click.Option) and not p.hidden] if command else []
        assert all(option.opts[-1] in pages["cli.html"].text for option in options), verb

    near = {"index.html"}
    for _ in range(2):
        near |= {link for name in near & pages.keys() for link in pages[name].links}
    for task, (name, needed) in TASKS.items():
        assert name in near, f"{task}: {name} is more than two clicks from the start page"
        assert needed in re.sub(r"</?span[^>]*>", "", pages[name].text), task


@pytest.mark.slow
def test_pages_in_a_browser(site: Path, tmp_path: Path) -> None:
    """No error in the console, nothing asked of the network, no page wider than a phone's or a desktop's window."""
    with browser(tmp_path / "profile") as tab:
        for name in ("index", "quickstart-pytorch", "results", "cli", "api", "troubleshooting", "messages"):
            for width, dark in ((390, False), (1280, True)):
                tab.open(site / f"{name}.html", width=width, dark=dark)
                assert tab.run("document.documentElement.scrollWidth") <= width, (name, width)
                assert tab.run("document.body.dataset.mdColorScheme") == ("slate" if dark else "default")
        assert not tab.complaints
        assert not [url for url in tab.requests if not url.startswith(("file:", "data:", "blob:"))]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", QUICKSTARTS)
def test_every_block_of_a_quickstart_runs(page: Path, tmp_path: Path) -> None:
    """In an empty folder and in order, with this machine in the place of the device, and one process per artifact."""
    settings = tmp_path / "config" / "edgekit"
    settings.mkdir(parents=True)
    (settings / "edgekit.toml").write_text("[bench]\nprocesses = 1\n[compare]\nprocesses = 1\n")
    folder = tmp_path / "here"
    folder.mkdir()
    lines: list[str] = []
    for _, kind, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if kind in ("python", "toml"):
            name = re.match(r"# (\w+\.\w+)\n", text)
            assert name, "a file's first line is its name"
            (folder / name[1]).write_text(text.replace('"my-pi"', '"host"'))
            lines += [f"python {name[1]}"] if "\nimport edgekit\n" in text else []
        elif kind == "sh":
            text = re.sub(r"(edgekit bench .*?) --target [\w-]+", r"\1", text)  # what was measured here before
            lines += re.sub(r"\b(my-pi|mini-pc)\b", "host", text).splitlines()
    for line in dict.fromkeys(lines):
        program, *words = shlex.split(line)
        if words[:2] == ["targets", "add"]:  # there is no board
            continue
        start = {"edgekit": [sys.executable, "-m", "edgekit"], "python": [sys.executable]}.get(program, [program])
        where = environment(XDG_CONFIG_HOME=str(tmp_path / "config"), XDG_STATE_HOME=str(tmp_path / "state"))
        done = subprocess.run([*start, *words], cwd=folder, env=where, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
