"""Errors in Python's words, and when progress is shown."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import edgekit
from edgekit.api import options
from edgekit.api.reporting import bar, in_pythons_words, reports, translate
from edgekit.core.errors import InputError, Problem, RecipeError

FUNCTIONS = [name for name in edgekit.__all__ if inspect.isfunction(getattr(edgekit, name))]
PACKAGE = Path(edgekit.__file__).parent


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pass --calibration SET (an .npz)", "pass calibration=SET (an .npz)"),
        ("allow more with --max-drop, or use the float model", "allow more with max_drop=, or use the float model"),
        ("see edgekit train --help", "see help(edgekit.train)"),
        ("see edgekit import --help", "see help(edgekit.import_model)"),
        ("on an idle machine, with --thorough", "on an idle machine, with thorough=True"),
        ("or --fp16; the best", 'or precision="fp16"; the best'),
        ("runs/a--b", "runs/a--b"),
        ("edgekit verify --layers; pass --val SET", "edgekit.verify(layers=True); pass val=SET"),
        ("edgekit bench RUN --threads 1,2,4", "edgekit.bench(RUN, threads=[1, 2, 4])"),
        ("edgekit compare runs/a runs/b, or another", 'edgekit.compare(["runs/a", "runs/b"]), or another'),
        ("edgekit import w.pth --model net.py:Net", 'edgekit.import_model("w.pth", model="net.py:Net")'),
        ("edgekit import M --signature S.toml, then", 'edgekit.import_model(M, signature="S.toml"), then'),
        ("make one with edgekit run, or name one", "make one with edgekit.run(), or name one"),
        ("edgekit bench the same names", "edgekit bench the same names"),
        ("edgekit targets add pi --ssh user@host", "edgekit targets add pi --ssh user@host"),
        ("lower it: --set qat.lr=0.001", 'lower it: settings=["qat.lr=0.001"]'),
        ("lower it: --set train.lr=1e-05", "lower it: lr=1e-05"),
        ("lower it: --lr 1e-05 (in a recipe, lr)", "lower it: lr=1e-05 (in a recipe, lr)"),
        ("edgekit run RECIPE --set plan.timeout=SECONDS", 'edgekit.run(RECIPE, settings=["plan.timeout=SECONDS"])'),
        ("edgekit run mnist.toml --set train.lr=0.1", 'edgekit.run("mnist.toml", settings=["train.lr=0.1"])'),
        ("edgekit quantize RUN --thorough", 'edgekit.quantize(RUN, effort="thorough")'),
        ("edgekit bench RUN --thorough", "edgekit.bench(RUN, thorough=True)"),
        (
            "edgekit compare RUN --against BASELINE --fail-if 'p50>+5%'",
            'edgekit.gate(RUN, against=BASELINE, fail_if="p50>+5%")',
        ),
        ("cannot read 'runs/a --out b': pass --val SET", "cannot read 'runs/a --out b': pass val=SET"),
        ("no column '--data', but \"edgekit run x.toml\"", "no column '--data', but \"edgekit run x.toml\""),
        ("the model's --val and 'a.' --data '.b'", "the model's val= and 'a.' data=\".b\""),
        ("choose one: --set bde164e1", 'choose one: data="bde164e1"'),
        ("name them: --try model=net.py:Net", 'name them: choices={"model": ["net.py:Net"]}'),
        ("pass --shape x=1x3x224x224", 'pass shape={"x": (1, 3, 224, 224)}'),
        ("pass --shape 1x3; or", "pass shape=(1, 3); or"),
        ("--fail-if 'p50>+5%': no row has p50", 'fail_if="p50>+5%": no row has p50'),
        ("pip install --upgrade onnx, or", "pip install --upgrade onnx, or"),
        ("nothing was sent; choose another artifact", "nothing was sent; choose another artifact"),
    ],
)
def test_the_words(text: str, said: str) -> None:
    assert in_pythons_words(text) == said


def messages() -> Iterator[str]:
    """The texts in the package that name an option; a value in them is "x/1"."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.relative_to(PACKAGE).parts[0] in ("cli", "ondevice", "api", "__main__.py"):
            continue
        tree = list(ast.walk(ast.parse(file.read_text())))
        inner = {id(part) for node in tree if isinstance(node, ast.JoinedStr) for part in node.values}
        inner |= {id(node.value) for node in tree if isinstance(node, ast.Expr)}  # docstrings
        for node in tree:
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(str(part.value) if isinstance(part, ast.Constant) else "x/1" for part in parts)
            is_text = isinstance(node, ast.JoinedStr | ast.Constant) and "\n" not in text
            if id(node) not in inner and is_text and OPTION.search(text):
                yield text


#: an option in a sentence, not in a list of a program's arguments
OPTION = re.compile(r"[a-z,;:(] --[a-z]|^--[a-z-]+ [a-z]")
#: commands that are typed in a shell, and what is no message
SHELL = re.compile(
    r"edgekit (targets|trust) |pip |sudo |optuna |/runner |\./example|with --library|with --replace|--en"
)


def test_every_message_names_parameters_that_exist() -> None:
    """An option that no function has would be a parameter that nobody can pass."""
    known = {name for f in FUNCTIONS for name in options._hints(inspect.unwrap(getattr(edgekit, f)))[0]}
    texts = [text for text in messages() if not SHELL.search(text)]
    for text in texts:
        said = in_pythons_words(text)
        assert "--" not in said, f"{text!r} becomes {said!r}"
        unknown = set(re.findall(r"(?<![\w.=\"])([a-z_]+)=", said)) - known
        assert not unknown, f"{text!r} becomes {said!r}, and nothing has {unknown}"
    assert len(texts) > 40


def test_fields_of_a_recipe_are_set_by_run_alone() -> None:
    """The command at hand may be another, which has no --set; compare's chooses a test set."""
    texts = [text for text in messages() if "--set " in text]
    assert texts and [text for text in texts if "edgekit run RECIPE --set " not in text] == [
        "x/1choose one set: --set x/1"
    ]


def test_an_error_in_pythons_words() -> None:
    error = translate(InputError("--val needs labels", "why", "pass --val SET"))
    assert error.next == "pass val=SET" and str(error) == "val= needs labels: why"
    assert error.__notes__ == ["Next: pass val=SET"], "a traceback shows it"
    recipe = translate(RecipeError("a.toml", [Problem("train", "unknown key 'lrr'", "did you mean lr?")]))
    assert recipe.__notes__[0] == "train: unknown key 'lrr' (did you mean lr?)"


def test_nothing_is_shown_but_in_a_terminal_or_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (None, False):
        quiet = reports(progress)
        quiet["say"]("  made")
        assert list(quiet["progress"]([1, 2], "counting")) == [1, 2]
        assert capsys.readouterr() == ("", "")
    loud = reports(True)
    loud["say"]("  made\x1b[2J; pass --val SET")
    assert list(loud["progress"]([1, 2], "[counting]")) == [1, 2]
    out, err = capsys.readouterr()
    assert out == "" and "made" in err and "\x1b[2J" not in err and "val=SET" in err


class Cell:
    """What IPython's display does: a handle whose content is replaced."""

    def __init__(self) -> None:
        self.outputs: list[list[str]] = []

    def display(self, data: dict[str, str], raw: bool, display_id: bool) -> Cell:
        assert raw and display_id
        self.outputs.append([data["text/plain"]])
        return self

    def update(self, data: dict[str, str], raw: bool) -> None:
        assert raw
        self.outputs[-1].append(data["text/plain"])


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    cell, package, module = Cell(), ModuleType("IPython"), ModuleType("IPython.display")
    package.get_ipython = lambda: SimpleNamespace(kernel=object())  # type: ignore[attr-defined]
    module.display = cell.display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return cell


def test_a_notebook_has_one_line_that_changes(cell: Cell, capsys: pytest.CaptureFixture[str]) -> None:
    shown = reports(None)
    shown["say"]("  train     torch …")
    assert list(shown["progress"](range(1000), "epochs")) == list(range(1000))
    shown["say"]("  warning   few samples: pass --val SET")
    shown["say"]("  made      torch: 12 kB")
    (output,) = cell.outputs
    assert output[-1] == "warning   few samples: pass val=SET\nmade      torch: 12 kB"
    assert len(output) < 10 and f"epochs {'━' * 24} 1000/1000" in output
    assert reports(False)["say"]("  made") is None and len(cell.outputs) == 1
    assert capsys.readouterr() == ("", "")


def test_a_bar() -> None:
    assert bar("epochs", 5, 10, 5.0) == f"epochs {'━' * 12}{'─' * 12} 5/10, 5 s left"
    assert bar("epochs", 3, None, 5.0) == "epochs 3"
