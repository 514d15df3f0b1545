"""Plainnet in numpy. Runs on the device: nothing but numpy is imported, and Python may be 3.8."""

from __future__ import annotations

import json


class Plainnet:
    formats = ("plainnet",)
    package = "numpy"
    architectures = ("aarch64", "armv7l", "x86_64")

    @staticmethod
    def prepare_imports():
        import numpy  # noqa: F401

    def __init__(self, model, threads, precision, specs):
        self._layers, self._arrays = read(model)
        self.inputs, self.outputs = specs["inputs"], specs["outputs"]

    def bind(self, feeds):
        names = [spec["name"] for spec in self.outputs]

        def call():
            values = run(self._layers, self._arrays, feeds)
            return [values[name] for name in names]

        return call

    def facts(self):
        import numpy

        return {"runtime_version": numpy.__version__}


def read(path):
    """(layers, arrays) of a model file."""
    import numpy as np

    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    return json.loads(arrays.pop("graph").tobytes().decode()), arrays


def run(layers, arrays, feeds):
    """Name → value, of every tensor that a layer reads or writes."""
    values = dict(feeds)
    for layer in layers:
        inputs = [values[name] if name in values else arrays[name] for name in layer["inputs"]]
        values[layer["output"]] = LAYERS[layer["type"]](inputs, layer, arrays)
    return values


def product(values, axes, layer, arrays):
    """Values times weights, summed over `axes` of the values; in int8 where the weights are."""
    import numpy as np

    weights = arrays[layer["weight"]]
    kernel = tuple(range(1, weights.ndim))
    if weights.dtype != np.int8:
        result = np.tensordot(values, weights, (axes, kernel))
    else:
        steps = np.clip(np.rint(values / np.float32(layer["scale"])), -127, 127)
        sums = np.tensordot(steps, weights.astype(np.float32), (axes, kernel))  # whole numbers, exact in float32
        result = sums * (np.float32(layer["scale"]) * arrays[layer["weight"] + ".scale"])
    return (result + arrays[layer["bias"]]).astype(np.float32)


def windows(x, sides, layer, fill):
    """(N, C, H, W) → (N, C, H', W', height, width), padded with `fill`."""
    import numpy as np

    (vertical, horizontal), (down, right) = layer["padding"], layer["stride"]
    padded = np.pad(x, ((0, 0), (0, 0), (vertical, vertical), (horizontal, horizontal)), constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(padded, sides, (2, 3))[:, :, ::down, ::right]


def conv(inputs, layer, arrays):
    """(N, C, H, W) → (N, O, H', W')."""
    import numpy as np

    seen = windows(inputs[0], arrays[layer["weight"]].shape[2:], layer, 0)
    return np.moveaxis(product(seen, (1, 4, 5), layer, arrays), 3, 1)


def linear(inputs, layer, arrays):
    return product(inputs[0], (-1,), layer, arrays)


def max_pool(inputs, layer, arrays):
    return windows(inputs[0], layer["kernel_size"], layer, float("-inf")).max((4, 5))


def elementwise(name):
    def compute(inputs, layer, arrays):
        import numpy as np

        return getattr(np, name)(*inputs, dtype=np.float32)

    return compute


LAYERS = {
    "conv": conv,
    "linear": linear,
    "max_pool": max_pool,
    "flatten": lambda inputs, layer, arrays: inputs[0].reshape(len(inputs[0]), -1),
    "relu": lambda inputs, layer, arrays: inputs[0].clip(0),
    "mul": elementwise("multiply"),
    "add": elementwise("add"),
}
