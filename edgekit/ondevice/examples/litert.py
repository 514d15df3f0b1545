"""One inference with LiteRT alone, to copy into your own program: python example.py INPUT.npy

INPUT.npy holds one sample with its batch axis, as floats. If the model's tensors are stored as integers, inputs are
quantized and outputs dequantized: real = scale * (stored - zero point).
"""

import os
import sys

import numpy as np

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    from tflite_runtime.interpreter import Interpreter

HERE = os.path.dirname(os.path.abspath(__file__))

interpreter = Interpreter(os.path.join(HERE, "model", "model.tflite"), num_threads=1)
interpreter.allocate_tensors()
first = interpreter.get_input_details()[0]
sample = np.load(sys.argv[1])
scale, zero = first["quantization"]
if scale and np.issubdtype(first["dtype"], np.integer):
    limits = np.iinfo(first["dtype"])
    sample = np.clip(np.rint(sample.astype(np.float32) / np.float32(scale)) + zero, limits.min, limits.max)
interpreter.set_tensor(first["index"], sample.astype(first["dtype"]))
interpreter.invoke()
for detail in interpreter.get_output_details():
    value = interpreter.get_tensor(detail["index"])
    scale, zero = detail["quantization"]
    if scale and np.issubdtype(value.dtype, np.integer):
        value = np.float32(scale) * (value.astype(np.float32) - np.float32(zero))
    print(value)
