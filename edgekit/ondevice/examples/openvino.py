"""One inference with OpenVINO alone, to copy into your own program: python example.py INPUT.npy

INPUT.npy holds one sample with its batch axis, in the model's own type. Float layers compute in float32, as on the
machine that created the model; by default OpenVINO uses bfloat16 or float16 if the CPU supports it.
"""

import os
import sys

# importing openvino reports its use unless the package that sends the report is absent
sys.modules["openvino_telemetry"] = None

import numpy as np  # noqa: E402
import openvino  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))

options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
model = openvino.Core().compile_model(os.path.join(HERE, "model", "model.xml"), "CPU", options)
for value in model([np.load(sys.argv[1])]).values():
    print(value)
