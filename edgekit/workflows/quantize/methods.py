"""The quantization methods, each a generator of the artifacts that it makes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import CannotConvert
from edgekit.workflows.inspect import layers
from edgekit.workflows.quantize.attempts import RANGE_METHODS
from edgekit.workflows.quantize.method_search import MethodSearch

#: how many operators stay in float, one try after the other; a noisy one alone seldom helps without its producer
KEPT = (2, 4, 8)


def _dynamic(climb: MethodSearch) -> Iterator[Artifact]:
    name = f"{climb.format}_dynamic"
    yield climb.make(f"{climb.plain('dynamic')}~dynamic", climb.step(name), {"parent": climb.reference})


def _ranges(method: str) -> Callable[[MethodSearch], Iterator[Artifact]]:
    def rung(climb: MethodSearch) -> Iterator[Artifact]:
        yield climb.int8(climb.reference, method, method=method)

    return rung


def _equalize(climb: MethodSearch) -> Iterator[Artifact]:
    network = climb.network()
    equal = climb.verified(climb.make(climb.chained("torch~equalize"), climb.step("equalize"), {"parent": network}))
    model = climb.exported(equal, "equalize")
    yield climb.int8(model, "equalize", "equalize", method=climb.method())


def _gptq(climb: MethodSearch) -> Iterator[Artifact]:
    """On the network as it is, and on the equalized one where there is one."""
    bases = {"gptq": climb.network()}
    if any(a.rung == "equalize" and a.usable for a in climb.ladder.attempts):
        bases["equalize-gptq"] = climb.store.get(climb.chained("torch~equalize"))
    for variant, network in bases.items():
        rounded = climb.make(climb.chained(f"torch~{variant}"), climb.step("gptq"), {"parent": network})
        model = climb.exported(climb.verified(rounded), variant)
        yield climb.int8(model, variant, variant, method=climb.method())


def _bias(climb: MethodSearch) -> Iterator[Artifact]:
    """On the network whose rounded weights did best so far."""
    rounded = [a for a in climb.ladder.attempts if a.rung in ("gptq", "equalize-gptq") and a.usable]
    best = max(rounded, key=lambda a: a.worth, default=None)
    equal = best is not None and best.rung == "equalize-gptq"
    variant = "equalize-bias" if equal else "bias"
    network = climb.store.get(climb.chained("torch~equalize")) if equal else climb.network()
    step = climb.step("gptq", correct_biases=True)
    corrected = climb.make(climb.chained(f"torch~{variant}"), step, {"parent": network})
    yield climb.int8(climb.exported(climb.verified(corrected), variant), variant, variant, method=climb.method())


def _keep_float(climb: MethodSearch) -> Iterator[Artifact]:
    """From the best attempt so far: more and more of its noisiest operators left in float."""
    best = climb.best
    assert best is not None and best.artifact is not None and climb.flow.val is not None
    if best.artifact.kind.precision != "int8":
        return
    model = climb.store.parent(best.artifact)
    link = best.artifact.parent("ranges")
    assert model is not None and link is not None
    found = layers.layers(best.artifact, model, climb.flow.val)
    ranked = layers.rank(found)
    for count in KEPT:
        if count > len(ranked):
            return
        step = registry.load("steps", best.artifact.step)(**_tuples(best.artifact.fields))
        step = dataclasses.replace(step, keep_float=tuple(ranked[:count]))
        inputs = {"parent": model, "ranges": climb.store.get(link.name)}
        yield climb.make(f"{climb.plain('int8')}~keep-float-{count}", step, inputs)
        if climb.best and climb.best.enough:
            return


def _qat(climb: MethodSearch) -> Iterator[Artifact]:
    """From the equalized network where the best attempt so far came of it."""
    if climb.flow.task is None:
        raise CannotConvert(f"there is no training data for {climb.reference.name}", "it belongs to no task")
    network = climb.network()
    model = climb.store.parent(climb.best.artifact) if climb.best and climb.best.artifact else None
    if model is not None and "~equalize" in model.name:
        network = climb.store.get(climb.chained("torch~equalize"))
    trained = climb.make(climb.chained("torch~qat"), climb.step("qat"), {"parent": network})
    yield climb.make(f"{climb.plain('int8')}~qat", climb.step(f"qat_{climb.format}"), {"parent": trained})


METHOD_STEPS: Mapping[str, Callable[[MethodSearch], Iterator[Artifact]]] = {
    "dynamic": _dynamic,
    **{method: _ranges(method) for method in RANGE_METHODS},
    "equalize": _equalize,
    "gptq": _gptq,
    "bias": _bias,
    "keep-float": _keep_float,
    "qat": _qat,
}


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
