"""What cannot run a model: each target, and each runtime that is installed here, asked without running anything."""

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
from edgekit.formats.onnx import read, without_data
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
    """Can `runtime` ("": none takes the format) on `target` run it? `problems` says why not, a sentence each."""

    target: str
    runtime: str
    problems: tuple[str, ...]


def answers(path: Path, format: str, facts: ModelFacts) -> Iterator[Answer]:
    """One for every runtime of every target that takes the format, and one for each target that has none.

    What depends on a runtime's version is asked of the one installed here, and so said of this machine alone.
    """
    for name in targets.names():
        target = targets.load(name)
        if target.device == "null":
            continue
        runtimes = [r for r in target.runtimes if format in registry.load("runtimes", r).formats]
        if not runtimes:
            yield Answer(name, "", (f"no runtime for {format}",))
        for runtime in runtimes:
            found = [*_memory(target, facts), *_inputs(facts)]
            if target.device == "local":
                found += _installed(runtime, target.runtimes[runtime], path, facts)
            yield Answer(name, runtime, tuple(found))


def _memory(target: Target, facts: ModelFacts) -> Iterator[str]:
    needed = facts.sizes.total + (facts.peak_bytes or 0)
    if target.memory_mb and needed > target.memory_mb << 20:
        yield f"it needs about {needed / 1e6:,.0f} MB, and there are {target.memory_mb * 1.048576:,.0f}"


def _inputs(facts: ModelFacts) -> Iterator[str]:
    for spec in facts.inputs:
        if spec.dtype in NOT_NUMBERS:
            yield f"input {spec.name!r} is a {spec.dtype}: samples are numbers and truth values"


def _installed(runtime: str, wanted: str, path: Path, facts: ModelFacts) -> list[str]:
    cls = registry.load("runtimes", runtime)
    try:
        found = version(cls.package)
        cls.prepare_imports()
    except (PackageNotFoundError, ImportError):
        return [f"{cls.package} is not installed"]
    problems = (
        [] if SpecifierSet(wanted).contains(found, prereleases=True) else [f"{cls.package} {found}, not {wanted}"]
    )
    return problems + (_ASK[runtime](path, facts) if runtime in _ASK else [])


def _onnxruntime(path: Path, facts: ModelFacts) -> list[str]:
    """Loading the graph, its weights left out, tells what version or operator it does not know."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(
            without_data(read(path)).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except EdgekitError:
        raise
    except Exception as error:  # it has a kind of its own for each reason
        said = " ".join(onnxruntime_text(str(error)).split())
        # weights that were left out are inputs to it; some kernels insist on constants
        return [] if "initializer" in said or "constant" in said else [said]
    return []


def _litert(path: Path, facts: ModelFacts) -> list[str]:
    custom = {operator.type.partition(":")[2] for operator in facts.operators if operator.type.startswith("CUSTOM:")}
    problems = []
    for name in sorted(custom - LITERT_OWN):
        flex = "TensorFlow's own operator, which needs the Flex delegate" if name.startswith("Flex") else ""
        problems.append(f"{name}: {flex or 'a custom operator, which LiteRT does not know'}")
    try:
        implementation()[1](model_path=str(path))  # type: ignore[no-untyped-call]
    except Exception as error:  # a version of an operator that it does not know, for one
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
