"""The quantization methods, each a generator of its artifacts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

from edgekit.core.artifact import Artifact
from edgekit.core.errors import CannotConvert
from edgekit.runs.store import step_of
from edgekit.workflows.inspect import layers
from edgekit.workflows.quantize.attempts import GAIN_DB, RANGE_METHODS
from edgekit.workflows.quantize.method_search import MethodSearch

#: how many operators stay in float in each attempt; one operator without its producer seldom helps
FLOAT_COUNTS = (2, 4, 8)


def _dynamic(search: MethodSearch) -> Iterator[Artifact]:
    name = f"{search.format}_dynamic"
    yield search.make(f"{search.plain('dynamic')}~dynamic", search.step(name), {"parent": search.taken_by(name)})


def _weight_only(search: MethodSearch) -> Iterator[Artifact]:
    name = f"{search.format}_dynamic"
    step = search.step(name, weight_only=True, group_size=0)
    yield search.make(f"{search.plain('dynamic')}~weight-only", step, {"parent": search.taken_by(name)})


def _ranges(method: str) -> Callable[[MethodSearch], Iterator[Artifact]]:
    def attempt(search: MethodSearch) -> Iterator[Artifact]:
        yield search.int8(search.start, method, method=method)

    return attempt


def _equalize(search: MethodSearch) -> Iterator[Artifact]:
    network = search.network()
    if search.settled and not search.settled.startswith("equalize"):
        return
    equal = search.verified(search.make(search.chained("torch~equalize"), search.step("equalize"), {"parent": network}))
    simulated = equal.details.get("equalized", {}).get("dB", {"none": 0.0})
    gain = max(simulated.values()) - simulated["none"]
    if search.effort != "thorough" and gain < GAIN_DB:
        raise CannotConvert(
            f"equalizing {network.name} gains {gain:.1f} dB in simulated int8", "no more is tried of it"
        )
    if search.settled == "equalize-gptq":
        return
    model = search.exported(equal, "equalize")
    yield search.int8(model, "equalize", "equalize", method=search.range_method())


def _gptq(search: MethodSearch) -> Iterator[Artifact]:
    """On the network, and on the equalized network if there is one and int8 gained by it."""
    networks = {"gptq": search.network()}
    equalized = any(a.method == "equalize" and a.usable for a in search.record.attempts)
    if search.settled:
        networks = {name: network for name, network in networks.items() if name == search.settled}
        equalized = search.settled == "equalize-gptq"
    if equalized and (search.effort == "thorough" or search.settled or search.gained("equalize")):
        networks["equalize-gptq"] = search.store.get(search.chained("torch~equalize"))
    for variant, network in networks.items():
        quantized = _rounded(search, variant, network)
        model = search.exported(search.verified(quantized), variant)
        yield search.int8(model, variant, variant, method=search.range_method())


def _rounded(search: MethodSearch, variant: str, network: Artifact, **fields: bool) -> Artifact:
    """The network after GPTQ; one with bounded weights is for the formats that need them, the other for the rest."""
    bounded = getattr(search.step(f"{search.format}_int8"), "scheme", "") == "u8s8-reduced"
    name = search.chained(f"torch~{variant}{'-bounded' * bounded}")
    return search.make(name, search.step("gptq", bounded=bounded, **fields), {"parent": network})


def _bias(search: MethodSearch) -> Iterator[Artifact]:
    """On the network whose GPTQ weights did best so far."""
    attempts = [a for a in search.record.attempts if a.method in ("gptq", "equalize-gptq") and a.usable]
    best = max(attempts, key=lambda a: a.rank_key, default=None)
    equalized = best is not None and best.method == "equalize-gptq"
    variant = "equalize-bias" if equalized else "bias"
    network = search.store.get(search.chained("torch~equalize")) if equalized else search.network()
    corrected = _rounded(search, variant, network, correct_biases=True)
    yield search.int8(
        search.exported(search.verified(corrected), variant), variant, variant, method=search.range_method()
    )


def _keep_float(search: MethodSearch) -> Iterator[Artifact]:
    """The best attempt so far, with more and more of its noisiest operators in float."""
    best = search.best
    assert best is not None and best.artifact is not None and search.context.val is not None
    if best.artifact.kind.precision != "int8":
        return
    model = search.store.parent(best.artifact)
    link = best.artifact.parent("ranges")
    assert model is not None and link is not None
    ranked = layers.rank(layers.layers(best.artifact, model, search.context.val))
    for count in FLOAT_COUNTS:
        if count > len(ranked):
            return
        step = dataclasses.replace(step_of(best.artifact), keep_float=tuple(ranked[:count]))  # type: ignore[type-var]
        inputs = {"parent": model, "ranges": search.store.get(link.name)}
        yield search.make(f"{search.plain('int8')}~keep-float-{count}", step, inputs)
        if search.best and search.best.within_budget:
            return


def _qat(search: MethodSearch) -> Iterator[Artifact]:
    """On the equalized network if the best attempt so far is made from it."""
    if search.context.task is None:
        raise CannotConvert(f"there is no training data for {search.reference.name}", "it belongs to no task")
    network = search.network()
    model = search.store.parent(search.best.artifact) if search.best and search.best.artifact else None
    if model is not None and "~equalize" in model.name:
        network = search.store.get(search.chained("torch~equalize"))
    trained = search.make(search.chained("torch~qat"), search.step("qat"), {"parent": network})
    yield search.make(f"{search.plain('int8')}~qat", search.step(f"qat_{search.format}"), {"parent": trained})


METHOD_STEPS: Mapping[str, Callable[[MethodSearch], Iterator[Artifact]]] = {
    "dynamic": _dynamic,
    "weight-only": _weight_only,
    **{method: _ranges(method) for method in RANGE_METHODS},
    "equalize": _equalize,
    "gptq": _gptq,
    "bias": _bias,
    "keep-float": _keep_float,
    "qat": _qat,
}
