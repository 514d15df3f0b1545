"""The command line starts fast and light: help and version need nothing but the base dependencies."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest
from helpers import Ended

from edgekit.cli import group

HEAVY = "torch onnx onnxruntime onnxscript safetensors numpy scipy pandas sklearn mlxtend PIL tensorflow openvino nncf"

PROBE = """
import sys
HEAVY = set(sys.argv.pop(1).split())

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
sys.argv[0] = "edgekit"
try:
    import runpy
    runpy.run_module("edgekit", run_name="__main__", alter_sys=True)
finally:
    assert not HEAVY & {name.partition(".")[0] for name in sys.modules}
"""


def commands(found: click.Command = group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """The words of every command, subcommands and groups included."""
    if not isinstance(found, click.Group):
        return [path]
    context = click.Context(found)
    below = {name: found.get_command(context, name) for name in found.list_commands(context)}
    return [path, *(words for name, one in below.items() if one for words in commands(one, (*path, name)))]


ALL = commands()


def light(*words: str) -> Ended:
    """`python -m edgekit WORDS` where nothing heavy can be imported."""
    done = subprocess.run([sys.executable, "-c", PROBE, HEAVY, *words], text=True, capture_output=True, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_needs_nothing_heavy(words: tuple[str, ...]) -> None:
    ended = light(*words, "--help")
    assert ended.code == 0, ended.err
    assert not ended.err
    assert ended.out.startswith("Usage: edgekit")


def test_alone_it_says_what_there_is() -> None:
    ended = light()
    assert (ended.code, ended.err) == (0, "")
    for words in ALL:
        assert not words or words[0] in ended.out
    assert "edgekit run" in ended.out, "it does not say how to begin"
    assert light("targets").out == light("targets", "--help").out


def test_version() -> None:
    from edgekit import __version__

    ended = light("--version")
    assert (ended.code, ended.out) == (0, f"edgekit {__version__}\n")


def test_the_installed_command_is_the_module() -> None:
    script = Path(sys.executable).with_name("edgekit")
    if not script.is_file():
        pytest.skip("edgekit is not installed as a command beside this Python")
    by_name = subprocess.run([script, "--help"], text=True, capture_output=True, check=True)
    by_module = subprocess.run([sys.executable, "-m", "edgekit", "--help"], text=True, capture_output=True, check=True)
    assert by_name.stdout == by_module.stdout


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_and_option_has_help(words: tuple[str, ...]) -> None:
    found: click.Command = group
    for word in words:
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), word)  # type: ignore[assignment]
    assert found.help and len(found.help.split()) >= 3
    if words:
        assert found.short_help, "the list of commands would cut its help short"
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.opts[0]} has no help"
    if not isinstance(found, click.Group):
        flags = {flag for parameter in found.params for flag in parameter.opts}
        assert {"--json", "-v", "--verbose", "-q", "--quiet"} <= flags


@pytest.mark.parametrize("word", ["rn", "exprt", "quantise", "zzzz"])
def test_a_misspelt_command_is_answered_with_near_ones(word: str) -> None:
    ended = light(word)
    assert ended.code == 2
    expected = {"rn": "run", "exprt": "export", "quantise": "quantize", "zzzz": "train"}[word]
    assert expected in ended.line


@pytest.mark.parametrize("words", [("run", "--zap"), ("predict",), ("bench", "--threads", "zero"), ("targets", "zap")])
def test_bad_usage_is_one_line(words: tuple[str, ...]) -> None:
    ended = light(*words)
    assert ended.code == 2
    assert "--help" in ended.line


def test_a_wrong_budget_is_refused_within_a_second() -> None:
    """Before anything heavy is imported, or a file is read; tried again where the machine is too busy to tell."""
    for _ in range(4):
        started = time.perf_counter()
        ended = light("quantize", "runs/no-such-run", "--max-drop", "0.5%")
        took = time.perf_counter() - started
        assert (ended.code, ended.out) == (2, "")
        assert "'0.5%' is not percentage points from 0 to 100, such as 0.5 or 0.5pp" in ended.line
        if took < 1:
            return
    pytest.fail(f"it took {took:.1f} s")


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_fits_80_columns_and_cuts_no_word(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    found: click.Command = group
    context = click.Context(group, info_name="edgekit")
    for word in words:
        assert isinstance(found, click.Group)
        found = found.get_command(context, word)  # type: ignore[assignment]
        context = click.Context(found, info_name=word, parent=context)
    lines = found.get_help(context).splitlines()
    assert all(len(line) <= 80 and not line.endswith("-") for line in lines)
    assert not any("INTEGER" in line or "FLOAT" in line for line in lines), "N and X are said, as in the texts"


def _seconds(*words: str) -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True, env={**os.environ, "PYTHONPATH": ""})
    return time.perf_counter() - started


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("words", [(), *(w for w in ALL if w)], ids=" ".join)
def test_help_takes_at_most_three_times_importing_click(words: tuple[str, ...]) -> None:
    """Side by side, so that whatever slows one slows the other; tried again where the machine was too busy to tell."""
    for _ in range(4):
        pairs = [(_seconds("-m", "edgekit", *words, "--help"), _seconds("-c", "import click")) for _ in range(7)]
        ratio = statistics.median(ours / clicks for ours, clicks in pairs)
        if ratio <= 3:
            return
    pytest.fail(f"edgekit {' '.join(words)} --help takes {ratio:.2f} times as long as importing click")
