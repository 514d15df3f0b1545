"""ONNX Runtime on the CPU. Runs on the device: only numpy and onnxruntime are imported, and only when needed."""

from __future__ import annotations


class Onnxruntime:
    formats = ("onnx",)
    package = "onnxruntime"
    extra = "onnx"
    precisions = ("fp32",)

    @staticmethod
    def prepare_imports():
        import os

        # else 1.32 makes an id of the device in ~/.cache/Microsoft when imported, and records what is done
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        import onnxruntime  # noqa: F401

    def __init__(self, model, threads, precision, specs):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise RuntimeError(plain(str(error))) from error
        self.inputs = [_spec(value) for value in self._session.get_inputs()]
        self.outputs = [_spec(value) for value in self._session.get_outputs()]

    def bind(self, feeds):
        run = self._session.run

        def call():
            try:
                return run(None, feeds)
            except Exception as error:
                raise RuntimeError(plain(str(error))) from error

        return call

    def facts(self):
        import onnxruntime

        return {"runtime_version": onnxruntime.__version__, "provider": self._session.get_providers()[0]}


_DTYPES = {"float": "float32", "double": "float64"}


def plain(message: str) -> str:
    """What is wrong, without error codes, the model's path, and where in ONNX Runtime's source it was noticed."""
    import re

    message = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:)?", "", message)
    ran = r"^Non-zero status code returned while running (\w+) node\. Name:'(.*?)' Status Message:"
    message = re.sub(ran, r"\1 \2 failed:", message)
    return re.sub(r"\S+\.(?:cc|h):\d+ .*?\)(?: const)? (?=\S)", "", message)


def _spec(value):
    import re

    tensor = re.match(r"tensor\((\w+)\)$", value.type)
    dtype = tensor.group(1) if tensor else value.type
    shape = [size if isinstance(size, int) else None for size in value.shape or []]
    return {"name": value.name, "dtype": _DTYPES.get(dtype, dtype), "shape": shape}
