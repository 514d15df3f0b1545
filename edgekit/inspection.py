"""What a model file says of itself, without running it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgekit import refs, registry, targets
from edgekit.store import model_file
from edgekit.types import ModelFacts

#: operators that only move values between float and int8, as ONNX, TFLite and OpenVINO call them
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "QUANTIZE", "DEQUANTIZE", "FakeQuantize")


def inspect(model: str | None) -> dict[str, Any]:
    """Facts as plain JSON values. Raises InputError for what is not there or not a model."""
    ref = refs.resolve(model)
    if ref.foreign:
        format = registry.load("steps", ref.importer).format
        facts: ModelFacts = registry.load("formats", format).describe(Path(ref.foreign))
        head = {"model": ref.foreign}
    else:
        artifact = ref.store.get(ref.name or refs.float_root(ref.store))
        format = artifact.kind.format
        facts = registry.load("formats", format).describe(model_file(artifact.kind, artifact.path))
        head = {"model": str(artifact.path), "step": artifact.step, "scheme": artifact.scheme}
    macs = [operator.macs for operator in facts.operators]
    runtimes = [name for name in targets.load("host").runtimes if format in registry.load("runtimes", name).formats]
    return {
        **head,
        "format": format,
        "precision": ",".join(sorted(facts.traits)) or "fp32",
        "inputs": [str(spec) for spec in facts.inputs],
        "outputs": [str(spec) for spec in facts.outputs],
        "parameters": facts.parameters,
        "macs": sum(m for m in macs if m) if all(m is not None for m in macs) else None,
        "operators": dict(Counter(operator.type for operator in facts.operators).most_common()),
        "sizes": {
            "total": facts.sizes.total,
            "weights": facts.sizes.weights,
            "graph": facts.sizes.graph,
            "metadata": facts.sizes.metadata,
        },
        "runtimes": runtimes,
        "details": dict(facts.details),
    }


def lines(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(label, text) for people."""
    for name in ("model", "step", "scheme", "format", "precision"):
        if found.get(name):
            yield name, str(found[name])
    for name in ("inputs", "outputs"):
        for spec in found[name]:
            yield name.removesuffix("s"), spec
    yield "parameters", f"{found['parameters']:,}"
    if found["format"] != "torch":
        yield "MACs", f"{found['macs']:,} per sample" if found["macs"] is not None else "not known: shapes are missing"
        yield "operators", ", ".join(f"{count} {name}" for name, count in found["operators"].items())
    sizes = found["sizes"]
    yield (
        "bytes",
        f"{sizes['total']:,}: weights {sizes['weights']:,}, graph {sizes['graph']:,}, metadata {sizes['metadata']:,}",
    )
    yield "runs in", ", ".join(found["runtimes"]) or "no runtime of this host"
    quantizers = sum(count for name, count in found["operators"].items() if name in QUANTIZERS)
    if quantizers:
        yield "Q/DQ nodes", f"{quantizers}: a runtime fuses most away; each that stays costs a pass over its tensor"
