"""The wheel: all of the package is in it; each extra alone works, and says what to install for what it does not bring;
three stories of newcomers with nothing else of edgekit. Slow: real wheels in real environments.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers import ONE_THREAD, Ended, run_cli

ROOT = Path(__file__).parents[1]
FILES = {"onnx": "onnx/model.onnx", "tflite": "tflite/model.tflite", "openvino": "openvino/model.xml"}


@pytest.fixture(scope="module")
def models(bars_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bars network in every format, made here, to be taken elsewhere."""
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(bars_made, folder / "run")
    ended = run_cli("export", "run", "--to", ",".join(FILES), cwd=folder)
    assert ended.code == 0, ended.err
    return folder / "run"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and not os.environ.get("CI"):
        pytest.skip(f"pip cannot build here: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("extra", ["", "torch", *FILES])
def test_an_extra_alone(extra: str, wheel: Path, models: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    install = [str(python), "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), wanted]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    def edgekit(*words: str) -> Ended:
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        command = [str(python), "-m", "edgekit", *words]
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return Ended(ran.returncode, ran.stdout, ran.stderr)

    assert edgekit("--help").code == 0
    assert edgekit("targets", "show", "host").code == 0, "the wheel lacks its targets"
    doctor = edgekit("doctor", "--json").json["result"]["extras"]
    assert doctor.get(extra, {"installed": True})["installed"]
    assert edgekit("run", "--dry-run").code in (0, 3), "the wheel lacks its recipes"
    for format, file in FILES.items():
        ended = edgekit("bench", str(models / file), "--quick", "--out", f"runs/{format}")
        if format == extra:
            assert ended.code == 0, ended.err
        elif ended.code:
            assert ended.code == 3, (format, ended.err)
            assert "pip install 'edgekit-toolkit[" in ended.line
    if not extra:
        assert edgekit("train").code == 3


@pytest.mark.slow
def test_the_wheel_is_whole(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(
        ["git", "ls-files", "edgekit", "targets", "calibration"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in listed.stdout.splitlines():
        assert (name if name.startswith("edgekit/") else f"edgekit/{name}") in names, name
    assert len(names) > 400


# --- newcomers: a fresh folder, the wheel, and the installed dependencies --------------------------------------------

Newcomer = Callable[..., Ended]


@pytest.fixture(scope="module")
def fresh(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel; what it depends on comes from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    subprocess.run([*pip, "install", "-q", "--no-deps", "--no-index", str(wheel)], check=True)
    site = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "bin"


@pytest.fixture
def newcomer(fresh: Path, tmp_path: Path) -> Newcomer:
    """Run a program of that environment in the test's folder."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def call(*words: str) -> Ended:
        command = [str(fresh / words[0]), *words[1:]]
        done = subprocess.run(command, cwd=tmp_path, env={**kept, **ONE_THREAD}, capture_output=True, text=True)
        return Ended(done.returncode, done.stdout, done.stderr)

    where = call("python", "-c", "import edgekit; print(edgekit.__file__)").out
    assert where.startswith(str(fresh.parent)), f"not the wheel's: {where}"
    return call


#: a classifier of one's own, and the script that trained it
NETWORK = '''
import torch
from torch import nn


class Net(nn.Module):
    """(N, 1, 8, 8) pixels from 0 to 16 → (N, 10) logits."""

    def __init__(self):
        super().__init__()
        first = nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.ReLU()
        self.layers = nn.Sequential(*first, nn.Flatten(), nn.Linear(1024, 64), nn.ReLU(), nn.Linear(64, 10))

    def forward(self, x):
        return self.layers(x / 16)


def make():
    network = Net()
    network.load_state_dict(torch.load("net.pt", weights_only=True))
    return network, torch.zeros(1, 1, 8, 8)
'''
TRAINED = """
import numpy as np, torch
from sklearn.datasets import load_digits
from net import Net
images, labels = load_digits(return_X_y=True)
images = images.reshape(-1, 1, 8, 8).astype(np.float32)
order = np.random.default_rng(0).permutation(len(images))
torch.manual_seed(0)
network = Net()
optimizer = torch.optim.Adam(network.parameters(), 2e-3)
for part in np.array_split(np.tile(order[:1300], 4), 160):
    loss = torch.nn.functional.cross_entropy(network(torch.tensor(images[part])), torch.tensor(labels[part]))
    optimizer.zero_grad(); loss.backward(); optimizer.step()
torch.save(network.state_dict(), "net.pt")
np.savez("train.npz", input=images[order[:1300]], label=labels[order[:1300]])
np.savez("val.npz", input=images[order[1300:]], label=labels[order[1300:]])
np.save("one.npy", images[order[1300]]); print(labels[order[1300]])
"""


def lines(program: str) -> int:
    """Lines that are written, without blank ones."""
    return len([line for line in program.splitlines() if line.strip()])


@pytest.mark.slow
def test_a_classifier_of_ones_own_becomes_a_bundle(newcomer: Newcomer, tmp_path: Path) -> None:
    """Two commands and a module of 14 lines; the bundle answers without edgekit."""
    assert lines(NETWORK) == 14
    (tmp_path / "net.py").write_text(NETWORK)
    trained = newcomer("python", "-c", TRAINED)
    assert trained.code == 0, trained.err
    commands = [
        "edgekit quantize net.py:make --int8 --to onnx --calibration train.npz --val val.npz --fast",
        "edgekit deploy runs/net/onnx-int8 --bundle bundle",
    ]
    assert len(commands) == 2
    for line in commands:
        ended = newcomer(*line.split())
        assert ended.code == 0, ended.err
    model = next((tmp_path / "runs/net/onnx-int8").glob("*.onnx"))
    assert model.stat().st_size < (tmp_path / "net.pt").stat().st_size / 3
    alone = subprocess.run(
        [sys.executable, "bundle/predict.py", "--json", "one.npy"], cwd=tmp_path, capture_output=True, text=True
    )
    assert alone.returncode == 0 and alone.stdout.startswith("{"), alone.stderr


@pytest.mark.slow
def test_a_data_frame_becomes_an_int8_file_in_ten_lines(newcomer: Newcomer, tmp_path: Path) -> None:
    pytest.importorskip("pandas", reason="pandas is not installed")
    rows = [f"{area},{area % 5 + 1},{area * 3000 + area % 5 * 10_000}.5" for area in range(30, 430)]
    (tmp_path / "houses.csv").write_text("\n".join(["area,rooms,price", *rows]))
    program = """
import pandas

import edgekit

houses = pandas.read_csv("houses.csv")
model = edgekit.train(houses, label="price", epochs=8)
small = model.quantize(to="onnx", effort="fast", max_drop=5)
prices = small.predict(houses[["area", "rooms"]])
print(small.precision, small.size < model.export("onnx").size, len(prices))
"""
    assert lines(program) == 7 <= 10
    ended = newcomer("python", "-c", program)
    assert ended.code == 0, ended.err
    precision, *rest = ended.out.split()[-3:]
    assert precision in ("int8", "dynamic") and rest == ["True", "400"], "int8 weights, and smaller"


@pytest.mark.slow
def test_a_gate_in_ci(newcomer: Newcomer, models: Path, tmp_path: Path) -> None:
    """Three commands; a worse model fails the third, and the XML says which gate."""
    shutil.copytree(models / "onnx", tmp_path / "mine")
    gate = "edgekit compare runs/new --against baseline --fail-if size>+2% --fail-if memory>+500% --junit gates.xml"
    commands = [
        "edgekit bench mine/model.onnx --quick --processes 1 --out baseline",
        "edgekit bench mine/model.onnx --quick --processes 1 --out runs/new",
        gate,
    ]
    assert len(commands) == 3
    for line in commands:
        ended = newcomer(*line.split())
        assert ended.code == 0, ended.err
    assert "2 of 2 gates passed" in ended.out
    results = tmp_path / "baseline" / "results.json"
    size = (tmp_path / "mine" / "model.onnx").stat().st_size
    results.write_text(results.read_text().replace(f'"size_bytes": {size}', f'"size_bytes": {size // 2}'))
    ended = newcomer(*gate.split())
    assert ended.code == 1 and "1 of 2 gates passed, 1 failed" in ended.out, ended.err
    (suite,) = ElementTree.parse(tmp_path / "gates.xml").getroot()
    assert [len(case.findall("failure")) for case in suite] == [1, 0]
