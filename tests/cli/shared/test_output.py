"""Whatever becomes of stdout and stderr, a command ends in one line, with the right exit code and no half file."""

from __future__ import annotations

import io
import json
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers import Ended, command, environment
from report.made_up import HOSTILE, STEERING, many, measurement
from report.test_files import write_results

import edgekit.cli
from edgekit.cli.shared import echo_failures
from edgekit.cli.shared.output import echo_failure, echo_json
from edgekit.core.errors import CannotConvert

Redirected = Callable[..., Ended]


@pytest.fixture
def redirected(tmp_path: Path) -> Redirected:
    """A command whose output a shell redirects."""

    def call(how: str, *words: object) -> Ended:
        line = ["bash", "-c", f'"$@" {how}', "bash", *command(*words)]
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120, env=environment())
        return Ended(done.returncode, done.stdout, done.stderr)

    return call


def into_a_closed_pipe(*words: object, cwd: Path, both: bool = False) -> Ended:
    """A command whose reader has gone before it prints anything."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            command(*words),
            cwd=cwd,
            stdout=writer,
            stderr=writer if both else subprocess.PIPE,
            text=True,
            timeout=120,
            env=environment(),
        )
    finally:
        os.close(writer)
    return Ended(done.returncode, "", done.stderr or "")


@pytest.mark.parametrize("words", [("targets", "list"), ("targets", "list", "--json")])
def test_a_closed_stdout_is_refused_at_once(redirected: Redirected, words: tuple[str, ...]) -> None:
    ended = redirected(">&-", *words)
    assert ended.code == 2 and "stdout is closed" in ended.line


def test_a_closed_stderr_and_stdin_do_no_harm(redirected: Redirected, tmp_path: Path) -> None:
    ended = redirected("2>&- <&-", "compare", write_results(tmp_path), "--html", "a.html", "--csv", "a.csv")
    assert ended.code == 0 and "prune20" in ended.out
    assert (tmp_path / "a.html").read_text().endswith("</html>\n")


@pytest.mark.parametrize("words", [("targets", "list"), ("targets", "list", "--json"), ("--help",)])
def test_a_full_stdout_is_an_error(redirected: Redirected, words: tuple[str, ...]) -> None:
    ended = redirected(">/dev/full", *words)
    assert ended.code == 2 and "stdout" in ended.line and "no space left" in ended.line


def test_a_full_stderr_ends_nothing(redirected: Redirected, tmp_path: Path) -> None:
    ended = redirected("2>/dev/full", "compare", write_results(tmp_path), "--html", "a.html")
    assert ended.code == 0 and (tmp_path / "a.html").is_file()


@pytest.mark.parametrize("both", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_reader_that_has_gone_changes_no_exit_code(tmp_path: Path, both: bool) -> None:
    old = write_results(tmp_path, [measurement("a", size_bytes=10)], "old")
    new = write_results(tmp_path, [measurement("a", size_bytes=20)], "new")
    words = ("compare", new, "--html", "a.html")
    ended = into_a_closed_pipe(*words, cwd=tmp_path, both=both)
    assert ended.code == 0 and "Traceback" not in ended.err and (tmp_path / "a.html").is_file()
    gate = ("--against", old, "--fail-if", "size>+2%", "--stored")
    assert into_a_closed_pipe(*words, *gate, "--json", cwd=tmp_path, both=both).code == 1


def test_help_into_a_closed_pipe(tmp_path: Path) -> None:
    ended = into_a_closed_pipe("compare", "--help", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")


OUTPUTS = {"--html": "a.html", "--markdown": "a.md", "--picture": "a.svg", "--summary": "b.svg", "--csv": "a.csv"}


@pytest.mark.parametrize(
    "option", ["--html", *(pytest.param(each, marks=pytest.mark.slow) for each in list(OUTPUTS)[1:])]
)
def test_a_file_that_grows_too_large_leaves_the_old_one(cli: Callable[..., Ended], tmp_path: Path, option: str) -> None:
    results, place = write_results(tmp_path), tmp_path / OUTPUTS[option]
    place.write_text("old")
    ended = cli("compare", results, option, place, preexec_fn=_small_files)
    assert ended.code == 2 and "larger than the system allows" in ended.line and place.name in ended.line
    assert place.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {place.name, "a-run"}


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))


def test_tensorboard_leaves_no_half_folder(cli: Callable[..., Ended], tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    ended = cli("compare", write_results(tmp_path), "--tensorboard", "logs", preexec_fn=_small_files)
    assert ended.code == 2 and "larger than the system allows" in ended.line
    assert {path.name for path in tmp_path.iterdir()} == {"a-run"}


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="mounts a small disk")
def test_a_full_disk_leaves_no_half_file(cli: Callable[..., Ended], tmp_path: Path) -> None:
    results, disk = write_results(tmp_path, many(40)), tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        ended = cli("compare", results, "--html", disk / "a.html")
        assert ended.code == 2 and "no space left" in ended.line and not list(disk.iterdir())
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_device_is_written_as_it_is(cli: Callable[..., Ended], tmp_path: Path) -> None:
    results = write_results(tmp_path)
    full = cli("compare", results, "--csv", "/dev/full")
    assert full.code == 2 and "/dev/full: no space left" in full.line
    assert Path("/dev/full").is_char_device()


def test_names_cannot_steer_the_terminal(cli: Callable[..., Ended], tmp_path: Path) -> None:
    results = write_results(tmp_path, [measurement(HOSTILE, target=HOSTILE, runtime=HOSTILE)])
    refused = cli("compare", results)
    assert refused.code == 2 and not STEERING.search(refused.line), "names that are parts of file names are plain"
    cpu = HOSTILE.replace("\0", "")
    (tmp_path / "other").mkdir()
    results = write_results(tmp_path / "other", [measurement("onnx", facts={"cpu": cpu})])
    ended = cli("compare", results)
    assert ended.code == 0 and not STEERING.search(ended.out + ended.err)
    missing = cli("inspect", "a\x1b[31m\n\u202eb.onnx")
    assert missing.code == 2 and not STEERING.search(missing.line)
    as_json = cli("compare", results, "--json")
    assert as_json.json["measurements"][0]["facts"]["cpu"] == cpu
    assert as_json.out.rstrip("\n").isascii() and as_json.out.rstrip("\n").isprintable()


@pytest.mark.slow
def test_an_encoding_without_the_character(cli: Callable[..., Ended], tmp_path: Path) -> None:
    results = write_results(tmp_path, [measurement("猫")])
    ended = cli("compare", results, env=environment(PYTHONIOENCODING="ascii"))
    assert ended.code == 0 and "?" in ended.out


@pytest.mark.parametrize(
    ("value", "text"), [(float("nan"), "null"), (float("inf"), "null"), ("\x7f\x9b", '"\\u007f\\u009b"')]
)
def test_json_is_json(capsys: pytest.CaptureFixture[str], value: Any, text: str) -> None:
    echo_json({"a": [value, 1.5]})
    assert capsys.readouterr().out == f'{{"a": [{text}, 1.5]}}\n'
    assert json.loads(text) in (None, value)


NETWORK = """
import torch
def make():
    layers = torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 2)
    return torch.nn.Sequential(*layers).eval(), torch.zeros(1, 512)
"""


@pytest.mark.slow
def test_no_half_model_is_left(cli: Callable[..., Ended], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    (tmp_path / "net.py").write_text(NETWORK)
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (900_000, 900_000))}
    assert cli("import", "net.py:make", "--out", "run", **limit).code == 2
    assert cli("import", "net.py:make", "--out", "run").code == 0
    for format in ("openvino", "tflite"):
        ended = cli("export", "run", "--to", format, **limit)
        assert ended.code == 2 and "cannot write" in ended.line
    assert {path.name for path in (tmp_path / "run").iterdir()} == {".edgekit.sha256", ".lock", "log.txt", "torch"}


def test_only_this_module_prints() -> None:
    commands = Path(edgekit.cli.__file__).parent
    printing = [
        path.name for path in commands.rglob("*.py") if "click.echo(" in path.read_text() and path.name != "output.py"
    ]
    assert printing == ["__init__.py"], "the version and the help"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_failure_is_one_line_and_in_a_terminal_two(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    echo_failure("runs/x has no artifact onnx.", "edgekit export runs/x")
    assert capsys.readouterr().err == "edgekit: runs/x has no artifact onnx. Next: edgekit export runs/x\n"
    terminal = _Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    echo_failure("runs/x has no artifact onnx: " + "and some more of it " * 5 + "y" * 90, "edgekit export runs/x")
    lines = terminal.getvalue().splitlines()
    assert lines[-2:] == ["  " + "y" * 90 + ".", "  Next: edgekit export runs/x"]
    assert all(len(line) <= 80 for line in lines[:-2]) and lines[1].startswith("  ")


def test_one_reason_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    whats = ("to_onnx cannot make onnx", "to_tflite cannot make tflite", "to_onnx cannot make onnx")
    failures = [CannotConvert(what, "no space", "free some") for what in whats]
    echo_failures([*failures, CannotConvert("another"), CannotConvert("another")])
    assert capsys.readouterr().err.splitlines() == [
        "edgekit: to_onnx cannot make onnx; to_tflite cannot make tflite: no space. Next: free some",
        "edgekit: another",
    ]
