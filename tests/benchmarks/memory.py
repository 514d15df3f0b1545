"""`make bench-memory`: how much memory edgekit takes, in processes of their own.

1. `edgekit inspect` of models of 500 MB in every form: its peak over the size of the files. The aim: below 1.5.
2. `edgekit bench` on folders of 1,000 and of 10,000 images: the peaks of the host's process and of the runner that
   computes the outputs. The aim: the same for both.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import numpy as np

from edgekit.core.artifact import Artifact, Kind
from edgekit.core.progress import quiet
from edgekit.core.step import Context, Step, StepResult
from edgekit.runs.store import Store

WIDTH = 1024
LAYER_BYTES = 4 * WIDTH * WIDTH

#: runs an edgekit command and tells its own peak, and the largest of its runners'
MEASURED = """
import json, sys
from edgekit.devices.local import Local
from edgekit.ondevice.runner import peak_rss_bytes
real, runners = Local.run, [0]
def run(self, job, out):
    result = real(self, job, out)
    runners.append(result.get("peak_rss_bytes", 0))
    return result
Local.run = run
from edgekit.cli import group
try:
    group(sys.argv[1:], standalone_mode=False)
finally:
    print(json.dumps([peak_rss_bytes(), max(runners)]), file=sys.stderr)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mb", type=int, default=500, help="size of the models")
    parser.add_argument("--images", type=int, nargs="*", default=[1000, 10_000])
    options = parser.parse_args()
    floor, _ = peaks("targets", "list")
    print(f"edgekit alone: {floor / 1e6:.0f} MB\n")
    print(f"{'inspect':<24}{'files, MB':>10}{'peak, MB':>10}{'ratio':>8}")
    for name, make in MODELS.items():
        with TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
            path = make(Path(folder), options.mb * 1_000_000 // LAYER_BYTES)
            size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
            peak, _ = peaks("inspect", path)
            print(f"{name:<24}{size / 1e6:>10.0f}{peak / 1e6:>10.0f}{peak / size:>8.2f}", flush=True)
    print(f"\n{'bench, images':<24}{'host, MB':>10}{'runner, MB':>12}")
    for count in options.images:
        with TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
            place = Path(folder)
            words = (classifier(place), "--data", pictures(place / "images", count), "--quick", "--out", place / "run")
            host, runner = peaks("bench", *words)
            print(f"{count:<24,}{host / 1e6:>10.0f}{runner / 1e6:>12.0f}", flush=True)


def peaks(*words: object) -> tuple[int, int]:
    """Bytes at most: of an edgekit process that runs this command, and of a runner it started."""
    command = [sys.executable, "-c", MEASURED, *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    host, runner = json.loads(ended.stderr.splitlines()[-1])
    return host, runner


# --- models of many equal layers ----------------------------------------------------------------------------------


def weights(index: int) -> np.ndarray:
    return np.random.default_rng(index).random((WIDTH, WIDTH), dtype=np.float32)


def onnx_model(folder: Path, layers: int, **settings: Any) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("MatMul", [f"t{i}", f"w{i}"], [f"t{i + 1}"]) for i in range(layers)]
    ends = [helper.make_tensor_value_info(f"t{i}", TensorProto.FLOAT, ["n", WIDTH]) for i in (0, layers)]
    held = [numpy_helper.from_array(weights(i), f"w{i}") for i in range(layers)]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, str(folder / "model.onnx"), **settings)
    return folder / "model.onnx"


def onnx_external(folder: Path, layers: int) -> Path:
    return onnx_model(folder, layers, save_as_external_data=True, location="weights.bin")


def tflite_model(folder: Path, layers: int) -> Path:
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    def tensor(name: str, shape: list[int], buffer: int = 0) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.buffer = name.encode(), shape, buffer
        return made

    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.FULLY_CONNECTED
    code.version = 1
    graph, model = schema.SubGraphT(), schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [code], [schema.BufferT()]
    graph.tensors, graph.operators = [tensor("t0", [1, WIDTH])], []
    for index in range(layers):
        model.buffers.append(schema.BufferT(np.frombuffer(weights(index).tobytes(), np.uint8)))
        graph.tensors += [tensor(f"w{index}", [WIDTH, WIDTH], index + 1), tensor(f"t{index + 1}", [1, WIDTH])]
        operator = schema.OperatorT()
        operator.inputs, operator.outputs = [2 * index, 2 * index + 1, -1], [2 * index + 2]
        operator.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        operator.builtinOptions = schema.FullyConnectedOptionsT()
        graph.operators.append(operator)
    graph.inputs, graph.outputs = [0], [2 * layers]
    path = folder / "model.tflite"
    path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(model)))
    return path


def openvino_model(folder: Path, layers: int) -> Path:
    from edgekit.runtimes.openvino import no_telemetry

    no_telemetry()
    import openvino
    from openvino import opset13 as ops

    first = last = ops.parameter([-1, WIDTH], np.float32, name="x")
    for index in range(layers):
        last = ops.matmul(last, ops.constant(weights(index)), False, False)
    model = openvino.Model([ops.result(last)], [first], "m")
    openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml"


@dataclass(frozen=True)
class Wide(Step):
    """nothing → torch: the weights alone; nothing builds the network."""

    produces: ClassVar[Kind] = Kind("torch")
    layers: int = 1

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        from safetensors.numpy import save_file

        save_file({f"w{i}": weights(i) for i in range(self.layers)}, out / "model.safetensors")
        ends = {side: [{"name": side, "dtype": "float32", "shape": [None, WIDTH]}] for side in ("inputs", "outputs")}
        (out / "model.json").write_text(json.dumps({"loader": "named", "model": "wide", "arguments": {}, **ends}))
        return StepResult()


def torch_model(folder: Path, layers: int) -> Path:
    store = Store(folder / "run")
    with store.lock():
        store.make("torch", Wide(layers), {}, Context(None, {}, quiet, logging.getLogger("edgekit")))
    return folder / "run" / "torch"


MODELS: Mapping[str, Callable[[Path, int], Path]] = {
    "onnx": onnx_model,
    "onnx, external data": onnx_external,
    "tflite": tflite_model,
    "openvino": openvino_model,
    "torch (safetensors)": torch_model,
}


# --- images -------------------------------------------------------------------------------------------------------


def classifier(folder: Path) -> Path:
    """3 x 32 x 32 → 10 classes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    held = {"w": rng.normal(size=(8, 3, 3, 3)), "dense": rng.normal(size=(8, 10))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("ReduceMax", ["r", "axes"], ["p"], keepdims=0),
        helper.make_node("MatMul", ["p", "dense"], ["y"]),
    ]
    ends = [("x", ["n", 3, 32, 32]), ("y", ["n", 10])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in ends]
    constants = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in held.items()]
    constants.append(numpy_helper.from_array(np.array([2, 3]), "axes"))
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), folder / "m.onnx")
    return folder / "m.onnx"


def pictures(folder: Path, count: int) -> Path:
    """Random 32 x 32 PNGs in ten folders, a class each."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(count):
        place = folder / f"class{index % 10}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(place / f"{index:06}.png")
    return folder


if __name__ == "__main__":
    main()
