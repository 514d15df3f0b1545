"""An ONNX file without its weights: the protobuf's wire format is walked, and large tensors stay in the file.

Each tensor whose data was left out says where it lies as one with external data does: `location` is "" for the file
itself. Wire format: https://protobuf.dev/programming-guides/encoding/; fields: onnx.proto of onnx 1.23.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from edgekit.core.errors import InputError, os_errors

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

#: data of at most this many bytes is kept: shapes, axes and scales decide what a graph does
KEEP_BYTES = 1024

#: message → field → the message in it, on every way to a tensor
_INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
#: fields of a tensor that hold its values: float, int32, string, int64, raw, double, uint64
_DATA = (4, 5, 6, 7, 9, 10, 11)
_RAW = 9
#: dims and data_type of a tensor, data_location = EXTERNAL and external_data
_EXTERNAL = b"\x70\x01"
_ENTRY = 13


def parsed(path: Path) -> ModelProto:
    """The model without the data of its large tensors. Raises InputError for what is damaged, cut off or no model."""
    import onnx
    from google.protobuf.message import DecodeError

    with os_errors("read", path), path.open("rb") as file:
        size = path.stat().st_size
        if not size:
            raise InputError(f"{path} is not an ONNX model", "it is empty", "was it cut off, or not exported?")
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as raw:
                return onnx.load_model_from_string(bytes(_without_data(raw, 0, size, "model")))
        except (_Damaged, DecodeError, UnicodeDecodeError, RecursionError) as error:
            why = "it cannot be parsed: damaged, cut off, or another kind of file"
            raise InputError(f"{path} is not an ONNX model", why, "export it again") from error


class _Damaged(Exception):
    """Not the wire format, or one that ends too early."""


def _without_data(raw: mmap.mmap, at: int, end: int, message: str) -> bytearray:
    kept, pointers = bytearray(), b""
    while at < end:
        start = at
        tag, at = _varint(raw, at, end)
        field, wire = tag >> 3, tag & 7
        if wire == 2:
            length, at = _varint(raw, at, end)
            if at + length > end:
                raise _Damaged
            inner = _INSIDE[message].get(field)
            if length > KEEP_BYTES and message == "tensor" and field in _DATA:
                pointers = _pointer(at, length if field == _RAW else -1)
            elif length > KEEP_BYTES and inner:
                part = _without_data(raw, at, at + length, inner)
                kept += _number(tag) + _number(len(part)) + part
            else:
                kept += raw[start : at + length]
            at += length
        elif wire in (0, 1, 5):
            at = _varint(raw, at, end)[1] if wire == 0 else at + (8 if wire == 1 else 4)
            if at > end:
                raise _Damaged
            kept += raw[start:at]
        else:
            raise _Damaged
    return kept + pointers  # last, so that no other word on where the data lies comes after


def _pointer(offset: int, length: int) -> bytes:
    """Where in this file the data lies, as entries of `external_data`; -1 for numbers that are packed one by one."""
    found = bytearray(_EXTERNAL)
    for key, value in (("location", ""), ("offset", str(offset)), ("length", str(length))):
        pair = b"".join(_number(tag) + _number(len(t)) + t.encode() for tag, t in ((10, key), (18, value)))
        found += _number(_ENTRY << 3 | 2) + _number(len(pair)) + pair
    return bytes(found)


def _varint(raw: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = raw[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
    raise _Damaged


def _number(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


# --- what is in it -----------------------------------------------------------------------------------------------


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """The graph, then the branches and bodies in it."""
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
    """Every tensor that the file holds, whether a weight or an attribute."""
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


def place(tensor: TensorProto) -> dict[str, str]:
    """The entries of `external_data`; empty for a tensor whose data is in the model."""
    return {entry.key: entry.value for entry in tensor.external_data} if tensor.data_location == 1 else {}
