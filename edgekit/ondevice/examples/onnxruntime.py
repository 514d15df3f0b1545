"""One inference with ONNX Runtime alone, to copy into your own program: python example.py INPUT

INPUT.npy holds one sample with its batch axis, in the model's own type; another INPUT is an image.
"""

import json
import os
import sys

# before the import: otherwise ONNX Runtime 1.32 records its use in ~/.cache/Microsoft
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime
import preprocess

HERE = os.path.dirname(os.path.abspath(__file__))
TYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(uint8)": "uint8"}

with open(os.path.join(HERE, "manifest.json"), encoding="utf-8") as file:
    manifest = json.load(file)

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.path.join(HERE, "model", "model.onnx"), options)
first = session.get_inputs()[0]
if sys.argv[1].endswith(".npy"):
    sample = np.load(sys.argv[1])
else:
    sample = preprocess.image(sys.argv[1], manifest["preprocessing"])[None].astype(TYPES[first.type])
outputs = session.run(None, {first.name: sample})
for value in outputs:
    print(value)
if manifest["labels"] and outputs[0].ndim == 2 and not sys.argv[1].endswith(".npy"):
    print(manifest["labels"][int(np.argmax(outputs[0][0]))])
