"""OpenVINO on the CPU. Runs on the device: only numpy and openvino are imported, and only when needed."""

from __future__ import annotations

#: above this a query may take long: it looks at the weights
QUERY_BYTES = 100_000_000


def no_telemetry() -> None:
    """Keep openvino and nncf from reporting their use: importing either is enough for them to do so.

    Both work without the package that sends, so it is made to look absent. Where something else has imported it
    already, its sender is made to send nothing.
    """
    import sys

    sender = sys.modules.get("openvino_telemetry.utils.sender")
    if sender is None:
        sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    else:
        sender.TelemetrySender.send = lambda *_, **__: None


class Openvino:
    """`precision` is what layers that are not int8 compute in: left to itself, OpenVINO takes bfloat16 where it can."""

    formats = ("openvino",)
    package = "openvino"
    extra = "openvino"
    precisions = ("fp32", "bf16")
    versions = ">=2025.4"
    architectures = ("aarch64", "x86_64")

    @staticmethod
    def prepare_imports():
        no_telemetry()
        import openvino  # noqa: F401

    def __init__(self, model, threads, precision, specs):
        wanted = {"fp32": "f32", "bf16": "bf16"}[precision]
        states = (specs or {}).get("states") or {}
        self._compiled = compiled(model, threads, wanted, states)
        self._precision = self._compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if self._precision != wanted:
            raise ValueError("this CPU computes in %s where %s was asked for" % (self._precision, wanted))
        self.inputs = [_spec(port) for port in self._compiled.inputs]
        self.outputs = [_spec(port) for port in self._compiled.outputs]

    def bind(self, feeds):
        import numpy as np
        import openvino

        request = self._compiled.create_infer_request()
        # read from where they lie, which needs memory that may be written to
        arrays = [np.require(feeds[spec["name"]], requirements=["C", "W"]) for spec in self.inputs]
        for index, array in enumerate(arrays):
            request.set_input_tensor(index, openvino.Tensor(array, shared_memory=True))
        outputs = range(len(self.outputs))

        def call():
            try:
                request.infer(share_outputs=True)
            except RuntimeError as error:
                raise RuntimeError(plain(str(error))) from error
            return [request.get_output_tensor(index).data.copy() for index in outputs]

        call.inputs = arrays  # a shared tensor does not keep its array alive
        return call

    def keep(self, states):
        return _Kept(self._compiled, self.inputs)

    @staticmethod
    def profile(model, folder, repeat):
        """`rows`: [name, operator, kernel, us] per node that was executed.

        Its counters are means over all inferences so far; what the warm-ups took is taken out again.
        """
        profiled = compiled(model, 1, "f32", PERF_COUNT=True)
        names = [_spec(port)["name"] for port in profiled.inputs]
        request = profiled.create_infer_request()

        def run(feed):
            request.infer([feed[name] for name in names], share_inputs=True)

        def counters():
            return {info.node_name: info for info in request.get_profiling_info() if info.status.name == "EXECUTED"}

        warm, before = repeat(run, True), counters()
        runs, rows = repeat(run, False), []
        for name, info in counters().items():
            mean, early = (c.real_time.total_seconds() * 1e6 if c else 0.0 for c in (info, before.get(name)))
            us = (mean * (warm + runs) - early * warm) / runs
            rows.append([name, info.node_type, info.exec_type, max(0.0, us)])
        return {"runs": runs, "rows": rows}

    @staticmethod
    def problems(model, operators, size):
        """What the CPU plugin says of the model; of a large one only whether it can be read."""
        import openvino

        core = openvino.Core()
        try:
            read = core.read_model(model)
            if size > QUERY_BYTES:
                return []
            known = core.query_model(read, "CPU")
        except Exception as error:
            return [" ".join(plain(str(error)).split())]
        absent = {op.get_type_name() for op in read.get_ops() if op.get_friendly_name() not in known}
        return ["the CPU plugin has no %s" % name for name in sorted(absent)]

    def facts(self):
        import openvino

        return {
            "runtime_version": openvino.get_version().split("-")[0],
            "precision": self._precision,
            "threads": self._compiled.get_property("INFERENCE_NUM_THREADS"),
        }


class _Kept:
    """The states of one request, which are part of the compiled model."""

    def __init__(self, compiled, inputs):
        self._request, self._names = compiled.create_infer_request(), [spec["name"] for spec in inputs]
        self._outputs = range(len(compiled.outputs))

    def run(self, feeds, fresh):
        """The outputs that are no states; `fresh`: from empty states."""
        if fresh:
            self._request.reset_state()
        try:
            self._request.infer([feeds[name] for name in self._names], share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise RuntimeError(plain(str(error))) from error
        return [self._request.get_output_tensor(index).data.copy() for index in self._outputs]


def stateful(model, states):
    """The model that keeps the `states` (input name → output name) itself, empty at first, as many as the first
    input has samples."""
    import numpy as np
    from openvino import opset13 as ops
    from openvino.passes import MakeStateful, Manager

    manager = Manager()
    manager.register_pass(MakeStateful(dict(states)))
    manager.run_passes(model)
    first = model.inputs[0].get_node()
    index, axis = (ops.constant(np.array(value, np.int64)) for value in ([0], 0))
    batch = ops.gather(ops.shape_of(first, "i64"), index, axis)
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue" and not node.inputs():
            shape = node.get_output_partial_shape(0)
            sizes = [d.get_length() if d.is_static else 0 for d in shape][1:]
            dims = ops.concat([batch, ops.constant(np.array(sizes, np.int64))], 0)
            zero = ops.constant(np.zeros((), node.get_output_element_type(0).to_dtype()))
            node.set_arguments([ops.broadcast(zero, dims)])
    model.validate_nodes_and_infer_types()
    return model


def compiled(model, threads, precision, states=(), **more):
    import openvino

    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
        # pinned, a thread could not leave a core that something else has taken; in peace it makes no difference
        "ENABLE_CPU_PINNING": False,
        "CACHE_DIR": "",
    }
    if not asks_for_dynamic(model):
        # the activations of a model whose weights alone are int8 would be quantized too
        options["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
    core = openvino.Core()
    try:
        source = stateful(core.read_model(model), states) if states else model
        return core.compile_model(source, "CPU", dict(options, **more))
    except RuntimeError as error:
        raise RuntimeError(plain(str(error))) from error


def asks_for_dynamic(model):
    """Does the file say itself how activations are to be quantized at run time? OpenVINO then does as it says."""
    with open(model, "rb") as file:
        return b"<DYNAMIC_QUANTIZATION_GROUP_SIZE " in file.read()


def plain(message: str) -> str:
    """What went wrong, without where in OpenVINO's source it was noticed."""
    import re

    return re.sub(r"(Exception from|Check '.*?' failed at) \S+\.cpp:\d+:\s*", "", message)


def _spec(port):
    shape = port.get_partial_shape()
    sizes = [d.get_length() if d.is_static else None for d in shape] if shape.rank.is_static else []
    name = min(port.get_names(), default=port.node.get_friendly_name())
    return {"name": name, "dtype": port.get_element_type().to_dtype().name, "shape": sizes}
