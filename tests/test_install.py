"""Each extra alone: what it brings works, and what it does not bring says what to install.

Real wheels into real environments, so slow, and only where packages can be had.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from helpers import Ended, run_cli

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
