"""LiteRT (TFLite) on the CPU. Runs on the device: only numpy and ai_edge_litert, or the older tflite_runtime."""

from __future__ import annotations

import importlib

#: custom operators that the interpreter brings
OWN = frozenset({"TFLite_Detection_PostProcess", "Mfcc", "AudioSpectrogram", "NumericVerify"})
#: custom operators, of MediaPipe's models, that its XNNPACK delegate has; without their exact form it leaves them
OF_DELEGATE = frozenset({"Convolution2DTransposeBias", "MaxPoolingWithArgmax2D", "MaxUnpooling2D"})


class Litert:
    """The interpreter's default resolver applies the XNNPACK delegate, with as many threads as the interpreter has."""

    formats = ("tflite",)
    package = "ai-edge-litert"
    #: the same interpreter before it was renamed, and the numpy it was built against: the only one for 32-bit Arm
    older = ("tflite-runtime", "numpy<2")
    older_lacks = ("dynamic",)
    extra = "tflite"
    precisions = ("fp32",)
    versions = ">=2.1"
    architectures = ("aarch64", "x86_64")
    library = "ai_edge_litert/libLiteRt.so"
    #: its C API has been as the native runner knows it since then
    library_versions = ">=2.2"
    android_library = "libLiteRt.so of the Android archive litert"

    @staticmethod
    def prepare_imports():
        implementation()

    def __init__(self, model, threads, precision, specs):
        self._implementation, interpreter_class = implementation()
        try:
            self._interpreter = interpreter_class(model_path=model, num_threads=threads)
            self._interpreter.allocate_tensors()
        except Exception as error:
            raise ValueError(plain(str(error))) from error
        self._ins = self._interpreter.get_input_details()
        self._outs = self._interpreter.get_output_details()
        self._sizes = {detail["index"]: tuple(detail["shape"]) for detail in self._ins}
        self.inputs = [_spec(detail) for detail in self._ins]
        self.outputs = [_spec(detail) for detail in self._outs]

    def bind(self, feeds):
        interpreter = self._interpreter
        given = [(detail["index"], feeds[detail["name"]]) for detail in self._ins]
        wanted = [detail["index"] for detail in self._outs]

        def call():
            try:
                self._resize(given)
                for index, array in given:
                    interpreter.set_tensor(index, array)
                interpreter.invoke()
            except Exception as error:
                raise RuntimeError(plain(str(error))) from error
            return [interpreter.get_tensor(index) for index in wanted]

        return call

    def _resize(self, given):
        """Make room for another batch, where the model's is dynamic."""
        changed = [(index, array.shape) for index, array in given if array.shape != self._sizes[index]]
        for index, shape in changed:
            self._interpreter.resize_tensor_input(index, shape, strict=True)
            self._sizes[index] = shape
        if changed:
            self._interpreter.allocate_tensors()

    @staticmethod
    def problems(model, operators, size):
        """Custom operators, and what the interpreter says of the model: a version of an operator it does not know."""
        custom = {operator.partition(":")[2] for operator in operators if operator.startswith("CUSTOM:")}
        problems = []
        for name in sorted(custom - OWN - OF_DELEGATE):
            flex = "TensorFlow's own operator, which needs the Flex delegate" if name.startswith("Flex") else ""
            problems.append("%s: %s" % (name, flex or "a custom operator, which LiteRT does not know"))
        try:
            interpreter = implementation()[1](model_path=str(model))
            if custom and custom <= OF_DELEGATE:  # any other would be named again
                interpreter.allocate_tensors()
        except Exception as error:
            problems.append(" ".join(plain(str(error)).split()))
        return problems

    def facts(self):
        delegated = self._delegated()
        return {
            "runtime_version": _version(self._implementation),
            "implementation": self._implementation,
            "delegate": "XNNPACK" if delegated else "none" if delegated == 0 else "unknown",
            "delegate_partitions": delegated,
        }

    def _delegated(self):
        """How many parts of the graph a delegate computes; None where this version does not tell."""
        try:
            return sum(op["op_name"] == "DELEGATE" for op in self._interpreter._get_ops_details())
        except Exception:  # not public: it may change or go
            return None


def implementation():
    """(distribution, interpreter class) of the newest one installed. Raises ImportError where there is none."""
    try:
        from ai_edge_litert.interpreter import Interpreter

        return "ai-edge-litert", Interpreter
    except ImportError as newer:
        try:
            older = importlib.import_module("tflite_runtime.interpreter")
        except ImportError:
            raise newer from None
        return "tflite-runtime", older.Interpreter


def _version(distribution):
    from importlib import metadata

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # a system's own package may come without
        return "unknown"


def plain(message: str) -> str:
    """What is wrong, without links and where in LiteRT's source it was noticed; the operator comes last in it."""
    import re

    message = re.sub(r"\s*See instructions: \S*?(?=\s|Node number|$)", " ", message)
    message = re.sub(r"\S+\.(?:cc|h):\d+:? ", "", message)
    return re.sub(r"[.\s]*(?=Node number)", ". ", message)


def _spec(detail):
    shape = [None if size < 0 else int(size) for size in detail["shape_signature"]]
    dtype = detail["dtype"].__name__.replace("bytes_", "string")
    scale, zero_point = detail["quantization"]
    stored = scale and dtype.startswith(("int", "uint"))
    quantization = [float(scale), int(zero_point)] if stored else None
    return {"name": detail["name"], "dtype": dtype, "shape": shape, "quantization": quantization}
