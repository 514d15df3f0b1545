"""Which targets and runtimes cannot run a model, found without running it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.specifiers import SpecifierSet

from edgekit.core import registry
from edgekit.core.artifact import ModelFacts
from edgekit.core.errors import EdgekitError
from edgekit.core.target import Target
from edgekit.formats.onnx import light, read
from edgekit.measure import targets
from edgekit.runtimes.litert import implementation
from edgekit.runtimes.litert import plain as litert_text
from edgekit.runtimes.onnxruntime import plain as onnxruntime_text
from edgekit.runtimes.openvino import plain as openvino_text

#: inputs that no sample set can hold
NOT_NUMBERS = ("string", "sequence")
#: below this, OpenVINO may look at the weights for its answer
QUERY_BYTES = 100_000_000
#: custom operators that LiteRT's interpreter brings
LITERT_OWN = frozenset({"TFLite_Detection_PostProcess", "Mfcc", "AudioSpectrogram", "NumericVerify"})


@dataclass(frozen=True)
class Answer:
    """Can `runtime` ("": none accepts the format) on `target` run it? `problems` says why not, a sentence each."""

    target: str
    runtime: str
    problems: tuple[str, ...]


def answers(path: Path, format: str, facts: ModelFacts) -> Iterator[Answer]:
    """One for every runtime of every target that accepts the format, and one for each target without such a runtime.

    Checks that depend on a runtime's version use the one installed here, and so apply to this machine only.
    """
    for name in targets.names():
        target = targets.load(name)
        if target.device == "null":
            continue
        runtimes = [r for r in target.runtimes if format in registry.load("runtimes", r).formats]
        if not runtimes:
            yield Answer(name, "", (f"no runtime for {format}",))
        for runtime in runtimes:
            problems = [*_memory(target, facts), *_inputs(facts)]
            if target.device == "local":
                problems += _installed(runtime, target.runtimes[runtime], path, facts)
            yield Answer(name, runtime, tuple(problems))


def _memory(target: Target, facts: ModelFacts) -> Iterator[str]:
    needed = facts.sizes.total + (facts.peak_bytes or 0)
    if target.memory_mb and needed > target.memory_mb << 20:
        yield f"it needs about {needed / 1e6:,.0f} MB of memory, the target has {target.memory_mb * 1.048576:,.0f} MB"


def _inputs(facts: ModelFacts) -> Iterator[str]:
    for spec in facts.inputs:
        if spec.dtype in NOT_NUMBERS:
            yield f"input {spec.name!r} is a {spec.dtype}: samples hold numbers and booleans"


def _installed(runtime: str, required: str, path: Path, facts: ModelFacts) -> list[str]:
    cls = registry.load("runtimes", runtime)
    try:
        installed = version(cls.package)
        cls.prepare_imports()
    except (PackageNotFoundError, ImportError):
        return [f"{cls.package} is not installed"]
    problems = (
        []
        if SpecifierSet(required).contains(installed, prereleases=True)
        else [f"{cls.package} {installed}, not {required}"]
    )
    return problems + (_ASK[runtime](path, facts) if runtime in _ASK else [])


def _onnxruntime(path: Path, facts: ModelFacts) -> list[str]:
    """Load the graph without its weights: ONNX Runtime's error names the version or operator it does not know."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(light(read(path)).SerializeToString(), options, providers=["CPUExecutionProvider"])
    except EdgekitError:
        raise
    except Exception as error:  # it has a kind of its own for each reason
        message = " ".join(onnxruntime_text(str(error)).split())
        # weights that were left out are inputs to it; some kernels insist on constants
        return [] if "initializer" in message or "constant" in message else [message]
    return []


def _litert(path: Path, facts: ModelFacts) -> list[str]:
    custom = {operator.type.partition(":")[2] for operator in facts.operators if operator.type.startswith("CUSTOM:")}
    problems = []
    for name in sorted(custom - LITERT_OWN):
        flex = "TensorFlow's own operator, which needs the Flex delegate" if name.startswith("Flex") else ""
        problems.append(f"{name}: {flex or 'a custom operator that LiteRT does not have'}")
    try:
        implementation()[1](model_path=str(path))  # type: ignore[no-untyped-call]
    except Exception as error:  # for example a version of an operator that it does not know
        problems.append(" ".join(litert_text(str(error)).split()))
    return problems


def _openvino(path: Path, facts: ModelFacts) -> list[str]:
    import openvino

    core = openvino.Core()
    try:
        model = core.read_model(path)
        if facts.sizes.total > QUERY_BYTES:
            return []
        known = core.query_model(model, "CPU")
    except Exception as error:
        return [" ".join(openvino_text(str(error)).split())]
    absent = {op.get_type_name() for op in model.get_ops() if op.get_friendly_name() not in known}
    return [f"the CPU plugin has no {name}" for name in sorted(absent)]


_ASK: Mapping[str, Callable[[Path, ModelFacts], list[str]]] = {
    "onnxruntime": _onnxruntime,
    "litert": _litert,
    "openvino": _openvino,
}
