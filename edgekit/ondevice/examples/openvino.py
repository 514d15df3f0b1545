"""One inference with OpenVINO alone, to copy into your own program: python example.py INPUT

INPUT.npy holds one sample with its batch axis, in the model's own type; another INPUT is an image. Float layers compute
in float32, as on the machine that created the model; by default OpenVINO uses bfloat16 or float16 where the CPU can.
"""

import json
import os
import sys

# importing openvino reports its use unless the package that sends the report is absent
sys.modules["openvino_telemetry"] = None

import numpy as np  # noqa: E402
import openvino  # noqa: E402
import preprocess  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))

with open(os.path.join(HERE, "manifest.json"), encoding="utf-8") as file:
    manifest = json.load(file)

options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
model = openvino.Core().compile_model(os.path.join(HERE, "model", "model.xml"), "CPU", options)
if sys.argv[1].endswith(".npy"):
    sample = np.load(sys.argv[1])
else:
    sample = preprocess.image(sys.argv[1], manifest["preprocessing"])[None]
    sample = sample.astype(model.inputs[0].element_type.to_dtype())
outputs = list(model([sample]).values())
for value in outputs:
    print(value)
if manifest["labels"] and outputs[0].ndim == 2 and not sys.argv[1].endswith(".npy"):
    print(manifest["labels"][int(np.argmax(outputs[0][0]))])
