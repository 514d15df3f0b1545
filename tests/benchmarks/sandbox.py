"""`make bench-sandbox`: what it costs to read and convert models in a child process with limits, per command.

Each command runs in a process of its own with and without the sandbox, in turn, on a small ONNX model: the medians in
seconds. The aim: less than 0.5 s more.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgekit.core import sandbox

COMMANDS = {
    "inspect": ("inspect", "small.onnx"),
    "import": ("import", "small.onnx", "--out"),
    "export": ("export", "small.onnx", "--to", "openvino", "--out"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print("command   with  without  overhead (s)")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        save(Path(folder, "small.onnx"))
        for name, words in COMMANDS.items():
            times: dict[str, list[float]] = {"on": [], "off": []}
            for number in range(rounds):
                for switch in times:
                    out = [f"{name}-{switch}-{number}"] if words[-1] == "--out" else []
                    times[switch].append(seconds([*words, *out], switch, folder))
            on, off = (statistics.median(values) for values in times.values())
            print(f"{name:<8}{on:6.2f}{off:9.2f}{on - off:+10.2f}")


def save(path: Path) -> None:
    """A convolution with ReLU."""
    value = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4), helper.make_node("Relu", ["c"], ["y"])]
    ends = [value("x", 1, ["n", 3, 16, 16])], [value("y", 1, ["n", 8, 16, 16])]
    graph = helper.make_graph(nodes, "small", *ends, [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)


def seconds(words: list[str], switch: str, folder: str) -> float:
    started = time.perf_counter()
    environment = {**os.environ, sandbox.SWITCH: switch}
    subprocess.run(
        [sys.executable, "-m", "edgekit", *words], cwd=folder, env=environment, capture_output=True, check=True
    )
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
