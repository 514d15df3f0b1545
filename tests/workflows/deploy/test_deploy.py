# ruff: noqa: F811 - the fixture `board`
"""`edgekit deploy` on this machine and on a real sshd: what is left behind works, and what cannot work is not begun."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from devices.sshd import Board, _board, board  # noqa: F401 - fixtures
from helpers import Ended

from edgekit.core.artifact import Artifact
from edgekit.core.errors import DeviceError, InputError
from edgekit.core.target import Target
from edgekit.devices.shared import ssh
from edgekit.devices.shared.bundle import Bundle
from edgekit.devices.shared.ssh import Session
from edgekit.devices.ssh import Ssh
from edgekit.measure import execute, targets
from edgekit.runs import named_sets
from edgekit.runs.store import Store
from edgekit.workflows import deploy, predict
from edgekit.workflows.deploy import Deployment, bundle
from edgekit.workflows.deploy.bundle import CHECKED, FLOAT, HALF, ONDEVICE, ROUNDED, tolerance
from edgekit.workflows.deploy.c_header import preprocessing_header


@pytest.fixture(autouse=True)
def _members(members: None) -> None:
    """The task `bars`."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def there(board: Board, monkeypatch: pytest.MonkeyPatch) -> Target:
    """The device, as a target that can be named; nothing is deployed there yet."""
    target = board.target()
    known(monkeypatch, target)
    shutil.rmtree(board.home / "edgekit", ignore_errors=True)
    return target


def known(monkeypatch: pytest.MonkeyPatch, target: Target) -> None:
    real = targets.load
    monkeypatch.setattr(targets, "load", lambda name: target if name == target.name else real(name))


def run_there(done: Deployment, *words: object) -> subprocess.CompletedProcess[str]:
    """What was left behind, without edgekit: from another folder, with an environment of its own."""
    bare = {"PATH": "/usr/bin:/bin"}
    return subprocess.run([f"{done.at}/run", *map(str, words)], cwd="/", env=bare, text=True, capture_output=True)


# --- what is left behind works --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["onnx", "onnx-int8"])
def test_what_is_deployed_answers_as_predict_does(bars_made: Path, home: Path, tmp_path: Path, name: str) -> None:
    done = deploy.deploy(str(bars_made / name), "host")
    assert done.how == "deployed" and Path(done.at) == home / "edgekit" / "run" / "current"
    assert done.check["ok"] and done.check["bit_identical"] and done.check["samples"] == CHECKED
    sample = named_sets.load("bars:test").inputs["input"][:1]
    np.save(tmp_path / "one.npy", sample)
    ran = run_there(done, "--json", tmp_path / "one.npy")
    assert ran.returncode == 0, ran.stderr
    (expected,) = predict.predict(str(bars_made / name), [str(tmp_path / "one.npy")], "host", 3)
    found = json.loads(ran.stdout)
    assert found["classes"] == expected["classes"] and found["outputs"] == expected["outputs"]
    assert expected["text"].split()[0] in run_there(done, tmp_path / "one.npy").stdout
    assert not list(Path(done.at).resolve().rglob("__pycache__")), "running it leaves nothing"


def test_images_are_read_as_predict_reads_them(bars_made: Path, home: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(3).integers(0, 255, (31, 45), np.uint8)
    image.fromarray(pixels).save(tmp_path / "photo.png")
    image.fromarray(pixels[:20, :20]).save(tmp_path / "fits.pgm")
    done = deploy.deploy(str(bars_made / "onnx"), "host")
    for name in ("photo.png", "fits.pgm"):
        (expected,) = predict.predict(str(bars_made / "onnx"), [str(tmp_path / name)], "host", 3)
        ran = run_there(done, "--json", tmp_path / name)
        assert json.loads(ran.stdout)["outputs"] == expected["outputs"]
    for name, said in (("none.png", "No such file"), ("bad.npy", "cannot read"), ("x.mp4", "cannot")):
        if name != "none.png":
            (tmp_path / name).write_text("no input")
        ran = run_there(done, tmp_path / name)
        assert ran.returncode == 2 and said in ran.stderr and "Traceback" not in ran.stderr
        assert len(ran.stderr.splitlines()) == 1


def test_sounds_are_read_as_predict_reads_them(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile")
    from edgekit.core.artifact import TensorSpec
    from edgekit.ondevice import preprocess
    from edgekit.sets.audio import AudioDecoder
    from edgekit.sets.options import Options

    spec = TensorSpec("x", "float32", (None, 1000))
    wave = np.sin(np.arange(900) / 9).astype(np.float32) * 0.7
    soundfile.write(tmp_path / "a.wav", np.stack([wave, wave / 2], 1), 8000, subtype="PCM_16")
    for rate in (8000, 16000, 4000):
        wanted = AudioDecoder("a", Options(rate=rate, mean=(0.1,), std=(0.5,)), [spec])(tmp_path / "a.wav", "a")
        front = {"kind": "audio", "rate": rate, "length": 1000, "shape": [1000], "mean": [0.1], "std": [0.5]}
        assert np.allclose(preprocess.sound(str(tmp_path / "a.wav"), front), wanted, atol=1e-6)


def test_the_bundle_is_a_folder_that_proves_itself(cli: Callable[..., Ended], bars_made: Path, tmp_path: Path) -> None:
    ended = cli("deploy", bars_made / "onnx-int8", "--bundle", "out", "--json")
    assert ended.code == 0, ended.err
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    there = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*") if p.is_file()}
    assert there == {"manifest.json", *manifest["files"]}
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest() == entry["sha256"]
    assert manifest["labels"] == ["top", "bottom", "left", "right"] and manifest["check"]["tolerance"] == 0
    check = [sys.executable, tmp_path / "out" / "predict.py", "--check"]
    assert json.loads(subprocess.run(check, capture_output=True).stdout)["bit_identical"]
    again = cli("deploy", bars_made / "onnx-int8", "--bundle", "out", "--json")
    assert again.code == 0 and again.json["result"]["id"] == ended.json["result"]["id"], "the same, byte for byte"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("keep")
    refused = cli("deploy", bars_made / "onnx", "--bundle", "mine")
    assert refused.code == 2 and "not a bundle" in refused.line and (tmp_path / "mine" / "file").is_file()
    model = tmp_path / "out" / "model" / "model.onnx"
    model.write_bytes(model.read_bytes()[:-1] + b"x")
    found = json.loads(subprocess.run(check, capture_output=True).stdout)
    assert not found["ok"] and "model.onnx is damaged" in found["why"]


def test_the_python_example_runs(bars_made: Path, home: Path, tmp_path: Path) -> None:
    done = deploy.deploy(str(bars_made / "onnx"), "host")
    sample = np.load(f"{done.at}/check/inputs.npz")["input"][:1].astype(np.float32)
    np.save(tmp_path / "one.npy", sample)
    ran = subprocess.run(
        [sys.executable, f"{done.at}/example.py", tmp_path / "one.npy"],
        text=True,
        capture_output=True,
        env={"HOME": ""},
    )
    expected = np.load(f"{done.at}/check/outputs.npz")["output"][0]
    assert np.allclose(np.fromstring(ran.stdout.strip(" []\n"), sep=" "), expected, rtol=1e-4, atol=1e-4), ran.stderr
    assert not (home / ".cache" / "Microsoft").exists(), "nothing is recorded"


def header() -> Path:
    """ONNX Runtime's C header, where a package has put it."""
    for folder in (os.environ.get("ONNXRUNTIME_INCLUDE", ""), "/usr/include/onnxruntime", "/usr/local/include"):
        if folder and (Path(folder) / "onnxruntime_c_api.h").is_file():
            return Path(folder)
    why = "no onnxruntime_c_api.h: Debian 13's libonnxruntime-dev, or ONNXRUNTIME_INCLUDE=folder"
    pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)


def test_the_c_example_for_onnxruntime_answers_alike(bars_made: Path, tmp_path: Path) -> None:
    """Built against the header of a package, linked to the library of the Python package."""
    include, compiler = header(), shutil.which("cc") or pytest.skip("no C compiler")
    import onnxruntime

    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    deploy.write_bundle(str(bars_made / "onnx-int8"), tmp_path / "b")
    flags = ["-O1", "-Wall", "-Wextra", "-Werror", f"-I{include}"]
    (tmp_path / "libonnxruntime.so.1").symlink_to(library)
    words = [compiler, *flags, tmp_path / "b" / "example.c", "-o", tmp_path / "example"]
    subprocess.run([*words, tmp_path / "libonnxruntime.so.1", f"-Wl,-rpath,{tmp_path}", "-lm"], check=True)
    inputs = np.load(tmp_path / "b" / "check" / "inputs.npz")["input"][:1].astype(np.float32)
    inputs.tofile(tmp_path / "input.bin")
    ran = subprocess.run(
        [tmp_path / "example", tmp_path / "b" / "model" / "model.onnx", tmp_path / "input.bin"],
        text=True,
        capture_output=True,
        env={"ORT_DISABLE_TELEMETRY": "1"},
    )
    expected = np.load(tmp_path / "b" / "check" / "outputs.npz")["output"][0]
    assert np.array_equal(np.array(ran.stdout.split(), np.float32), expected), ran.stderr
    (tmp_path / "input.bin").write_bytes(b"short")
    ran = subprocess.run([tmp_path / "example", tmp_path / "b" / "model" / "model.onnx", tmp_path / "input.bin"])
    assert ran.returncode == 2


def test_the_c_example_for_litert_compiles(tmp_path: Path) -> None:
    """No package has the library for it, so it is not run."""
    compiler = shutil.which("cc") or pytest.skip("no C compiler")
    (tmp_path / "preprocessing.h").write_text(preprocessing_header({"kind": "image", "channels": 3}, ["a", "b"]))
    source, folders = ONDEVICE / "examples" / "litert.c", (f"-I{tmp_path}", f"-I{ONDEVICE / 'native'}")
    flags = ("-Wall", "-Wextra", "-Werror", *folders)
    subprocess.run([compiler, *flags, "-c", source, "-o", tmp_path / "x.o"], check=True)


# --- over ssh --------------------------------------------------------------------------------------------------------


def test_the_second_deploy_sends_only_a_check(bars_made: Path, board: Board, there: Target) -> None:
    Ssh(there).clean()
    ssh.close_all()
    first = deploy.deploy(str(bars_made / "onnx"), there.name)
    assert first.how == "deployed" and first.sent_bytes > first.size_bytes, "the bundle, and the script"
    assert first.check["bit_identical"] and Path(first.at) == board.home / "edgekit" / "run" / "current"
    ssh.close_all()
    second = deploy.deploy(str(bars_made / "onnx"), there.name)
    assert (second.how, second.sent_bytes, second.id) == ("unchanged", 0, first.id)
    assert second.check["ok"]
    other = deploy.deploy(str(bars_made / "onnx-int8"), there.name)
    assert other.how == "deployed" and 0 < other.sent_bytes < other.size_bytes, "what both have is sent once"
    assert other.previous == first.id


def test_back_and_forth(bars_made: Path, there: Target) -> None:
    one = deploy.deploy(str(bars_made / "onnx"), there.name)
    with pytest.raises(InputError, match="cannot roll back"):
        deploy.rollback(str(bars_made), there.name)
    two = deploy.deploy(str(bars_made / "onnx-int8"), there.name)
    back = deploy.rollback(str(bars_made), there.name)
    assert (back.how, back.id, back.previous) == ("rolled back", one.id, two.id) and back.check["ok"]
    assert deploy.list_releases(str(bars_made), there.name)["current"] == one.id
    current = Path(back.at)
    assert current.is_symlink() and str(current.readlink()) == f"releases/{one.id}"
    model = current.parent / "releases" / two.id / "model" / "model.onnx"
    model.unlink()
    with pytest.raises(DeviceError, match="cannot roll back"):
        deploy.rollback(str(bars_made), there.name)
    assert str(current.readlink()) == f"releases/{one.id}", "a damaged one is not switched to"
    again = deploy.deploy(str(bars_made / "onnx-int8"), there.name)
    assert again.id == two.id and model.is_file(), "deployed again, it is whole again"
    releases = {path.name for path in (current.parent / "releases").iterdir()}
    assert releases == {one.id, two.id}


def test_a_wrong_answer_there_is_not_switched_to(
    bars_made: Path,
    board: Board,
    there: Target,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = deploy.deploy(str(bars_made / "onnx"), there.name)
    real = execute.execute

    def off_by_little(*words: Any, **fields: Any) -> Any:
        run = real(*words, **fields)
        return dataclasses.replace(run, outputs={k: v + np.float32(1e-2) for k, v in run.outputs.items()})

    monkeypatch.setattr(bundle, "execute", off_by_little)
    for name in ("onnx", "onnx-int8"):
        with pytest.raises(DeviceError, match="do not match the host's") as error:
            deploy.deploy(str(bars_made / name), there.name)
        assert "still in use" in error.value.next
    assert str(Path(good.at).readlink()) == f"releases/{good.id}"


def test_a_cut_while_it_is_sent_leaves_what_was_there(
    bars_made: Path,
    board: Board,
    there: Target,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = deploy.deploy(str(bars_made / "onnx"), there.name)
    real = Session._put

    def cut(self: Session, sha: str, path: Path, size: int) -> dict[str, Any]:
        if path.name == "model.onnx":
            board.stop()
        return real(self, sha, path, size)

    Ssh(there).clean()  # so that everything has to be sent
    monkeypatch.setattr(Session, "_put", cut)
    with pytest.raises(DeviceError, match="was lost"):
        deploy.deploy(str(bars_made / "onnx-int8"), there.name)
    assert str(Path(good.at).readlink()) == f"releases/{good.id}" and run_there(good, "--check").returncode == 0
    monkeypatch.setattr(Session, "_put", real)
    board.start()
    assert deploy.deploy(str(bars_made / "onnx-int8"), there.name).previous == good.id


def test_a_folder_with_any_name(bars_made: Path, board: Board, there: Target, tmp_path: Path) -> None:
    mark = tmp_path / "pwned"
    for evil in (f"a b'; touch {mark}; '", f"$(touch {mark})", "-rf", "ü"):
        done = deploy.deploy(str(bars_made / "onnx"), there.name, path=f"edgekit/{evil}")
        assert Path(done.at) == board.home / "edgekit" / evil / "current"
        assert run_there(done, "--check").returncode == 0
    assert not mark.exists()
    for bad in ("\0", " "):
        with pytest.raises(InputError, match="is not a folder"):
            deploy.deploy(str(bars_made / "onnx"), there.name, path=bad)


def test_a_folder_that_cannot_be_written(bars_made: Path, board: Board, there: Target) -> None:
    (board.home / "a-file").write_text("")
    with pytest.raises(DeviceError, match="could not place"):
        deploy.deploy(str(bars_made / "onnx"), there.name, path="a-file/x")


# --- refused before anything is sent --------------------------------------------------------------------------------


@pytest.fixture
def nothing_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "send", lambda *_: pytest.fail("something was sent"))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no runtime for it": ({"runtimes": {"litert": ""}}, "is onnx"),
    "an instruction that is not there": ({"isa": ("avx", "asimddp_of_another")}, "lists asimddp_of_another"),
    "another machine": ({"arch": "riscv64"}, "says riscv64"),
    "a runtime that is too old": ({"runtimes": {"onnxruntime": ""}}, "opset"),
    "no memory": ({}, "MB of memory, and there are 17"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_there_is_not_sent(
    bars_made: Path,
    board: Board,
    nothing_sent: None,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    fields, said = REFUSED[case]
    target = board.target(**fields)
    known(monkeypatch, target)
    real = Ssh.facts
    packages = {"onnxruntime": "1.9.2", "numpy": "1.21.0"}
    changed = {"a runtime that is too old": {"packages": packages}, "no memory": {"memory_bytes": 1 << 24}}
    monkeypatch.setattr(Ssh, "facts", lambda self: {**real(self), **changed.get(case, {})})
    with pytest.raises((InputError, DeviceError)) as error:
        deploy.deploy(str(bars_made / "onnx"), target.name)
    assert said in str(error.value), str(error.value)


def test_an_artifact_for_other_instructions(
    bars_made: Path, there: Target, nothing_sent: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = Store(bars_made).get("onnx-int8")
    real = deploy._select
    other = dataclasses.replace(artifact, name="onnx-int8@arm64", scheme="s8s8")
    monkeypatch.setattr(deploy, "_select", lambda *words: (other, real(*words)[1]))
    with pytest.raises(InputError, match="made for arm64, and the device is x86"):
        deploy.deploy(str(bars_made / "onnx-int8"), there.name)
    full = dataclasses.replace(artifact, scheme="u8s8 per channel")
    monkeypatch.setattr(deploy, "_select", lambda *words: (full, real(*words)[1]))
    facts = Ssh.facts
    monkeypatch.setattr(Ssh, "facts", lambda self: {**facts(self), "isa": ["avx2"]})
    known(monkeypatch, dataclasses.replace(there, isa=()))
    with pytest.raises(InputError, match="its sums saturate"):
        deploy.deploy(str(bars_made / "onnx-int8"), there.name)


def test_torch_stays_here(cli: Callable[..., Ended], bars_run: Path) -> None:
    ended = cli("deploy", bars_run / "torch", "--target", "host")
    assert ended.code == 2 and "edgekit deploy" in ended.line
    assert cli("deploy", bars_run / "onnx").code == 2, "no target"
    assert cli("deploy", bars_run / "onnx", "--target", "null").code == 2
    assert cli("deploy", bars_run / "onnx", "--target", "raspberry-pi-5").code == 2
    assert cli("deploy", bars_run / "onnx", "--target", "host", "--list", "--rollback").code == 2
    assert cli("deploy", bars_run / "onnx", "--target", "host", "--runtime", "litert").code == 2


@pytest.mark.parametrize(
    ("format", "precision", "fields", "wanted"),
    [
        ("onnx", "", {}, FLOAT),
        ("onnx", "int8", {}, 0.0),
        ("tflite", "int8", {}, 0.0),
        ("tflite", "int8", {"keep_float": ["Conv_0"]}, ROUNDED),
        ("openvino", "int8", {}, ROUNDED),
        ("openvino", "", {}, HALF),
        ("onnx", "fp16", {}, HALF),
        ("tflite", "dynamic", {}, ROUNDED),
    ],
)
def test_how_far_answers_may_differ(
    bars_made: Path, format: str, precision: str, fields: dict[str, Any], wanted: float
) -> None:
    from edgekit.core.artifact import Kind

    kind = Kind(format, frozenset([precision] if precision else []))
    artifact: Artifact = dataclasses.replace(Store(bars_made).get("onnx"), kind=kind, fields=fields)
    host = targets.load("host")
    assert tolerance(artifact, host, host) == wanted
    if (format, precision, fields) == ("onnx", "int8", {}):
        old = dataclasses.replace(host, arch="x86_64", isa=("avx2",))
        assert tolerance(dataclasses.replace(artifact, scheme="u8s8"), old, host) == ROUNDED


def test_bundles_name_their_files(bars_made: Path, tmp_path: Path) -> None:
    artifact = Store(bars_made).get("onnx")
    host = targets.load("host")
    made: Bundle = bundle.make(artifact, "onnxruntime", named_sets.load("bars:test"), host, host, tmp_path)
    assert made.size == sum(path.stat().st_size for path in made.files.values())
    assert set(made.sha256) == set(made.files) and len(made.id) == 16
