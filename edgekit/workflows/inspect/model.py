"""What a model file says of itself and what can run it, without running it."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import registry
from edgekit.core.artifact import ModelFacts, TensorSpec
from edgekit.core.errors import EdgekitError, InputError
from edgekit.formats import model_file
from edgekit.measure import targets
from edgekit.report import tables
from edgekit.runs import references
from edgekit.runs.references import ModelReference
from edgekit.runs.store import Store
from edgekit.workflows import export
from edgekit.workflows.inspect import compatibility, times_table

if TYPE_CHECKING:
    from rich.table import Table

#: operators that only move values between float and int8, as ONNX, TFLite and OpenVINO call them
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "QUANTIZE", "DEQUANTIZE", "FakeQuantize")
#: characters of a label at least
LABEL = 12


def inspect(model: str | None) -> dict[str, Any]:
    """Facts as plain JSON values. Raises InputError for what is not there or not a model."""
    ref = references.resolve(model)
    if ref.foreign:
        step = registry.load("steps", ref.importer)
        facts: ModelFacts = step.of(ref.foreign).describe()
        format, path, head = step.format, Path(ref.foreign), {"model": ref.foreign}
    else:
        artifact = ref.artifact()
        format, path = artifact.kind.format, model_file(artifact.kind, artifact.path)
        facts = registry.load("formats", format).describe(path)
        head = {"model": str(artifact.path), "step": artifact.step, "scheme": artifact.scheme}
    answers = list(compatibility.answers(path, format, facts))
    return {
        **head,
        "format": format,
        "precision": ",".join(sorted(facts.traits)) or "fp32",
        "quantized": facts.quantized,
        "inputs": [_spec(spec, facts) for spec in facts.inputs],
        "outputs": [_spec(spec, facts) for spec in facts.outputs],
        "parameters": facts.parameters,
        "macs": _macs(facts),
        "operators": dict(Counter(operator.type for operator in facts.operators).most_common()),
        "sizes": dataclasses.asdict(facts.sizes),
        "peak_bytes": facts.peak_bytes,
        "layers": [dataclasses.asdict(operator) for operator in facts.operators],
        "runtimes": [a.runtime for a in answers if a.target == "host" and a.runtime and not a.problems],
        "targets": [dataclasses.asdict(answer) for answer in answers],
        "slow": [*facts.slow, *_instructions(facts)],
        "details": dict(facts.details),
    }


def conversions(model: str | None, formats: Sequence[str]) -> tuple[list[dict[str, Any]], list[EdgekitError]]:
    """Try each export in a folder that is thrown away: what came of it, and what failed."""
    found, failures = [], []
    for format in formats:
        with tempfile.TemporaryDirectory(prefix="edgekit-") as folder:
            try:
                outcome = export.export(
                    _copied(references.resolve(model), Path(folder)), to=[format], out=Path(folder, "run")
                )
                failed = next(iter(outcome.failures), None)
            except EdgekitError as error:
                failed = error
            entry: dict[str, Any] = {"to": format, "error": None}
            if failed:
                failures.append(failed)
                entry["error"] = {"what": failed.what, "why": failed.why, "next": failed.next}
            else:
                made = outcome.artifacts[-1]
                parity = outcome.findings[-1].parity if outcome.findings else None
                entry |= {"size_bytes": made.sizes.total, "sqnr_db": parity and parity.sqnr_db}
            found.append(entry)
    return found, failures


def _copied(ref: ModelReference, folder: Path) -> str:
    """The word for the same model in a run of its own: what is tried must not end in the user's."""
    if ref.foreign:
        return ref.foreign
    artifact = ref.artifact()
    if artifact.parent() is not None:
        raise InputError(f"{artifact.name} was converted already", next="name the float model it was made from")
    shutil.copytree(artifact.path, folder / "run" / artifact.name)
    return str(Store(folder / "run").path / artifact.name)


def _spec(spec: TensorSpec, facts: ModelFacts) -> dict[str, Any]:
    """`shape` holds null where an axis is open; `axes` gives the names that the file has for those."""
    axes = {str(axis): name for axis, name in facts.axes.get(spec.name, {}).items()}
    return {**dataclasses.asdict(spec), "axes": axes}


def _macs(facts: ModelFacts) -> int | None:
    macs = [operator.macs for operator in facts.operators]
    return sum(m for m in macs if m) if all(m is not None for m in macs) else None


def _instructions(facts: ModelFacts) -> Iterator[str]:
    host = targets.load("host")
    missing = {"x86": "VNNI", "arm64": "" if {"asimddp", "i8mm"} & set(host.isa) else "SDOT"}.get(host.isa_class)
    if "int8" in facts.traits and missing:
        yield f"this CPU has no int8 dot product ({missing}): int8 may be no faster than float here"


# --- for people --------------------------------------------------------------------------------------------------


def shown(found: Mapping[str, Any], layers: int) -> Iterator[Table]:
    """What `tables.show` prints: facts, the heaviest layers, what runs it and what may make it slow, times if any."""
    yield _labelled(_facts(found))
    if found["format"] != "torch":
        yield from _heaviest(found["layers"], layers)
    times = found.get("times")
    yield _labelled([*_uses(found), *(times_table.facts(times) if times else ())])
    if times:
        yield from times_table.table(times)


def _labelled(rows: Iterable[tuple[str, str]]) -> Table:
    table = tables.table(tables.words(width=LABEL), tables.words())
    for label, text in rows:
        tables.add(table, label, " ".join(text.split()))
    return table


def _uses(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What can run it, what may make it slow, what it converts to."""
    alike: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for answer in found["targets"]:
        alike.setdefault((answer["runtime"], tuple(answer["problems"])), []).append(answer["target"])
    for (runtime, problems), names in alike.items():
        where = ", ".join(names) + (f" in {runtime}" if runtime else "")
        yield "runs on" if not problems else "CANNOT run", where + _reasons(problems)
    for reason in found["slow"]:
        yield "may be slow", reason
    for entry in found.get("conversions", ()):
        parity = f", {entry['sqnr_db']:.0f} dB" if entry.get("sqnr_db") is not None else ""
        said = f"no: {entry['error']['why'] or entry['error']['what']}" if entry["error"] else ""
        yield f"to {entry['to']}", said or f"yes, {entry['size_bytes']:,} bytes{parity}"


def _facts(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("model", "step", "scheme", "format"):
        if found.get(name):
            yield name, str(found[name])
    how = f" ({found['quantized']})" if found["quantized"] and found["quantized"] != found["precision"] else ""
    yield "precision", found["precision"] + how
    for name in ("inputs", "outputs"):
        for spec in found[name]:
            yield name.removesuffix("s"), _tensor(spec)
    yield "parameters", f"{found['parameters']:,}"
    if found["format"] != "torch":
        yield "MACs", f"{found['macs']:,} per sample" if found["macs"] is not None else "not known"
        yield "operators", ", ".join(f"{count} {name}" for name, count in found["operators"].items())
    if types := found["details"].get("weight_types"):
        yield "weights", ", ".join(f"{count} {name}" for name, count in types.items())
    if opset := found["details"].get("opset"):
        yield "opset", ", ".join(f"{name} {number}" for name, number in opset.items())
    sizes = found["sizes"]
    parts = f"weights {sizes['weights']:,}, graph {sizes['graph']:,}, metadata {sizes['metadata']:,}"
    yield "bytes", f"{sizes['total']:,}: {parts}"
    if found["peak_bytes"] is not None:
        yield "activations", f"about {_size(found['peak_bytes'])} at once, for one sample"
    if quantizers := sum(count for name, count in found["operators"].items() if name in QUANTIZERS):
        yield "Q/DQ nodes", f"{quantizers}: a runtime fuses most away; each that stays costs a pass over its tensor"


def _tensor(spec: Mapping[str, Any]) -> str:
    sizes = [spec["axes"].get(str(axis), "?") if size is None else str(size) for axis, size in enumerate(spec["shape"])]
    scale = f" = {spec['quantization'][0]:g} * (stored - {spec['quantization'][1]})" if spec["quantization"] else ""
    return f"{spec['name']}: {spec['dtype']}[{', '.join(sizes)}]{scale}"


def _heaviest(operators: Sequence[Mapping[str, Any]], count: int) -> Iterator[Table]:
    """The layers with the most bytes."""
    chosen = sorted(operators, key=_bytes, reverse=True)[:count]
    chosen = [operator for operator in chosen if _bytes(operator)]
    if not chosen:
        return
    sizes = map(tables.numbers, ("weights", "writes", "MACs"))
    table = tables.table(tables.words("heaviest", LABEL), *sizes, tables.words("layer"))
    for operator in chosen:
        written = "?" if operator["activation_bytes"] is None else _size(operator["activation_bytes"])
        macs = "?" if operator["macs"] is None else f"{operator['macs']:,}"
        name = f"{operator['type']} {operator['name']}"
        tables.add(table, "", _size(operator["weight_bytes"]), written, macs, name)
    yield table
    if len(operators) > len(chosen):
        yield _labelled([("", f"of {len(operators)}; more with --layers N")])


def _bytes(operator: Mapping[str, Any]) -> int:
    return int(operator["weight_bytes"] + (operator["activation_bytes"] or 0))


def _reasons(problems: Sequence[str]) -> str:
    return f": {'; '.join(problems)}" if problems else ""


def _size(count: float) -> str:
    """Bytes as people say them: 812 B, 3.1 kB, 24 MB."""
    power = min((len(str(int(count))) - 1) // 3, 3)
    value = count / 1000**power
    return f"{value:.{0 if value >= 99.5 else 3}{'f' if value >= 99.5 else 'g'}} {('B', 'kB', 'MB', 'GB')[power]}"
