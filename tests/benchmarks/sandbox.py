"""`make bench-sandbox`: what it costs to read and convert models in a child process with limits, per command.

Each command runs in a process of its own with and without the sandbox, in turn, on a small ONNX model: the medians of
its processor time, and of the time that passed, in seconds. The aim: less than 0.5 s more.
"""

from __future__ import annotations

import argparse
import os
import resource
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
    print("command     CPU: with  without  overhead   passed: with  without  overhead")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
        save(Path(folder, "small.onnx"))
        for name, words in COMMANDS.items():
            times: dict[str, list[tuple[float, float]]] = {"on": [], "off": []}
            for number in range(rounds):
                for switch in times:
                    out = [f"{name}-{switch}-{number}"] if words[-1] == "--out" else []
                    times[switch].append(seconds([*words, *out], switch, folder))
            line = f"{name:<8}"
            for column in (0, 1):
                on, off = (statistics.median(values[column] for values in times[switch]) for switch in times)
                line += f"{on:13.2f}{off:9.2f}{on - off:+10.2f}"
            print(line, flush=True)


def save(path: Path) -> None:
    """A convolution with ReLU."""
    value = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32), "w")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4), helper.make_node("Relu", ["c"], ["y"])]
    ends = [value("x", 1, ["n", 3, 16, 16])], [value("y", 1, ["n", 8, 16, 16])]
    graph = helper.make_graph(nodes, "small", *ends, [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)


def seconds(words: list[str], switch: str, folder: str) -> tuple[float, float]:
    """Processor time of the command and its children, and the time that passed."""
    environment, command = {**os.environ, sandbox.SWITCH: switch}, [sys.executable, "-m", "edgekit", *words]
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, time.perf_counter() - started


if __name__ == "__main__":
    main()
