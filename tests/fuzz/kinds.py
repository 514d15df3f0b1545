"""Every kind of input that edgekit reads: a valid file of each, how it is damaged, and the commands that read it."""

from __future__ import annotations

import json
import shutil
import struct
import subprocess
import sys
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fuzz import mutations
from helpers import BARS, QUICK_PLAN, environment, run_cli

#: what a recipe, a table and a signature look like; `bars` is the task of the tests
SIGNATURE = """\
[[input]]
kind = "image"
colour = "gray"
resize = {mode = "stretch", size = [20, 20]}
mean = [0.5]
std = [0.5]

[[output]]
kind = "logits"
classes = ["top", "bottom", "left", "right"]
"""
TARGET = """\
name = "pi"
title = "A board"
device = "ssh"
address = "pi@192.0.2.1:2222"
arch = "aarch64"
isa = ["asimd"]
runtimes = { onnxruntime = ">=1.17" }
"""
SETTINGS = """\
threads = 1

[compare]
quick = true
"""


@dataclass(frozen=True)
class Kind:
    """`file` of the work folder is damaged. `commands`: lines that read it, run in `folder`; one for each input."""

    name: str
    file: str
    mutation: mutations.Mutation
    commands: Sequence[str]
    folder: str = "."


READ_RUN = ("compare run --stored", "inspect run/onnx", "inspect run/onnx-int8", "targets list", "clean copy --yes")
PREDICT = "predict run/onnx {file}"
KINDS = (
    Kind("artifact", "run/onnx/artifact.json", mutations.json_tree, (*READ_RUN, "predict run/onnx data/a.npy")),
    Kind("artifact of int8", "run/onnx-int8/artifact.json", mutations.json_tree, READ_RUN),
    Kind(
        "artifact of torch",
        "run/torch/artifact.json",
        mutations.json_tree,
        ("inspect run/torch", "export copy --to onnx"),
    ),
    Kind("network", "run/torch/model.json", mutations.json_tree, ("inspect run/torch", "export copy --to onnx")),
    Kind(
        "results",
        "run/results.json",
        mutations.json_tree,
        (
            "compare run --stored",
            "compare run --stored --html p.html --markdown p.md --csv p.csv --picture p.svg --summary s.svg",
            "compare run --stored --json",
        ),
    ),
    Kind(
        "baseline",
        "base/results.json",
        mutations.json_tree,
        ("compare run --stored --against base --fail-if accuracy<-1pp",),
    ),
    Kind(
        "run's recipe",
        "run/recipe.toml",
        mutations.toml_tree,
        ("compare run --stored", "run run/recipe.toml --dry-run --out out"),
    ),
    Kind("recipe", "bars.toml", mutations.toml_tree, ("run bars.toml --dry-run --out out",)),
    Kind("settings", "config/edgekit/edgekit.toml", mutations.toml_tree, ("compare run --stored", "targets list")),
    Kind("folder's settings", "cloned/edgekit.toml", mutations.toml_tree, ("targets list",), "cloned"),
    Kind("folder's target", "cloned/targets/pi2.toml", mutations.toml_tree, ("targets show pi2",), "cloned"),
    Kind(
        "target",
        "config/edgekit/targets/pi.toml",
        mutations.toml_tree,
        ("targets show pi", "targets list", "bench run/onnx --target pi --quick"),
    ),
    Kind("signature", "sig.toml", mutations.toml_tree, ("import models/plain.onnx --signature sig.toml --out out",)),
    Kind(
        "processor",
        "preprocessor_config.json",
        mutations.json_tree,
        ("import models/photo.onnx --signature preprocessor_config.json --out out",),
    ),
    Kind("onnx", "models/plain.onnx", mutations.onnx_model, ("inspect {file}", "import {file} --out out")),
    Kind("tflite", "models/plain.tflite", mutations.plain, ("inspect {file}", "import {file} --out out")),
    Kind("openvino", "models/plain.xml", mutations.xml, ("inspect {file}", "import {file} --out out")),
    Kind(
        "openvino's weights",
        "models/plain.bin",
        mutations.plain,
        ("inspect models/plain.xml", "import models/plain.xml --out out"),
    ),
    Kind("keras", "models/plain.keras", mutations.archive, ("inspect {file}", "import {file} --out out")),
    Kind("pt2", "models/plain.pt2", mutations.archive, ("inspect {file}", "import {file} --out out")),
    Kind("checkpoint", "models/plain.pt", mutations.archive, ("import {file} --model cnn --task bars --out out",)),
    Kind(
        "safetensors", "models/plain.safetensors", mutations.plain, ("import {file} --model cnn --task bars --out out",)
    ),
    Kind("npy", "data/a.npy", mutations.plain, (PREDICT,)),
    Kind("npz", "data/a.npz", mutations.archive, (PREDICT,)),
    Kind(
        "labelled samples",
        "data/set.npz",
        mutations.archive,
        ("bench models/plain.onnx --data {file} --quick --samples 4 --out out",),
    ),
    Kind(
        "table",
        "data/rows.csv",
        mutations.table,
        (
            "bench models/rows.onnx --data {file} --quick --out out",
            "verify models/rows.onnx --against models/rows.onnx --val {file}",
        ),
    ),
    Kind("image", "data/a.png", mutations.plain, (PREDICT,)),
    Kind("photo", "data/a.jpg", mutations.plain, (PREDICT,)),
    Kind("sound", "data/a.wav", mutations.plain, ("predict models/sound.onnx {file}",)),
    Kind(
        "onnx in a run",
        "run/onnx/model.onnx",
        mutations.onnx_model,
        ("inspect run/onnx", "compare run --stored", "predict run/onnx data/a.npy"),
    ),
)


def make(folder: Path) -> None:
    """Fill `folder` with a run of the task `bars` in every format, models of other tools, data, and settings."""
    import onnx
    import safetensors.torch
    import torch
    from PIL import Image

    folder.mkdir(parents=True)
    (folder / "bars.toml").write_text(BARS + QUICK_PLAN)
    _edgekit("run", "bars.toml", "--out", "run", cwd=folder)
    _edgekit("export", "run", "--to", "onnx,tflite,openvino", cwd=folder)
    models, data = folder / "models", folder / "data"
    models.mkdir(), data.mkdir()
    model = onnx.load(folder / "run/onnx/model.onnx")
    onnx.save(model, models / "plain.onnx")
    for name in ("tflite/model.tflite", "openvino/model.xml", "openvino/model.bin"):
        shutil.copy(folder / "run" / name, models / f"plain{Path(name).suffix}")
    shutil.copy(folder / "run/torch/model.safetensors", models / "plain.safetensors")
    _linear(models / "rows.onnx", [4]), _linear(models / "sound.onnx", [100]), _linear(models / "photo.onnx", [3, 8, 8])
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.LazyLinear(4))
    example = torch.zeros(1, 1, 8, 8)
    network(example)
    torch.export.save(torch.export.export(network.eval(), (example,)), models / "plain.pt2")
    weights = safetensors.torch.load_file(models / "plain.safetensors")
    torch.save({"state_dict": weights, "epoch": 3}, models / "plain.pt")
    code = (
        "import keras; from keras import layers; "
        "keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3), layers.Flatten()]).save('plain.keras')"
    )
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=models,
        env=environment(KERAS_BACKEND="torch"),
        check=True,
        capture_output=True,
    )
    rng = np.random.default_rng(0)
    shape = tuple(json.loads((folder / "run/onnx/artifact.json").read_text())["inputs"][0]["shape"][1:])
    samples = rng.random((8, *shape), np.float32)
    np.save(data / "a.npy", samples[0])
    np.savez(data / "a.npz", input=samples[:1])
    np.savez(data / "set.npz", input=samples, label=np.arange(8) % 4)
    rows = [",".join(["label", *(f"x{n}" for n in range(4))])]
    rows += [",".join([str(n % 4), *(f"{value:.3f}" for value in rng.random(4))]) for n in range(8)]
    (data / "rows.csv").write_text("\n".join(rows) + "\n")
    picture = Image.fromarray((rng.random((8, 8)) * 255).astype(np.uint8))
    picture.save(data / "a.png"), picture.save(data / "a.jpg")
    with wave.open(str(data / "a.wav"), "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(8000)
        sound.writeframes(struct.pack("<100h", *range(100)))
    for name, text in {"sig.toml": SIGNATURE, "canary.py": _canary(folder)}.items():
        (folder / name).write_text(text)
    processor: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": 8, "width": 8},
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
        "do_rescale": True,
        "rescale_factor": 0.00392,
        "resample": 2,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    (folder / "cloned/targets").mkdir(parents=True)
    (folder / "cloned/edgekit.toml").write_text(SETTINGS)
    (folder / "cloned/targets/pi2.toml").write_text(TARGET.replace("pi", "pi2", 1))
    targets = folder / "config/edgekit/targets"
    targets.mkdir(parents=True)
    (targets / "pi.toml").write_text(TARGET)
    (targets.parent / "edgekit.toml").write_text(SETTINGS)
    shutil.copytree(folder / "run", folder / "base")


def _linear(path: Path, shape: list[int]) -> None:
    """A linear network of rows of numbers, of sound, or of photos."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.ones((shape[-1], 4), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "rows",
        [value("x", TensorProto.FLOAT, ["n", *shape])],
        [value("y", TensorProto.FLOAT, ["n", *shape[:-1], 4])],
        [weight],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)


def _canary(folder: Path) -> str:
    """A module that leaves a file when it is imported."""
    file = str(folder.parent / "outside" / "executed")
    return f"import pathlib\npathlib.Path({file!r}).touch()\nclass Net: pass\nmake = Net\n"


def _edgekit(*words: str, cwd: Path) -> None:
    ended = run_cli(*words, cwd=cwd, env=environment(XDG_CONFIG_HOME=str(cwd / "nowhere")))
    assert ended.code == 0, ended.err
