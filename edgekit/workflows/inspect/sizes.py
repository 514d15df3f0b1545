"""MACs and activations of a model whose input sizes are open: counted for known sizes, and for no made-up one."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edgekit.core import registry
from edgekit.core.artifact import Artifact, ModelFacts, Operator, TensorSpec
from edgekit.core.temporary import temporary_folder
from edgekit.formats.onnx import external_files
from edgekit.runs import shapes as given_shapes
from edgekit.runs.shapes import Shapes
from edgekit.runtimes.openvino import no_telemetry
from edgekit.sets.random_inputs import candidates, example_shape, known_sizes

#: input name → its sizes, None if one is open; only inputs with open axes besides the batch
Known = Mapping[str, tuple[int, ...] | None]


def of_artifact(artifact: Artifact, root: Artifact, shapes: Shapes) -> Known:
    """The sizes that are given, stored, or known from the example or the signature. Raises InputError."""
    known = given_shapes.known(root, artifact, shapes)
    return {
        spec.name: known_sizes(spec, candidates(spec, artifact, root, known)) for spec in _with_open(artifact.inputs)
    }


def of_file(inputs: Sequence[TensorSpec], shapes: Shapes) -> Known:
    """The sizes that are given, or known from the file's signature. Raises InputError."""
    given = given_shapes.checked(shapes, inputs)
    return {spec.name: known_sizes(spec, [given.get(spec.name)]) for spec in _with_open(inputs)}


def _with_open(inputs: Sequence[TensorSpec]) -> list[TensorSpec]:
    return [spec for spec in inputs if spec.open_axes]


def counted(facts: ModelFacts, format: str, path: Path, known: Known) -> tuple[ModelFacts, str]:
    """The facts with MACs and activations for these sizes, and "".

    If a size is open, or the format's files cannot be given other sizes, without them, and with the reason.
    """
    if not known or format == "torch":
        return facts, ""
    open_spec = next((spec for spec in facts.inputs if spec.name in known and known[spec.name] is None), None)
    if open_spec is not None:
        return _uncounted(facts), f"the size of {open_spec.name} is open (--shape {example_shape(open_spec)})"
    if format not in _RESIZED:
        return _uncounted(facts), f"edgekit cannot set the sizes of {format} files"
    with temporary_folder() as folder:
        name = registry.load("formats", format).file
        try:
            _RESIZED[format](path, folder / name, {name: sizes for name, sizes in known.items() if sizes})
            resized = registry.load("formats", format).describe(folder / name)
        except Exception as error:  # onnx and openvino raise many types
            why = " ".join(str(error).split())[:200]
            return _uncounted(facts), f"the model cannot have inputs of that size: {why}"
    if len(resized.operators) != len(facts.operators):  # what depended on a size is a constant now
        return dataclasses.replace(facts, operators=resized.operators, peak_bytes=resized.peak_bytes), ""
    operators = map(_with_counts, facts.operators, resized.operators)
    return dataclasses.replace(facts, operators=tuple(operators), peak_bytes=resized.peak_bytes), ""


def _with_counts(operator: Operator, resized: Operator) -> Operator:
    return dataclasses.replace(operator, macs=resized.macs, activation_bytes=resized.activation_bytes)


def _uncounted(facts: ModelFacts) -> ModelFacts:
    operators = (
        dataclasses.replace(o, macs=0 if o.macs == 0 else None, activation_bytes=None) for o in facts.operators
    )
    return dataclasses.replace(facts, operators=tuple(operators), peak_bytes=None)


def _onnx(path: Path, new: Path, sizes: Mapping[str, Sequence[int]]) -> None:
    import onnx
    from onnx import shape_inference

    model = onnx.load(str(path), load_external_data=False)
    for name, file in external_files(path, model).items():
        (new.parent / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, new.parent / name)
    for value in model.graph.input:
        for axis, (dim, size) in enumerate(
            zip(value.type.tensor_type.shape.dim, sizes.get(value.name, ()), strict=False)
        ):
            if axis:
                dim.dim_value = size
    del model.graph.value_info[:]
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.Clear()
    onnx.save(shape_inference.infer_shapes(model, strict_mode=True), str(new))


def _openvino(path: Path, new: Path, sizes: Mapping[str, Sequence[int]]) -> None:
    no_telemetry()
    import openvino

    model = openvino.Core().read_model(path)
    shapes = {name: openvino.PartialShape([-1, *own[1:]]) for name, own in sizes.items()}
    model.reshape(shapes)
    openvino.save_model(model, new, compress_to_fp16=False)


#: format → writes a copy of a model file with other input sizes; the batch stays open
_RESIZED: Mapping[str, Callable[[Path, Path, Mapping[str, Sequence[int]]], None]] = {
    "onnx": _onnx,
    "openvino": _openvino,
}
