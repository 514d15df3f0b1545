"""Signatures in a TFLite file's metadata: edgekit's own, and Google's TFLite Metadata with the labels as a zip behind.

Google's is a flatbuffer in a flatbuffer, without a Python package for every Python; the numbers of its fields are from
metadata_schema.fbs 1.5.0, in https://github.com/tensorflow/tflite-support.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.artifact import TensorSpec
from edgekit.core.signature import InputSignature, OutputSignature, Resize, Signature, distinct
from edgekit.core.signature_check import AXES, layout_of
from edgekit.formats.shared.signature_json import KEY, from_text, meanings, per_pixel, records, to_text

if TYPE_CHECKING:
    from flatbuffers import Builder
    from flatbuffers.table import Table

METADATA, IDENTIFIER = "TFLITE_METADATA", b"M001"

#: ModelMetadata.subgraph_metadata and .min_parser_version; SubGraphMetadata's tensors
SUBGRAPHS, PARSER, SIDES = 3, 7, (2, 3)
#: TensorMetadata
NAME, CONTENT, UNITS, FILES = 0, 3, 4, 6
#: of the unions ContentProperties and ProcessUnitOptions, and of AssociatedFileType
IMAGE, AUDIO, NORMALIZATION, AXIS_LABELS = 2, 4, 1, 2
#: ColorSpaceType
COLOURS: Mapping[str, int] = {"RGB": 1, "gray": 2}

#: more than any list of class names
MOST_BYTES = 16_000_000


# --- reading -----------------------------------------------------------------------------------------------------


def read(
    entries: Mapping[str, bytes], path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[Signature, str]:
    """`entries`: the buffers of the file's metadata by name."""
    if signature := from_text(entries.get(KEY, b"").decode("utf-8", "replace")):
        return signature, "edgekit's metadata"
    try:
        signature = _google(entries.get(METADATA, b""), path, inputs, outputs)
    except Exception:  # a damaged buffer raises many types
        return Signature(), ""
    return signature, "its TFLite Metadata" if signature else ""


def appended_bytes(path: Path) -> int:
    """The size of the zip behind the model."""
    try:
        with zipfile.ZipFile(path) as archive:
            start = min((entry.header_offset for entry in archive.infolist()), default=0)
    except Exception:  # there is none; weights that look like one raise many types
        return 0
    return path.stat().st_size - start if 0 < start <= path.stat().st_size else 0


def _google(buffer: bytes, path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Signature:
    from flatbuffers import encode, packer
    from flatbuffers.table import Table

    if buffer[4:8] != IDENTIFIER:
        return Signature()
    model = Table(buffer, encode.Get(packer.uoffset, buffer, 0))
    subgraph = next(iter(_tables(model, SUBGRAPHS)), None)
    if subgraph is None:
        return Signature()
    sides = [_tables(subgraph, side) for side in SIDES]
    images = tuple(_input(table, spec) for table, spec in zip(sides[0], inputs, strict=False))
    labels = tuple(OutputSignature(classes=_labels(table, path)) for table, _ in zip(sides[1], outputs, strict=False))
    known = any(image.kind != "tensor" for image in images), any(label.classes for label in labels)
    return Signature(images if known[0] else (), labels if known[1] else ())


def _input(table: Table, spec: TensorSpec) -> InputSignature:
    content = _table(table, CONTENT)
    kind, properties = _union(content) if content else (0, None)
    if kind == AUDIO and properties:
        return InputSignature("audio", rate=_integer(properties, 0, "Uint32Flags"))
    if kind != IMAGE or not properties:
        return InputSignature()
    colour = {number: name for name, number in COLOURS.items()}.get(_integer(properties, 0, "Int8Flags"), "")
    normalizations = [options for number, options in map(_union, _tables(table, UNITS)) if number == NORMALIZATION]
    options = next((options for options in normalizations if options), None)
    height, width = (spec.shape[axis] or 0 if axis is not None else 0 for axis in AXES[layout_of(spec) or "NHW"][1:])
    sides = height if height == width else (height, width)
    return InputSignature(
        "image",
        colour=colour,  # type: ignore[arg-type]
        resize=Resize("stretch", sides) if height and width else None,
        antialias=False,
        mean=_floats(options, 0) if options else (),
        std=_floats(options, 1) if options else (),
    )


def _labels(table: Table, path: Path) -> tuple[str, ...]:
    for file in _tables(table, FILES):
        if _integer(file, 2, "Int8Flags") == AXIS_LABELS:
            with zipfile.ZipFile(path) as archive:
                entry = archive.getinfo(_text(file, NAME))
                if entry.file_size <= MOST_BYTES:
                    return distinct(archive.read(entry).decode("utf-8").splitlines())
    return ()


def _at(table: Table, field: int) -> int:
    """Where a field's value is; 0 if it is absent."""
    offset = int(table.Offset(4 + 2 * field))
    return table.Pos + offset if offset else 0


def _table(table: Table, field: int) -> Table | None:
    position = _at(table, field)
    return type(table)(table.Bytes, table.Indirect(position)) if position else None


def _tables(table: Table, field: int) -> list[Table]:
    offset = int(table.Offset(4 + 2 * field))
    if not offset:
        return []
    start = table.Vector(offset)
    return [type(table)(table.Bytes, table.Indirect(start + 4 * i)) for i in range(table.VectorLen(offset))]


def _union(table: Table) -> tuple[int, Table | None]:
    """Which table a union holds, and that table; its type is the first field, its value the second."""
    return _integer(table, 0, "Uint8Flags"), _table(table, 1)


def _integer(table: Table, field: int, flags: str) -> int:
    from flatbuffers import number_types

    position = _at(table, field)
    return int(table.Get(getattr(number_types, flags), position)) if position else 0


def _floats(table: Table, field: int) -> tuple[float, ...]:
    """As short as float32 allows: 127.5, and 0.485 rather than 0.48500001430511475."""
    import numpy as np
    from flatbuffers import number_types

    offset = int(table.Offset(4 + 2 * field))
    values = table.GetVectorAsNumpy(number_types.Float32Flags, offset) if offset else []
    return tuple(float(str(np.float32(value))) for value in values)


def _text(table: Table, field: int) -> str:
    position = _at(table, field)
    return bytes(table.String(position)).decode("utf-8") if position else ""


# --- writing -----------------------------------------------------------------------------------------------------


def entries(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> dict[str, bytes]:
    """The buffers of the file's metadata by name."""
    return {KEY: to_text(inputs, outputs).encode(), METADATA: _metadata(inputs, outputs)}


def append_labels(path: Path, outputs: Sequence[TensorSpec]) -> None:
    """Write the files that the metadata name behind the model, as a zip; a runtime ignores it."""
    files = label_files(outputs)
    if not files:
        return
    with zipfile.ZipFile(path, "a") as archive:
        for index, name in files.items():
            names = next(meaning.classes for position, meaning in meanings(outputs) if position == index)
            text = "".join(" ".join(word.splitlines()) + "\n" for word in names)
            archive.writestr(zipfile.ZipInfo(name), text)  # its time is fixed: the same model, the same bytes


def label_files(outputs: Sequence[TensorSpec]) -> dict[int, str]:
    """Index of an output → the name of the file with its classes."""
    indices = [index for index, meaning in meanings(outputs) if meaning.classes]
    return {index: "labels.txt" if len(indices) == 1 else f"labels_{index}.txt" for index in indices}


def _metadata(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bytes:
    from flatbuffers import Builder

    builder, files, known = Builder(), label_files(outputs), dict(records(inputs))
    input_tables = [_write_input(builder, spec, known.get(index)) for index, spec in enumerate(inputs)]
    output_tables = [_write_output(builder, spec, files.get(index, "")) for index, spec in enumerate(outputs)]
    sides = [_vector(builder, tables) for tables in (input_tables, output_tables)]
    subgraph = _object(builder, dict(zip(SIDES, sides, strict=True)))
    has_audio = any(record.kind == "audio" for record in known.values())
    parser = builder.CreateString("1.3.0" if has_audio else "1.0.0")
    model = _object(builder, {SUBGRAPHS: _vector(builder, [subgraph]), PARSER: parser})
    builder.Finish(model, IDENTIFIER)
    return bytes(builder.Output())


def _write_input(builder: Builder, spec: TensorSpec, record: InputSignature | None) -> int:
    fields = {NAME: builder.CreateString(spec.name)}
    if record is not None and record.kind == "image":
        colour = COLOURS.get(record.colour, 0)
        image = _object(builder, {}, lambda: builder.PrependInt8Slot(0, colour, 0))
        vectors = [_float_vector(builder, values) for values in per_pixel(record)]
        normalization = _object(builder, dict(enumerate(vectors)))
        fields[CONTENT] = _write_union(builder, IMAGE, image)
        fields[UNITS] = _vector(builder, [_write_union(builder, NORMALIZATION, normalization)])
    elif record is not None and record.kind == "audio":
        rate = record.rate

        def properties() -> None:
            builder.PrependUint32Slot(0, rate, 0)
            builder.PrependUint32Slot(1, 1, 0)

        fields[CONTENT] = _write_union(builder, AUDIO, _object(builder, {}, properties))
    return _object(builder, fields)


def _write_output(builder: Builder, spec: TensorSpec, file: str) -> int:
    fields = {NAME: builder.CreateString(spec.name)}
    if file:
        name = builder.CreateString(file)
        labels = _object(builder, {0: name}, lambda: builder.PrependInt8Slot(2, AXIS_LABELS, 0))
        fields[FILES] = _vector(builder, [labels])
    return _object(builder, fields)


def _write_union(builder: Builder, kind: int, value: int) -> int:
    return _object(builder, {1: value}, lambda: builder.PrependUint8Slot(0, kind, 0))


def _object(builder: Builder, offsets: Mapping[int, int], scalars: Callable[[], Any] = lambda: None) -> int:
    builder.StartObject(8)
    for field, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(field, offset, 0)
    scalars()
    return int(builder.EndObject())


def _vector(builder: Builder, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _float_vector(builder: Builder, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())
