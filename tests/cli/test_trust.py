"""A folder from elsewhere: nothing in it decides anything, and no code in it runs, before it is trusted."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ended, command, environment, run_cli, trust

from edgekit.cli import main
from edgekit.core.files import sha256
from edgekit.core.trust import is_trusted

Capture = pytest.CaptureFixture[str]

#: a module that makes a file where it is run
MARK = "from pathlib import Path\nPath({!r}).touch()\n"
CODE = MARK + "class Net: ...\nclass Task: ...\nclass Step: ...\nclass Kind: ...\n"


@pytest.fixture
def cloned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder; `ran` is made by code of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text(CODE.format(str(tmp_path / "ran")))
    return tmp_path


def test_settings_are_used_once_they_are_trusted(cloned: Path, cli: Callable[..., Ended]) -> None:
    settings = cloned / "edgekit.toml"
    settings.write_text("[predict]\ntop = 0\n")  # which is wrong, so that its use shows
    line = cli("predict", "x", "y").line
    assert "edgekit.toml of this folder is not used: the folder is not trusted" in line and "edgekit trust" in line
    assert cli("predict", "--help").code == 0
    asked = cli("trust")
    assert asked.code == 2 and asked.line.endswith("Next: edgekit trust --yes")
    done = cli("trust", "--yes")
    assert (done.code, "top = 0" in done.err, "trusted until these files change" in done.out) == (0, True, True)
    assert "top = '0' cannot be used" in cli("predict", "x", "y").line
    settings.write_text("[predict]\ntop = 3\n")
    ended = cli("predict", "x", "y")
    assert ended.code == 2 and "has changed since" in ended.line


@pytest.mark.parametrize(
    "text",
    [
        'out = "/tmp/x"',
        'target = "theirs"',
        'run.target = ["theirs"]',
        'inspect.target = "theirs"',
        'compare.html = "~/.bashrc"',
        'compare.tensorboard = "x"',
        'train.tensorboard = "x"',
        'optimize.storage = "sqlite:///x"',
        'deploy.path = "/"',
        'deploy.bundle = "x"',
        "deploy.rollback = true",
        "clean.yes = true",
        'prune.name = "../x"',
        'run.set = ["train.model=evil.py:Net"]',
        "run.set = [\"targets=['theirs']\"]",
        'train.model = "evil.py:Net"',
        'train.data = "evil.py:Task:val"',
        'import.task = "evil.py:Task"',
        'import.classes = "os:sep"',
        'import.signature = "evil.py:Net"',
        'train.init = "evil.py:Net"',
    ],
)
def test_what_the_settings_of_a_folder_may_never_set(cloned: Path, capsys: Capture, text: str) -> None:
    (cloned / "edgekit.toml").write_text(text + "\n")
    trust(cloned)
    assert main(["targets", "show", "null"]) == 2
    said = capsys.readouterr().err
    assert "is refused: a folder's own settings may not" in said and "on the command line" in said
    assert not (cloned / "ran").exists()


@pytest.mark.parametrize(
    "text",
    [
        'threads = "2"\nsamples = 20\nquick = true',
        'train.model = "ds-cnn"',
        'train.data = "mnist:train"',
        'quantize.methods = "min-max"\nquantize.max-drop = 1.5',
        'compare.fail-if = ["p50>+5%"]',
        'bench.precision = "bf16"',
        'optimize.try = ["width=0.5,1"]',
    ],
)
def test_what_they_may_set(cloned: Path, capsys: Capture, text: str) -> None:
    (cloned / "edgekit.toml").write_text(text + "\n")
    trust(cloned)
    assert main(["targets", "show", "null"]) == 0, capsys.readouterr().err


def test_the_users_own_settings_may_set_anything(
    cloned: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = cloned / "config" / "edgekit" / "edgekit.toml"
    own.parent.mkdir(parents=True)
    own.write_text('out = "x"\ntarget = "null"\ntrain.model = "net.py:Net"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(cloned / "config"))
    assert main(["targets", "show", "null"]) == 0
    monkeypatch.chdir(own.parent)
    assert main(["targets", "show", "null"]) == 0, "in its folder, too"


def test_settings_behind_a_link(cloned: Path, capsys: Capture, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "edgekit.toml"
    elsewhere.write_text("batch = 2\n")
    (cloned / "edgekit.toml").symlink_to(elsewhere)
    trust(cloned)
    assert main(["targets", "show", "null"]) == 2
    assert "a link that leads out of the folder" in capsys.readouterr().err


def test_a_target_of_the_folder_is_not_the_host(cloned: Path, cli: Callable[..., Ended]) -> None:
    (cloned / "targets").mkdir()
    (cloned / "targets" / "host.toml").write_text('name = "host"\ntitle = "x"\ndevice = "ssh"\naddress = "evil"\n')
    ended = cli("targets", "show", "host", "--json")
    assert ended.json["result"]["device"] == "local"
    assert ended.err.startswith("warning: targets/host.toml of this folder is not used, the folder is not trusted")
    assert cli("trust", "--yes").err.splitlines() == [
        "targets/host.toml: device 'ssh', address 'evil', in place of the shipped one"
    ]
    refused = cli("targets", "show", "host")
    assert refused.code == 2 and "cannot stand in place of the shipped target host" in refused.err


def test_a_recipe_of_a_trusted_folder_runs_no_code(cloned: Path, cli: Callable[..., Ended]) -> None:
    (cloned / "recipes").mkdir()
    (cloned / "evil.py").write_text("from pathlib import Path\nPath('ran').touch()\nNet = None\n")
    (cloned / "recipes" / "mnist.toml").write_text(
        'task = "mnist"\n[train]\nmodel = "evil.py:Net"\n[[chain]]\nsteps = ["train"]\n'
    )
    assert cli("trust", "--yes").code == 0
    ended = cli("run")
    assert ended.code == 2 and "evil.py:Net" in ended.err and not (cloned / "ran").exists()
    cli("run", "recipes/mnist.toml")
    assert (cloned / "ran").exists(), "a recipe that the user named may name code"


@pytest.mark.parametrize(
    ("words", "file", "entries"),
    [
        (("verify", "run/onnx"), "artifact.json", {"task": "evil.py:Task"}),
        (("predict", "run/onnx", "x.npy"), "artifact.json", {"task": "evil:Task"}),
        (("verify", "run/onnx"), "artifact.json", {"step": "evil.py:Step"}),
        (("bench", "run/onnx"), "artifact.json", {"kind": "evil.py:Kind"}),
        (("bench", "run/torch"), "model.json", {"model": "evil:Net"}),
        (("bench", "run/torch"), "model.json", {"model": "os:mkdir", "arguments": {"path": "ran"}}),
    ],
)
def test_an_artifact_names_code(
    cloned: Path, bars_run: Path, cli: Callable[..., Ended], words: tuple[str, ...], file: str, entries: dict[str, str]
) -> None:
    """In each of its records; none is run, and the message says which, and what to type if it is to run."""
    record = bars_run / words[1].partition("/")[2] / file
    record.write_text(json.dumps({**json.loads(record.read_text()), **entries}))
    if file == "model.json":
        artifact = json.loads(record.with_name("artifact.json").read_text())
        artifact["files"][file] = sha256(record)
        record.with_name("artifact.json").write_text(json.dumps(artifact))
    ended = cli(*words)
    assert not (cloned / "ran").exists()
    assert ended.code == 2, ended.err
    (name,) = [value for value in entries.values() if isinstance(value, str)]
    said = f"edgekit trust {name}" if {"task", "model"} & entries.keys() else name
    assert said in ended.line


def test_a_trusted_reference_runs(cloned: Path, cli: Callable[..., Ended]) -> None:
    """The story of a colleague: an artifact made by one user is used by another, who says so once."""
    code = "import torch\n\n\ndef make():\n    return torch.nn.Linear(4, 2), torch.zeros(1, 4)\n"
    (cloned / "net.py").write_text(code)
    assert cli("import", "net.py:make", "--out", "run").code == 0
    assert f"{cloned}/net.py:make" in cli("trust", "--list").out, "whoever made it need not say it again"
    bench, colleague = ("bench", "run", "--processes", 1), environment(XDG_STATE_HOME=str(cloned / "state"))
    refused = cli(*bench, env=colleague)
    assert refused.code == 2 and refused.line.endswith("edgekit trust net.py:make")
    assert cli("trust", "net.py:make", env=colleague).out == f"{cloned}/net.py:make may run\n"
    assert cli(*bench, env=colleague).code == 0


@pytest.mark.parametrize(("answer", "trusted"), [("y", True), ("n", False)])
def test_on_a_terminal_it_asks(cloned: Path, answer: str, trusted: bool) -> None:
    (cloned / "edgekit.toml").write_text('quick = true\n# \u202e"hidden"\n')
    settings = {name: value for name, value in environment().items() if name != "CI"}
    outer, inner = pty.openpty()
    words = command("targets", "show", "null", "--json")
    process = subprocess.Popen(words, cwd=cloned, env=settings, stdin=inner, stderr=inner, stdout=subprocess.PIPE)
    os.close(inner)
    os.write(outer, f"{answer}\n".encode())
    out, _ = process.communicate(timeout=60)
    shown = os.read(outer, 65536).decode()
    os.close(outer)
    assert "quick = true" in shown and "\u202e" not in shown and '\\u202e"hidden"' in shown
    assert (process.returncode, is_trusted(cloned)) == ((0, True) if trusted else (2, False))
    assert json.loads(out)["error"] is None if trusted else "not trusted" in json.loads(out)["error"]["why"]


@pytest.mark.parametrize("name", ["numpy", "click", "typing", "platformdirs", "sitecustomize_"])
def test_a_module_of_the_folder_replaces_none(cloned: Path, name: str) -> None:
    """`python -m` would take it from the working directory."""
    (cloned / f"{name}.py").write_text(MARK.format(str(cloned / "ran")))
    assert run_cli("targets", "show", "null", cwd=cloned).code == 0
    assert not (cloned / "ran").exists()


def test_nothing_to_trust(cloned: Path, cli: Callable[..., Ended]) -> None:
    ended = cli("trust")
    assert (ended.code, ended.out) == (0, f"{cloned} holds nothing that needs trust\n")
    assert cli("trust", "--remove").code == 2
