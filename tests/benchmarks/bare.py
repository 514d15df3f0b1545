"""The loop anybody would write by hand, as a process of its own: `python bare.py RUNTIME MODEL INPUT.npy SECONDS`.

Prints the times of single inferences in nanoseconds as JSON. It shares no code with edgekit, on purpose.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np

WARMUP_SECONDS = 0.3


def onnxruntime_call(model, batch):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: batch})


def torch_call(model, batch):
    from pathlib import Path

    import torch

    from edgekit import networks

    torch.set_num_threads(1)
    network = networks.load(Path(model).parent)
    tensor = torch.from_numpy(batch)

    def call():
        with torch.inference_mode():
            return network(tensor).numpy()

    return call


def litert_call(model, batch):
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=model, num_threads=1)
    interpreter.allocate_tensors()
    taken, given = interpreter.get_input_details()[0], interpreter.get_output_details()[0]["index"]
    if taken["dtype"] != np.float32:
        scale, zero_point = taken["quantization"]
        batch = (np.rint(batch / scale) + zero_point).clip(-128, 127).astype(taken["dtype"])

    def call():
        interpreter.set_tensor(taken["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(given)

    return call


def openvino_call(model, batch):
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(openvino.Tensor(batch))

    def call():
        request.infer()
        return request.get_output_tensor().data

    return call


def main(runtime, model, samples, seconds):
    batch = np.ascontiguousarray(np.load(samples)[:1], dtype=np.float32)
    call = globals()[runtime + "_call"](model, batch)
    clock = time.perf_counter_ns
    stop = clock() + WARMUP_SECONDS * 1e9
    while clock() < stop:
        call()
    times = []
    stop = clock() + float(seconds) * 1e9
    while clock() < stop:
        before = clock()
        call()
        times.append(clock() - before)
    json.dump(times, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
