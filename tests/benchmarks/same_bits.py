"""Do two checkouts of edgekit make the same model files, to the bit?

    python tests/benchmarks/same_bits.py OLD NEW          a few minutes for each checkout
    python tests/benchmarks/same_bits.py OLD OLD          is the making itself repeatable on this machine?

Where an older checkout calls an option otherwise: `--renamed --methods=--its-name`.

With the code of each: the starter recipe, int8 of a foreign ONNX file in three formats, a pruned network and one that
learnt from a teacher, all with fixed seeds and on one thread, where training on a CPU is repeatable. Printed are the
sha256 of every model file. Records (JSON) hold times and paths of their run, so they are left out. Exit 1 where a file
differs or is missing on one side.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

#: what a runtime, or torch, loads
SUFFIXES = {".onnx", ".tflite", ".xml", ".bin", ".safetensors"}
#: what a network gives on its example, by which it is known again: a record, which older checkouts do not write
RECORDS = {"outputs.safetensors"}
CLASSES, SAMPLES = 5, 256
#: each in its own process, in this order; `--quick` and `--processes` change what is measured, not what is made
COMMANDS = (
    ("run", "mnist", "--out", "mnist", "--processes", "1", "--samples", "50"),
    ("import", "foreign.onnx", "--out", "foreign"),
    (
        *("quantize", "foreign/onnx", "--int8", "--to", "onnx,tflite,openvino", "--methods", "min-max,equalize,gptq"),
        *("--calibration", "calibration.npz", "--val", "validation.npz"),
    ),
    ("prune", "mnist/torch", "--ratio", "0.5", "--epochs", "1", "--samples", "512", "--seed", "3"),
    (
        *("train", "mnist", "--model", "ds-cnn", "--teacher", "mnist/torch"),
        *("--epochs", "2", "--seed", "4", "--out", "taught"),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkouts", nargs=2, type=Path, metavar="CHECKOUT", help="a folder with edgekit/ in it")
    parser.add_argument(
        "--renamed", action="append", default=[], metavar="NEW=OLD", help="an option of older checkouts"
    )
    options = parser.parse_args()
    renamed = dict(each.split("=", 1) for each in options.renamed)
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / side for side in ("old", "new")]
        with ThreadPoolExecutor() as pool:  # each of them waits for its processes, which use one thread
            old, new = pool.map(
                lambda *each: made(*each, renamed), [each.resolve() for each in options.checkouts], places
            )
    sys.exit(compared(old, new))


def compared(old: dict[str, str], new: dict[str, str]) -> int:
    """Print what is the same and what is not; the exit code."""
    different = 0
    for name in sorted(old.keys() | new.keys()):
        before, after = old.get(name, "-"), new.get(name, "-")
        different += before != after
        print(f"{'same' if before == after else 'OTHER':<5} {name}\n      {before}")
        if before != after:
            print(f"      {after}")
    print(f"{len(old.keys() | new.keys())} model files, {different} of them different")
    return int(bool(different) or not old)


def made(checkout: Path, folder: Path, renamed: dict[str, str]) -> dict[str, str]:
    """The sha256 of every model file that the code of `checkout` makes in `folder`, by path."""
    folder.mkdir()
    inputs(folder)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("EDGEKIT_")},
        "PYTHONPATH": str(checkout),
        "OMP_NUM_THREADS": "1",
        "XDG_CONFIG_HOME": str(folder / "config"),
    }

    def python(*words: str) -> str:
        command = [sys.executable, *words]
        done = subprocess.run(command, cwd=folder, env=environment, text=True, capture_output=True, check=False)
        # 1: made, but out of its budget
        if done.returncode not in (0, 1):
            sys.exit(f"{checkout}: {' '.join(words)}: exit {done.returncode}\n{done.stderr}")
        return done.stdout.strip()

    where = python("-c", "import edgekit; print(edgekit.__file__)")
    assert Path(where).is_relative_to(checkout), f"{where} is not the code of {checkout}"
    for command in COMMANDS:
        options = python("-m", "edgekit", command[0], "--help").split()
        words = [renamed[word] if word in renamed and word not in options else word for word in command]
        started = time.monotonic()
        python("-m", "edgekit", *words, "--quiet")
        print(f"{checkout.name}: edgekit {words[0]}: {time.monotonic() - started:.0f} s", file=sys.stderr)
    models = (path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.name not in RECORDS)
    files = (path for path in models if path.is_file() and path.parent != folder)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def inputs(folder: Path) -> None:
    """A small network from elsewhere, samples for its ranges, and others with labels: what it says itself of them."""
    random = np.random.default_rng(0)
    network(folder / "foreign.onnx", random)
    values = random.normal(size=(2 * SAMPLES, 3, 12, 12)).astype(np.float32)
    session = onnxruntime.InferenceSession(folder / "foreign.onnx")
    labels = session.run(None, {"x": values})[0].argmax(axis=1)
    np.savez(folder / "calibration.npz", x=values[:SAMPLES])
    np.savez(folder / "validation.npz", x=values[SAMPLES:], label=labels[SAMPLES:])


def network(path: Path, random: np.random.Generator) -> None:
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (16, 8, 3, 3), "b2": (16,), "fc": (16, CLASSES)}
    weights = {name: random.normal(size=shape, scale=0.3).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("MatMul", ["f", "fc"], ["y"], "dense"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 12, 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(path))


if __name__ == "__main__":
    main()
