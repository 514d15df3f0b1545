"""One inference with LiteRT alone, to copy into your own program: python example.py INPUT

INPUT.npy holds one sample with its batch axis, as floats; another INPUT is an image. If the model's tensors are stored
as integers, inputs are quantized and outputs dequantized: real = scale * (stored - zero point).
"""

import json
import os
import sys

import numpy as np
import preprocess

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tflite_runtime.interpreter import Interpreter

HERE = os.path.dirname(os.path.abspath(__file__))

with open(os.path.join(HERE, "manifest.json"), encoding="utf-8") as file:
    manifest = json.load(file)

interpreter = Interpreter(os.path.join(HERE, "model", "model.tflite"), num_threads=1)
interpreter.allocate_tensors()
first = interpreter.get_input_details()[0]
if sys.argv[1].endswith(".npy"):
    sample = np.load(sys.argv[1])
else:
    sample = preprocess.image(sys.argv[1], manifest["preprocessing"])[None]
scale, zero = first["quantization"]
if scale and np.issubdtype(first["dtype"], np.integer):
    limits = np.iinfo(first["dtype"])
    sample = np.clip(np.rint(sample.astype(np.float32) / np.float32(scale)) + zero, limits.min, limits.max)
interpreter.set_tensor(first["index"], sample.astype(first["dtype"]))
interpreter.invoke()
outputs = []
for detail in interpreter.get_output_details():
    value = interpreter.get_tensor(detail["index"])
    scale, zero = detail["quantization"]
    if scale and np.issubdtype(value.dtype, np.integer):
        value = np.float32(scale) * (value.astype(np.float32) - np.float32(zero))
    outputs.append(value)
    print(value)
if manifest["labels"] and outputs[0].ndim == 2 and not sys.argv[1].endswith(".npy"):
    print(manifest["labels"][int(np.argmax(outputs[0][0]))])
