"""Records that others wrote: each command answers damaged ones in a line, never with a traceback or exit code 70.

Each case once ended as a bug in edgekit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import BARS

from edgekit.cli import main

#: the command's exit code, and what it printed on stderr
Answer = tuple[int, str]
Answered = Callable[..., Answer]

DEEP: Any = []
for _ in range(300):
    DEEP = [DEEP]


@pytest.fixture
def answered(
    members: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Answered:
    """Run a command in this process, in the test's folder; an exception that is no answer reaches the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKIT_TRACEBACK", "1")

    def call(*words: object) -> Answer:
        code = main([str(word) for word in words])
        return code, capsys.readouterr().err

    return call


def change(path: Path, *keys: Any, value: Any) -> None:
    """Write another value at the place of a JSON file."""
    document = inner = json.loads(path.read_text())
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    path.write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("kind",), 3, "kind: must be"),
        (("inputs",), "x", "it has no list of inputs"),
        (("inputs", 0), [], r"inputs[0]: must be"),
        (("inputs", 0, "shape"), ["a"], "inputs[0].shape[0]: must be an integer, not string 'a'"),
        (("inputs", 0, "shape"), [-4], "inputs[0]: shape must not hold negative sizes"),
        (("inputs", 0, "signature"), {"kind": 3}, "inputs[0].signature.kind: must be one of"),
        (("outputs", 0, "quantization"), [0.1], "outputs[0].quantization: must be a list of 2 values"),
        (("sizes", "total"), "big", "sizes.total: must be an integer"),
        (("sizes", "total"), 10**400, "sizes.total has more than 64 bits"),
        (("parents",), [{"role": "parent"}], "parents[0]: 'name' is missing"),
        (("files",), ["model.onnx"], "files: must be a table, not list"),
        (("files",), {"model.onnx": 3}, "files.model.onnx: must be a string"),
        (("details",), DEEP, "nested too deeply"),
        (("licences",), "MIT", "licences: must be a list of a string"),
        (("step",), None, "step: must be a string, not nothing"),
        (("task",), "a\0b", "task holds a NUL character"),
        (("scheme",), "\ud800", "scheme holds half a surrogate pair"),
    ],
)
def test_an_artifact_of_wrong_types(answered: Answered, bars_run: Path, keys: Any, value: Any, said: str) -> None:
    path = bars_run / "onnx" / "artifact.json"
    change(path, *keys, value=value)
    code, line = answered("inspect", bars_run / "onnx")
    assert code == 2 and str(path) in line and said in line, line


@pytest.mark.parametrize("raw", [b"", b"[]", b"\xff\xfe{}", b'{"a": ' + b"9" * 5000 + b"}", b"[" * 100_000, b"nul"])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("onnx/artifact.json", ("inspect", "{run}/onnx")),
        ("results.json", ("compare", "{run}")),
        ("torch/model.json", ("inspect", "{run}/torch")),
    ],
)
def test_a_file_that_is_no_record(
    answered: Answered, bars_run: Path, name: str, words: tuple[str, ...], raw: bytes
) -> None:
    path = bars_run / name
    path.write_bytes(raw)
    if name == "torch/model.json":
        from edgekit.core.files import sha256

        change(bars_run / "torch" / "artifact.json", "files", "model.json", value=sha256(path))
    code, line = answered(*(word.format(run=bars_run) for word in words))
    assert code == 2 and str(path) in line, line


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"onnx-int8": []}', b"\xff", b"[" * 100_000, b'{"layers": {}}'])
def test_evidence_that_is_damaged_is_made_again(answered: Answered, bars_run: Path, raw: bytes) -> None:
    """Checks, attempts, samples and predictions are no results: what cannot be read counts as absent."""
    for path in (*bars_run.rglob("verify.json"), *bars_run.rglob("answers-*.json"), *bars_run.glob("samples-*.json")):
        path.write_bytes(raw)
    (bars_run / "methods.json").write_bytes(raw)
    (bars_run / "onnx-int8" / "layers.json").write_bytes(raw)
    assert answered("compare", bars_run, "--html", "report.html")[0] == 0
    assert answered("inspect", bars_run / "onnx-int8")[0] == 0


def test_samples_and_predictions_of_wrong_types(answered: Answered, bars_run: Path) -> None:
    change(next(bars_run.glob("samples-*.json")), "samples", 0, "index", value="first")
    change(next(bars_run.glob("onnx/answers-*.json")), "answers", 0, value=3)
    assert answered("compare", bars_run, "--html", "report.html")[0] == 0


def test_a_history_of_wrong_types(answered: Answered, bars_run: Path) -> None:
    for value in ("x", None, [], float("nan")):
        change(bars_run / "torch" / "artifact.json", "details", "history", 1, "val_loss", value=value)
        assert answered("compare", bars_run, "--html", "report.html")[0] == 0


def test_records_that_name_each_other_in_a_circle(answered: Answered, bars_run: Path) -> None:
    first, second = (json.loads((bars_run / name / "artifact.json").read_text()) for name in ("torch", "onnx"))
    parent = {"role": "parent", "name": second["name"], "id": second["id"]}
    change(bars_run / "torch" / "artifact.json", "parents", value=[parent])
    code, line = answered("inspect", bars_run / "onnx")
    assert code == 2 and "would be its own ancestor" in line
    assert first["name"] in line or second["name"] in line
    assert answered("compare", bars_run, "--html", "report.html")[0] == 0
    assert answered("export", bars_run, "--to", "onnx")[0] == 2


def test_a_parent_that_is_missing_or_another(answered: Answered, bars_run: Path) -> None:
    path = bars_run / "onnx" / "artifact.json"
    record = json.loads(path.read_text())
    for parent, said in (({"name": "gone"}, "gone"), ({"id": "0" * 16}, "has been replaced since")):
        path.write_text(json.dumps({**record, "parents": [{**record["parents"][0], **parent}]}))
        code, line = answered("inspect", bars_run / "onnx")
        assert code == 2 and said in line


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own edgekit.toml, which needs no trust."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    (tmp_path / "config" / "edgekit").mkdir(parents=True)
    return tmp_path / "config" / "edgekit" / "edgekit.toml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[bench]\nquick = 3\n", "quick = '3' cannot be used: it is true or false"),
        ("[bench]\nthreads = true\n", "threads = 'True' cannot be used: it takes a value"),
        ("[bench]\nthreads = [1, 2]\n", "it takes one value"),
        ('[bench]\nprocesses = "many"\n', "processes = 'many' cannot be used: 'many' is not a valid integer"),
        ("[bench]\nprocesses = 0\n", "processes = '0' cannot be used"),
        ("[bench]\ntarget = [[1]]\n", "it takes a list of texts or numbers"),
        ("[bench.samples]\nx = 1\n", "it takes one value"),
        ("samples = nan\n", "samples is nan"),
        ("samples = 99999999999999999999\n", "samples has more than 64 bits"),
        ("samples = " + "9" * 5000, "4300 digits"),
        ("x = " + "[" * 5000, "nested too deeply"),
        ("x = " + "[" * 200 + "]" * 200, "nested too deeply"),
        ('quiet = "\\u0000"', "quiet holds a NUL character"),
    ],
)
def test_settings_of_wrong_types(answered: Answered, own_settings: Path, text: str, said: str) -> None:
    own_settings.write_text(text)
    code, line = answered("doctor")
    assert code == 2 and "edgekit.toml" in line and said in line, line


def test_settings_of_a_flag_and_a_byte_order_mark(answered: Answered, bars_run: Path, own_settings: Path) -> None:
    own_settings.write_bytes(b"\xef\xbb\xbf[bench]\nquick = true\nthreads = 2\n[compare]\nquick = false\n")
    assert answered("compare", bars_run)[0] == 0
    code, line = answered("bench", bars_run / "nothing")
    assert code == 2 and "nothing" in line


@pytest.mark.parametrize(
    "words",
    [
        ("bench", "{run}", "--threads", "9" * 5000),
        ("bench", "{run}", "--threads", "0"),
        ("bench", "{run}", "--threads", "1,nan"),
        ("bench", "{run}", "--samples", "1e99"),
        ("bench", "{run}", "--sustained", "9" * 400),
        ("inspect", "{run}", "--shape", "9" * 5000),
        ("inspect", "{run}", "--shape", "input=1x" + "9" * 30),
        ("inspect", "a" * 5000),
        ("inspect", "{run}/" + "a" * 300),
        ("predict", "{run}/onnx", "bars:test:" + "9" * 5000),
        ("predict", "{run}/onnx", "bars:test:²"),
        ("compare", "{run}", "--against", "a" * 5000, "--fail-if", "size>+2%"),
        ("compare", "\udce4"),
        ("train", "bars", "--out", "\udce4"),
        ("run", "bars.toml", "--dry-run", "--set", "train.lr=nan"),
        ("run", "bars.toml", "--dry-run", "--set", "train.epochs=" + "9" * 5000),
        ("run", "bars.toml", "--dry-run", "--set", "plan.timeout=inf"),
        ("run", "bars.toml", "--dry-run", "--set", "train.x=" + "[" * 3000),
    ],
)
def test_words_of_the_command_line(answered: Answered, bars_run: Path, words: tuple[str, ...]) -> None:
    (bars_run.parent / "bars.toml").write_text(BARS)
    code, line = answered(*(word.format(run=bars_run) for word in words))
    assert code == 2, line
    assert line.encode("utf-8") and len(line) < 12_000


def test_arrays_that_numpy_cannot_read(answered: Answered, bars_run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((1, 1, 20, 20), np.float32))
    whole = (tmp_path / "x.npy").read_bytes()
    np.savez(tmp_path / "z.npz", input=np.zeros((1, 1, 20, 20), np.float32))
    for raw in (
        whole.replace(b"(1, 1, 20, 20), }", b"(1, 1, 20, 20,    "),  # its header never ends: tokenize.TokenError
        whole.replace(b"(1, 1, 20, 20), }", b"(99999999999999,)}"),
        whole[:90],
        (tmp_path / "z.npz").read_bytes(),
        b"",
    ):
        (tmp_path / "x.npy").write_bytes(raw)
        code, line = answered("predict", bars_run / "onnx", "x.npy")
        assert code == 2 and "x.npy" in line
    (tmp_path / "z.npz").write_bytes(whole)
    code, line = answered("predict", bars_run / "onnx", "z.npz")
    assert code == 2 and "z.npz" in line


def test_folders_of_classes_with_unusable_names(answered: Answered, bars_run: Path, tmp_path: Path) -> None:
    from PIL import Image

    bad, plain = (tmp_path / "photos" / os.fsdecode(name) for name in (b"\xe4", b"plain"))
    for folder in (bad, plain):
        folder.mkdir(parents=True)
        Image.new("L", (20, 20)).save(folder / "a.png")
    code, line = answered("predict", bars_run / "onnx", "photos:0")
    assert code == 2 and "not UTF-8" in line
    bad.rename(tmp_path / "photos" / ("9" * 250))
    assert answered("predict", bars_run / "onnx", "photos:0")[0] == 0, "a long number is a name"
