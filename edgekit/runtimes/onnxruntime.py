"""ONNX Runtime on the CPU. Runs on the device: only numpy and onnxruntime are imported, and only when needed."""

from __future__ import annotations


class Onnxruntime:
    formats = ("onnx",)
    package = "onnxruntime"
    extra = "onnx"
    precisions = ("fp32",)
    versions = ">=1.20"
    architectures = ("aarch64", "x86_64")
    library = "onnxruntime/capi/libonnxruntime.so"
    android_library = "libonnxruntime.so of the Android archive onnxruntime-android"

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

    def keep(self, states):
        return _Kept(self._session, self.inputs, states)

    @staticmethod
    def profile(model, folder, repeat):
        """`rows`: [name, operator, types of its inputs, us] per node, those of branches and bodies too.

        Times are in whole microseconds, so those of the smallest operators are rough. The model as it was optimized is
        left in `folder`, without its weights.
        """
        import json
        import os

        import onnxruntime

        weights = "optimized.bin"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "profile")
        options.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        options.add_session_config_entry("session.optimized_model_external_initializers_file_name", weights)
        options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        if os.path.exists(os.path.join(folder, weights)):
            os.unlink(os.path.join(folder, weights))
        warm, runs = (repeat(lambda feed: session.run(None, feed), warm) for warm in (True, False))
        events = session.end_profiling()
        with open(events) as file:
            rows = _rows(json.load(file), warm, runs)
        os.unlink(events)
        return {"runs": runs, "rows": rows}

    @staticmethod
    def problems(model, operators, size):
        """Loading the graph without its weights tells what version or operator it does not know."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 4
        try:
            onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # it has a kind of its own for each reason
            said = " ".join(plain(str(error)).split())
            # weights that were left out are inputs to it; some kernels insist on constants
            return [] if "initializer" in said or "constant" in said else [said]
        return []

    def facts(self):
        import onnxruntime

        return {"runtime_version": onnxruntime.__version__, "provider": self._session.get_providers()[0]}


class _Kept:
    """States as ONNX Runtime's own values, which are given again as they are."""

    def __init__(self, session, inputs, states):
        self._session, self._states = session, states
        self._inputs = {spec["name"]: spec for spec in inputs}
        self._names = [value.name for value in session.get_outputs()]
        self._values = {}

    def run(self, feeds, fresh):
        """The outputs that are no states; `fresh`: from empty states."""
        import numpy as np
        import onnxruntime

        if fresh:
            batch = len(next(iter(feeds.values())))
            for name in self._states:
                spec = self._inputs[name]
                shape = [batch] + [size or 0 for size in spec["shape"][1:]]
                self._values[name] = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, spec["dtype"]))
        binding = self._session.io_binding()
        for name, array in feeds.items():
            binding.bind_cpu_input(name, array)
        for name, value in self._values.items():
            binding.bind_ortvalue_input(name, value)
        for name in self._names:
            binding.bind_output(name)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:
            raise RuntimeError(plain(str(error))) from error
        made = dict(zip(self._names, binding.get_outputs()))
        self._values = {name: made.pop(following) for name, following in self._states.items()}
        return [value.numpy() for value in made.values()]


def _rows(events, warm, runs):
    """The share of the warm-ups, which came first, is left out."""
    times, what = {}, {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"][: -len("_kernel_time")], event["args"].get("node_index", "")
            times.setdefault(key, []).append(float(event["dur"]))
            what[key] = event["args"]
    rows = []
    for key, found in times.items():
        counted = found[round(len(found) * warm / (warm + runs)) :]
        types = [name for entry in what[key].get("input_type_shape") or () for name in entry]
        rows.append([key[0], what[key]["op_name"], types, sum(counted) / runs])
    return rows


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
