"""Facts of a model file, and which runtimes and targets can run it, without running it."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import registry, sandbox, user_code
from edgekit.core.artifact import Artifact, ModelFacts, TensorSpec
from edgekit.core.errors import EdgekitError, InputError, os_errors
from edgekit.core.signature import input_of, output_of
from edgekit.core.signature_check import signed
from edgekit.core.signature_text import described
from edgekit.core.temporary import temporary_folder
from edgekit.core.user_code import typed_by_user
from edgekit.formats import model_file
from edgekit.measure import targets
from edgekit.report import tables
from edgekit.runs import references
from edgekit.runs.references import ModelReference
from edgekit.runs.shapes import Shapes
from edgekit.runs.store import Store
from edgekit.workflows import export
from edgekit.workflows.import_ import shaped
from edgekit.workflows.inspect import compatibility, mixed_precision_table, operator_times_table, sizes
from edgekit.workflows.inspect.mixed_precision import mixed_precision
from edgekit.workflows.inspect.output_tail import output_tail

if TYPE_CHECKING:
    from edgekit.report.tables import Table

#: operators that only convert between float and int8, as ONNX, TFLite and OpenVINO call them
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear", "QUANTIZE", "DEQUANTIZE", "FakeQuantize")
#: characters of a label at least
LABEL = 12


@typed_by_user
def inspect(model: str | None, shapes: Shapes | None = None) -> dict[str, Any]:
    """Facts as plain JSON values. `shapes`: input name → its sizes, batch included ("": the only input).

    MACs and activations depend on the size of every input: null, with the reason in `open_size`, if one is not known.
    `mixed_precision`: of an int8 model what computes in float and why, see the module of that name; null for others.
    `output_tail`: of a float model what comes after its last layers, if that joins tensors; else null.
    Raises InputError if there is no such file, it is not a model, or a shape does not fit.
    """
    ref = references.resolve(model)
    if user_code.is_reference(ref.foreign):
        return _inspect(ref, shapes)
    artifact = None if ref.foreign else ref.artifact()
    files = [Path(ref.foreign), Path(ref.foreign).with_suffix(".bin")] if artifact is None else _files(artifact)
    with os_errors("read", files[0]):
        limits = sandbox.Limits.reading(sandbox.size_of(files))
    subject = ref.foreign or str(files[0].parent)
    report = sandbox.call(lambda progress: _inspect(ref, shapes), subject, limits)
    if not isinstance(report, dict) or any(not isinstance(report.get(key), kind) for key, kind in _REPORT.items()):
        raise InputError(f"{subject} cannot be read", "what was read is incomplete", "check where the file is from")
    return report


#: what the report holds at least
_REPORT = {"format": str, "inputs": list, "outputs": list, "operators": dict, "sizes": dict, "layers": list} | {
    "parameters": int,
    "targets": list,
    "slow": list,
    "details": dict,
}


def _files(artifact: Artifact) -> list[Path]:
    return [artifact.path / file for file in artifact.files]


def _inspect(ref: ModelReference, shapes: Shapes | None) -> dict[str, Any]:
    artifact: Artifact | None = None
    store: Store | None = None
    if ref.foreign:
        step = shaped(registry.load("steps", ref.importer).of(ref.foreign), ref, shapes)
        facts: ModelFacts = step.describe()  # type: ignore[attr-defined]
        format, path, head = str(step.produces.format), Path(ref.foreign), {"model": ref.foreign}
        specs = _carried(format, path, facts)
        known = sizes.of_file(facts.inputs, shapes or {})
    else:
        artifact, store = ref.artifact(), ref.store
        format, path = artifact.kind.format, model_file(artifact.kind, artifact.path)
        facts = registry.load("formats", format).describe(path)
        head = {"model": str(artifact.path), "step": artifact.step, "scheme": artifact.scheme}
        specs = artifact.inputs, artifact.outputs
        known = sizes.of_artifact(artifact, ref.store.root(artifact), shapes or {})
    facts, open_size = sizes.counted(facts, format, path, known)
    is_int8 = "int8" in facts.traits and path.is_file()
    mixed = mixed_precision(format, path, artifact, store, sizes_known=not open_size) if is_int8 else None
    tail = None if is_int8 or not path.is_file() else output_tail(format, path, facts.operators)
    answers = list(compatibility.answers(path, format, facts))
    return {
        **head,
        "format": format,
        "precision": ",".join(sorted(facts.traits)) or "fp32",
        "quantized": facts.quantized,
        "inputs": [_spec(spec, facts) for spec in specs[0]],
        "outputs": [_spec(spec, facts) for spec in specs[1]],
        "parameters": facts.parameters,
        "macs": None if open_size else _macs(facts),
        "open_size": open_size,
        "operators": dict(Counter(operator.type for operator in facts.operators).most_common()),
        "sizes": dataclasses.asdict(facts.sizes),
        "peak_bytes": facts.peak_bytes,
        "layers": [dataclasses.asdict(operator) for operator in facts.operators],
        "runtimes": [a.runtime for a in answers if a.target == "host" and a.runtime and not a.problems],
        "targets": [dataclasses.asdict(answer) for answer in answers],
        "mixed_precision": mixed,
        "output_tail": tail and dataclasses.asdict(tail),
        "slow": [*facts.slow, *_instructions(facts)],
        "details": dict(facts.details),
    }


@typed_by_user
def conversions(
    model: str | None, formats: Sequence[str], shapes: Shapes | None = None
) -> tuple[list[dict[str, Any]], list[EdgekitError]]:
    """Try each export in a temporary folder: one entry per format, and the failures."""
    entries, failures = [], []
    for format in formats:
        with temporary_folder() as folder:
            try:
                outcome = export.export(
                    _copied(references.resolve(model), folder),
                    to=[format],
                    out=folder / "run",
                    shapes=shapes,
                )
                failed = next(iter(outcome.failures), None)
            except EdgekitError as error:
                failed = error
            entry: dict[str, Any] = {"to": format, "error": None}
            if failed:
                failures.append(failed)
                entry["error"] = {"what": failed.what, "why": failed.why, "next": failed.next}
            else:
                converted = outcome.artifacts[-1]
                parity = outcome.findings[-1].parity if outcome.findings else None
                entry |= {"size_bytes": converted.sizes.total, "sqnr_db": parity and parity.sqnr_db}
            entries.append(entry)
    return entries, failures


def _copied(ref: ModelReference, folder: Path) -> str:
    """The path of a copy in a temporary run, so that tried exports do not end in the user's run."""
    if ref.foreign:
        return ref.foreign
    artifact = ref.artifact()
    if artifact.parent() is not None:
        raise InputError(f"{artifact.name} was converted already", next="name the float model it was made from")
    shutil.copytree(artifact.path, folder / "run" / artifact.name)
    return str(Store(folder / "run").path / artifact.name)


def _carried(format: str, path: Path, facts: ModelFacts) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """The file's tensors, with the signature in its metadata if that fits."""
    if path.is_file():
        signature, _ = registry.load("formats", format).signature(path, facts.inputs, facts.outputs)
        with suppress(InputError):
            return signed(facts.inputs, facts.outputs, signature)
    return facts.inputs, facts.outputs


def _spec(spec: TensorSpec, facts: ModelFacts) -> dict[str, Any]:
    """`shape` holds null for a dynamic axis; `axes` gives the file's names of dynamic axes."""
    axes = {str(axis): name for axis, name in facts.axes.get(spec.name, {}).items()}
    return {**spec.to_json(signed=True), "axes": axes}


def _macs(facts: ModelFacts) -> int | None:
    macs = [operator.macs for operator in facts.operators]
    return sum(m for m in macs if m) if all(m is not None for m in macs) else None


def _instructions(facts: ModelFacts) -> Iterator[str]:
    host = targets.load("host")
    missing = {"x86": "VNNI", "arm64": "" if {"asimddp", "i8mm"} & set(host.isa) else "SDOT"}.get(host.isa_class)
    if "int8" in facts.traits and missing:
        yield f"this CPU has no int8 dot product ({missing}): int8 may be no faster than float here"


# --- text output -------------------------------------------------------------------------------------------------


def shown(result: Mapping[str, Any], layers: int) -> Iterator[Table]:
    """What `tables.show` prints: facts, the heaviest layers, what runs it and what may make it slow, times if any."""
    yield _labelled(_facts(result))
    if result["format"] != "torch" or result["macs"] is not None:
        yield from _heaviest(result["layers"], layers)
    times = result.get("times")
    if result["mixed_precision"]:
        yield _labelled(mixed_precision_table.rows(result["mixed_precision"], times))
    yield _labelled([*_uses(result), *(operator_times_table.facts(times) if times else ())])
    if times:
        yield from operator_times_table.table(times)


def _labelled(rows: Iterable[tuple[str, str]]) -> Table:
    table = tables.table(tables.words(width=LABEL), tables.words())
    for label, text in rows:
        tables.add(table, label, " ".join(text.split()))
    return table


def _uses(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What can run it, what may make it slow, what it converts to."""
    targets_of: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for answer in result["targets"]:
        targets_of.setdefault((answer["runtime"], tuple(answer["problems"])), []).append(answer["target"])
    for (runtime, problems), names in targets_of.items():
        where = ", ".join(names) + (f" in {runtime}" if runtime else "")
        yield "runs on" if not problems else "CANNOT run", where + _reasons(problems)
    for reason in result["slow"]:
        yield "may be slow", reason
    for entry in result.get("conversions", ()):
        parity = f", {entry['sqnr_db']:.0f} dB" if entry.get("sqnr_db") is not None else ""
        failure = f"no: {entry['error']['why'] or entry['error']['what']}" if entry["error"] else ""
        yield f"to {entry['to']}", failure or f"yes, {entry['size_bytes']:,} bytes{parity}"


def _facts(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("model", "step", "scheme", "format"):
        if result.get(name):
            yield name, str(result[name])
    how = f" ({result['quantized']})" if result["quantized"] and result["quantized"] != result["precision"] else ""
    yield "precision", result["precision"] + how
    for name in ("inputs", "outputs"):
        for spec in result[name]:
            yield name.removesuffix("s"), _tensor(spec)
            if spec.get("signature"):
                yield "", described((output_of if name == "outputs" else input_of)(spec["signature"]))
    yield "parameters", f"{result['parameters']:,}"
    if result["format"] != "torch" or result["macs"] is not None:
        unknown = f"unknown: {result['open_size']}" if result["open_size"] else "unknown"
        yield "MACs", f"{result['macs']:,} per sample" if result["macs"] is not None else unknown
        yield "operators", ", ".join(f"{count} {name}" for name, count in result["operators"].items())
    if types := result["details"].get("weight_types"):
        yield "weights", ", ".join(f"{count} {name}" for name, count in types.items())
    if opset := result["details"].get("opset"):
        yield "opset", ", ".join(f"{name} {number}" for name, number in opset.items())
    file = result["sizes"]
    parts = f"weights {file['weights']:,}, graph {file['graph']:,}, metadata {file['metadata']:,}"
    yield "bytes", f"{file['total']:,}: {parts}"
    if result["peak_bytes"] is not None:
        yield "activations", f"about {_size(result['peak_bytes'])} at once, for one sample"
    if tail := result["output_tail"]:
        where = " and ".join(tail["joins"][-2:])
        yield (
            "in int8",
            f"{where} would join several tensors on one scale, perhaps too coarse for the smaller ones; quantize"
            " leaves what follows the last layers in float, unless that costs time",
        )
    known = result["mixed_precision"] and not result["mixed_precision"]["why"]
    quantizers = sum(count for name, count in result["operators"].items() if name in QUANTIZERS)
    if quantizers and not known:
        yield (
            "Q/DQ nodes",
            f"{quantizers}: a runtime fuses most of them; each that remains costs a pass over its tensor",
        )


def _tensor(spec: Mapping[str, Any]) -> str:
    shown = [spec["axes"].get(str(axis), "?") if size is None else str(size) for axis, size in enumerate(spec["shape"])]
    scale = f" = {spec['quantization'][0]:g} * (stored - {spec['quantization'][1]})" if spec["quantization"] else ""
    return f"{spec['name']}: {spec['dtype']}[{', '.join(shown)}]{scale}"


def _heaviest(operators: Sequence[Mapping[str, Any]], count: int) -> Iterator[Table]:
    """The layers with the most bytes."""
    chosen = sorted(operators, key=_bytes, reverse=True)[:count]
    chosen = [operator for operator in chosen if _bytes(operator)]
    if not chosen:
        return
    columns = map(tables.numbers, ("weights", "writes", "MACs"))
    table = tables.table(tables.words("heaviest", LABEL), *columns, tables.words("layer"))
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
    """Bytes with a unit: 812 B, 3.1 kB, 24 MB."""
    power = min((len(str(int(count))) - 1) // 3, 3)
    value = count / 1000**power
    return f"{value:.{0 if value >= 99.5 else 3}{'f' if value >= 99.5 else 'g'}} {('B', 'kB', 'MB', 'GB')[power]}"
