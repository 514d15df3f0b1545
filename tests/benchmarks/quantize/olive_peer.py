"""Olive in an environment of its own: its dependencies and edgekit's do not go together."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from data import cache

if TYPE_CHECKING:
    from peers import Feed

    from edgekit.core.artifact import Artifact

PACKAGE, VERSION = "olive-ai", "0.13.0"
#: registers the samples as a data set of Olive's; it runs in Olive's environment
SCRIPT = Path(__file__).with_name("olive_samples.py")


def olive(model: Artifact, feeds: Sequence[Feed], out: Path) -> Path:
    """Its pass `OnnxQuantization`, static, with nothing else said. Raises RuntimeError with its last words."""
    samples, config = out / "samples.npz", out / "config.json"
    np.savez(samples, **{name: np.concatenate([feed[name] for feed in feeds]) for name in feeds[0]})
    config.write_text(json.dumps(_config(model, samples, out), indent=1))
    command = [str(environment()), "-m", "olive", "run", "--config", str(config)]
    silent = {**os.environ, "OLIVE_DISABLE_TELEMETRY": "1"}
    done = subprocess.run(command, cwd=out, env=silent, capture_output=True, text=True, timeout=900)
    made = sorted((out / "made").rglob("*.onnx"))
    if done.returncode or not made:
        raise RuntimeError((done.stderr.strip().splitlines() or ["it made no file"])[-1])
    made[0].replace(out / "model.onnx")
    samples.unlink()
    for folder in ("made", "cache"):
        shutil.rmtree(out / folder)
    return out / "model.onnx"


def _config(model: Artifact, samples: Path, out: Path) -> dict[str, object]:
    calibration = {
        "name": "calibration",
        "user_script": str(SCRIPT),
        "load_dataset_config": {"type": "samples", "path": str(samples)},
        "dataloader_config": {"batch_size": 1},
    }
    return {
        "input_model": {"type": "ONNXModel", "model_path": str(model.path / "model.onnx")},
        "data_configs": [calibration],
        "passes": {"int8": {"type": "OnnxQuantization", "quant_mode": "static", "data_config": "calibration"}},
        "output_dir": str(out / "made"),
        "cache_dir": str(out / "cache"),
    }


def environment() -> Path:
    """The Python of Olive's environment, set up at first use. Raises RuntimeError where that fails."""
    folder = cache() / f"olive-{VERSION}"
    python = folder / "bin" / "python"
    ready = folder / ".ready"
    if not ready.is_file():
        same = [f"{name}=={version(name)}" for name in ("onnxruntime", "torch", "onnx")]
        needs = [f"{PACKAGE}=={VERSION}", "requests", *same]  # it imports requests, and does not say so
        install = [str(python), "-m", "pip", "install", "-q", *needs]
        for command in ([sys.executable, "-m", "venv", str(folder)], install):
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                why = (done.stderr.strip().splitlines() or [""])[-1]
                raise RuntimeError(f"cannot install {PACKAGE} {VERSION}: {why}")
        ready.touch()
    return python
