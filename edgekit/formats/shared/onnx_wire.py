"""Reads an ONNX file without its weights, by parsing protobuf's wire format and skipping the data of large tensors.

A tensor without its data points to it as external data does: `location` is "" for the file itself. Wire format:
https://protobuf.dev/programming-guides/encoding/; fields: onnx.proto of onnx 1.23.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError, os_errors

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

#: tensor data of up to this number of bytes is kept: shapes, axes and scales are needed to analyse a graph
KEEP_BYTES = 1024

#: message → field → type of the nested message, for all messages that may contain tensors
_MESSAGE_FIELDS: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
#: fields with a tensor's values: float, int32, string, int64, raw, double, uint64
_DATA = (4, 5, 6, 7, 9, 10, 11)
_RAW = 9
#: the encoded field data_location = EXTERNAL, and the number of the field external_data
_EXTERNAL = b"\x70\x01"
_ENTRY = 13


def parse(path: Path) -> ModelProto:
    """The model without the data of its large tensors. Raises InputError if it is damaged, or not an ONNX model."""
    import onnx
    from google.protobuf.message import DecodeError

    with os_errors("read", path), path.open("rb") as file:
        size = path.stat().st_size
        if not size:
            raise InputError(f"{path} is not an ONNX model", "it is empty", "export it again")
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
                return onnx.load_model_from_string(bytes(_strip_data(raw, 0, size, "model")))
        except (_Damaged, DecodeError, UnicodeDecodeError, RecursionError) as error:
            why = "it cannot be parsed: damaged, truncated, or another kind of file"
            raise InputError(f"{path} is not an ONNX model", why, "export it again") from error


class _Damaged(Exception):
    """The data is not in the wire format, or is truncated."""


def _strip_data(raw: mmap.mmap, position: int, end: int, message: str) -> bytearray:
    output, pointers = bytearray(), b""
    while position < end:
        start = position
        tag, position = _read_varint(raw, position, end)
        field, wire = tag >> 3, tag & 7
        if wire == 2:
            length, position = _read_varint(raw, position, end)
            if position + length > end:
                raise _Damaged
            inner_message = _MESSAGE_FIELDS[message].get(field)
            if length > KEEP_BYTES and message == "tensor" and field in _DATA:
                pointers = _external_data_entries(position, length if field == _RAW else -1)
            elif length > KEEP_BYTES and inner_message:
                part = _strip_data(raw, position, position + length, inner_message)
                output += _encode_varint(tag) + _encode_varint(len(part)) + part
            else:
                output += raw[start : position + length]
            position += length
        elif wire in (0, 1, 5):
            position = _read_varint(raw, position, end)[1] if wire == 0 else position + (8 if wire == 1 else 4)
            if position > end:
                raise _Damaged
            output += raw[start:position]
        else:
            raise _Damaged
    return output + pointers  # last, so that it overrides earlier fields


def _external_data_entries(offset: int, length: int) -> bytes:
    """The location of the data as entries of `external_data`; a length of -1 means that it is not raw."""
    encoded = bytearray(_EXTERNAL)
    for key, value in (("location", ""), ("offset", str(offset)), ("length", str(length))):
        pair = b"".join(
            _encode_varint(tag) + _encode_varint(len(t)) + t.encode() for tag, t in ((10, key), (18, value))
        )
        encoded += _encode_varint(_ENTRY << 3 | 2) + _encode_varint(len(pair)) + pair
    return bytes(encoded)


def _read_varint(raw: mmap.mmap, position: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while position < end and shift < 70:
        byte = raw[position]
        value |= (byte & 127) << shift
        position, shift = position + 1, shift + 7
        if byte < 128:
            return value, position
    raise _Damaged


def _encode_varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])


# --- contents ----------------------------------------------------------------------------------------------------


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph and all subgraphs in it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs(inner)


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def tensors(model: ModelProto) -> Iterator[TensorProto]:
    """All tensors in the file, weights and attributes."""
    nodes = [node for function in model.functions for node in function.node]
    for graph in [*graphs(model.graph), *(inner for node in nodes for g in subgraphs(node) for inner in graphs(g))]:
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        nodes += graph.node
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def external_data(tensor: TensorProto) -> dict[str, str]:
    """The entries of `external_data`; empty for a tensor whose data is in the model."""
    return {entry.key: entry.value for entry in tensor.external_data} if tensor.data_location == 1 else {}
