"""One inference with ONNX Runtime alone, to copy into your own program: python example.py INPUT.npy

INPUT.npy holds one sample with its batch axis, in the model's own type.
"""

import os
import sys

# before the import: otherwise ONNX Runtime 1.32 records its use in ~/.cache/Microsoft
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnxruntime

HERE = os.path.dirname(os.path.abspath(__file__))

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.path.join(HERE, "model", "model.onnx"), options)
first = session.get_inputs()[0]
for value in session.run(None, {first.name: np.load(sys.argv[1])}):
    print(value)
