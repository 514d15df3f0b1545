"""Completion: what each word can become, without running or trusting anything."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from edgekit.cli import group
from edgekit.cli.shared import shells
from edgekit.cli.shared.completion import METHODS

Complete = Callable[..., list[str]]


@pytest.fixture
def complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Complete:
    """Completions in a folder with a run, a model file, and code that must not run."""
    for name in ("torch", "onnx", "onnx-int8"):
        (tmp_path / "runs" / "digits" / name).mkdir(parents=True)
        (tmp_path / "runs" / "digits" / name / "artifact.json").write_text("{}")
    (tmp_path / "runs" / "empty").mkdir()
    (tmp_path / "model.onnx").touch()
    (tmp_path / "net.py").write_text("raise SystemExit('run')\nclass Net: ...\ndef make(): ...\nclass _Own: ...\n")
    (tmp_path / "edgekit.toml").write_text("nonsense = ")
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "untrusted-board.toml").write_text("nonsense = ")
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", "\n".join(["edgekit", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        assert shells.answer(group, "bash_complete") == 0
        said = capsys.readouterr()
        assert not said.err
        return said.out.split()

    return call


RUN = ["plain,runs/digits", *(f"plain,runs/digits/{name}" for name in ("onnx", "onnx-int8", "torch"))]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("qua",), ["plain,quantize"]),
        (("bench", ""), [*RUN, "plain,model.onnx"]),
        (("bench", "runs/"), RUN),
        (("verify", "runs/digits/onnx-"), ["plain,runs/digits/onnx-int8"]),
        (("compare", "ru"), RUN[:1]),
        (("compare", "--against", ""), RUN[:1]),
        (("clean", ""), RUN[:1]),
        (("inspect", "unknown"), ["file,unknown"]),
        (("inspect", "net.py", ":", "m"), ["plain,make"]),
        (("import", "net.py", ":"), ["plain,Net", "plain,make"]),
        (("train", "fash"), ["plain,fashion-mnist"]),
        (("train", "--model", "ds"), ["plain,ds-cnn", "plain,ds-cnn-kws"]),
        (("run", "comp"), ["plain,compress"]),
        (("bench", "--data", "mnist", ":", "t"), ["plain,train", "plain,test"]),
        (("bench", "--target", "=", "host"), ["plain,host"]),
        (("targets", "show", "emulated-p"), ["plain,emulated-phone"]),
        (("bench", "--target", "untrusted"), ["file,untrusted"]),
        (("export", "--to", "onnx,t"), ["plain,onnx,tflite"]),
        (("quantize", "--methods", "dynamic,m"), ["plain,dynamic,min-max", "plain,dynamic,mse"]),
        (("prune", "--distil", "f"), ["plain,features"]),
        (("deploy", "--runtime", "li"), ["plain,litert"]),
        (("train", "--optimizer", "ada"), ["plain,adam", "plain,adamw"]),
        (("completion", "z"), ["plain,zsh"]),
        (("--version", ""), None),
        (("no-such-command", ""), []),
        (("bench", "no-such-folder/"), ["file,no-such-folder/"]),
        (("bench", "\udcff"), None),
    ],
)
def test_each_word(complete: Complete, words: tuple[str, ...], expected: list[str] | None) -> None:
    completed = complete(*words)
    assert expected is None or completed == expected


@pytest.mark.parametrize("name", ["$(id)", "x;id", "a b", "a`id`", "a&b", "a'b", "é\x1b"])
def test_shell_syntax_in_a_name_is_left_out(complete: Complete, name: str) -> None:
    """Click's Bash script inserts names unquoted."""
    (Path("runs") / name / "torch").mkdir(parents=True)
    (Path("runs") / name / "torch" / "artifact.json").write_text("{}")
    assert complete("compare", "runs/") == RUN[:1]


def test_what_can_be_named_is_completed() -> None:
    """Every parameter that stands for one of these things has names of its own, in every command."""
    context = click.Context(group)
    things = {"T", "ARTIFACT", "SET", "M", "RECIPE", "F,…", "M,…", "R,…", "FORMATS", "BASELINE", "MODEL"}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        for parameter in command.params:
            named = parameter.metavar in things or parameter.name in ("artifact", "artifacts", "recipe", "task")
            assert not named or "shell_complete" in vars(parameter), f"{name} {parameter.name}"


def test_the_methods_are_those_of_quantize() -> None:
    from edgekit.workflows.quantize import attempts

    assert attempts.METHODS == METHODS


def test_a_process_answers_the_shell(tmp_path: Path) -> None:
    environment = {**os.environ, "COMP_WORDS": "edgekit train fash", "COMP_CWORD": "2"}
    for instruction, expected in (("bash_complete", "plain,fashion-mnist\n"), ("nonsense", "\n"), ("bash_", "\n")):
        done = subprocess.run(
            [sys.executable, "-m", "edgekit"],
            env={**environment, "_EDGEKIT_COMPLETE": instruction},
            cwd=tmp_path,
            text=True,
            capture_output=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == (expected, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_of_a_shell(shell: str, tmp_path: Path) -> None:
    text = shells.script(group, shell)
    assert f"_EDGEKIT_COMPLETE={shell}_complete" in text
    if program := shutil.which(shell):
        (tmp_path / "script").write_text(text)
        assert subprocess.run([program, "-n", tmp_path / "script"], check=True, capture_output=True).stderr == b""


TYPED = """
edgekit() { PYTHON -m edgekit "$@"; }
export -f edgekit
export PATH="FOLDER:$PATH"
eval "$(edgekit completion bash)"
COMP_WORDS=(edgekit bench --data mnist : te) COMP_CWORD=5
_edgekit_completion edgekit te :
printf '%s\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def path(tmp_path: Path) -> str:
    """PATH with an `edgekit`."""
    program = tmp_path / "edgekit"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m edgekit "$@"\n')
    program.chmod(0o755)
    return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no Bash")
def test_bash_completes_what_is_typed(tmp_path: Path, path: str) -> None:
    typed = TYPED.replace("PYTHON", sys.executable).replace("FOLDER", str(tmp_path))
    done = subprocess.run(["bash", "--norc", "-c", typed], text=True, capture_output=True, check=True, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("test\n", "")


@pytest.mark.skipif(not shutil.which("fish"), reason="there is no fish: apt-get install fish")
def test_fish_completes_what_is_typed(tmp_path: Path, path: str) -> None:
    asked = ["edgekit quan", "edgekit bench --target ho", "edgekit run fashion"]
    typed = "edgekit completion fish | source\n" + "".join(f'complete -C "{text}"\n' for text in asked)
    environment = {**os.environ, "PATH": path, "HOME": str(tmp_path)}
    done = subprocess.run(["fish", "-N", "-c", typed], text=True, capture_output=True, cwd=tmp_path, env=environment)
    words = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert words == ["quantize", "host", "fashion-mnist"], done.stderr


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh: apt-get install zsh")
def test_zsh_completes_what_is_typed(tmp_path: Path, path: str) -> None:
    """In a terminal, with the Tab key: zsh completes nowhere else."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.execve(shutil.which("zsh") or "", ["zsh", "-f", "-i"], {**os.environ, "PATH": path, "TERM": "dumb"})
    shown = b""

    def shows(text: bytes) -> bool:
        nonlocal shown
        stop, shown = time.monotonic() + 60, b""
        while text not in shown and select.select([terminal], [], [], max(0.0, stop - time.monotonic()))[0]:
            shown += os.read(terminal, 4096)
        return text in shown

    try:
        start = "autoload -Uz compinit && compinit -u -D && eval \"$(edgekit completion zsh)\" && echo rea''dy\n"
        os.write(terminal, start.encode())
        assert shows(b"ready"), shown
        for typed, whole in (
            (b"edgekit quan", b"edgekit quantize "),
            (b"edgekit bench --target ho", b"--target host "),
        ):
            os.write(terminal, typed + b"\t")
            assert shows(whole), shown
            os.write(terminal, b"\x15")  # Ctrl-U: an empty line again
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
