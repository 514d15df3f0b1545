"""The torch format: `model.json` (the network and its interface), and a file with its weights or the whole model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

from edgekit.core.artifact import ModelFacts, Operator, Sizes, tensor_specs
from edgekit.core.errors import InputError, os_errors
from edgekit.core.format import Format
from edgekit.core.json import parse, read

#: by safetensors' names
DTYPE_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}
DTYPE_BYTES |= {"C64": 8, "U64": 8, "U32": 4, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
#: by torch's names
BYTES = {"float64": 8, "int64": 8, "complex64": 8, "float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "int16": 2}
BYTES |= {"int8": 1, "uint8": 1, "bool": 1, "complex128": 16, "uint16": 2, "uint32": 4, "uint64": 8}
BYTES |= {"float8_e4m3fn": 1, "float8_e5m2": 1}


class Torch(Format):
    file: ClassVar[str] = "model.json"

    @staticmethod
    def describe(path: Path) -> ModelFacts:
        """Facts that can be read without torch. The "operators" are the tensors of the state dict.

        Raises InputError if the files do not describe a network.
        """
        network = read(path)
        weights = path.with_suffix(".safetensors")
        try:
            loader = network.get("loader", "named")
            header, header_bytes = _header(weights) if loader == "named" else (network["tensors"], 0)
            tensors = {name: _tensor(entry) for name, entry in header.items()}
            files = [file for file in path.parent.glob("model.*") if file.is_file()]
            total = sum(file.stat().st_size for file in files)
            weight_bytes = min(sum(size for shape, size in tensors.values() if len(shape) >= 2), total)
            details = {"loader": loader, "network": network.get("model", loader)}
            return ModelFacts(
                inputs=tensor_specs(network, "inputs", path),
                outputs=tensor_specs(network, "outputs", path),
                sizes=Sizes(total, weight_bytes, total - weight_bytes - header_bytes, header_bytes),
                parameters=sum(math.prod(shape) for shape, _ in tensors.values()),
                operators=tuple(Operator("tensor", name, math.prod(shape)) for name, (shape, _) in tensors.items()),
                details={**details, "arguments": network.get("arguments", {})},
                states={str(name): str(next) for name, next in network.get("states", {}).items()},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} does not describe a network", "it is damaged", "create it again") from error


def _tensor(entry: Any) -> tuple[tuple[int, ...], int]:
    """Shape and bytes of an entry in a safetensors header or in `model.json`."""
    if isinstance(entry, dict):
        shape, element_bytes = tuple(entry["shape"]), DTYPE_BYTES[entry["dtype"]]
    else:
        shape, element_bytes = tuple(entry[1]), BYTES[entry[0]]
    return shape, math.prod(shape) * element_bytes


def _header(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """The JSON header of a safetensors file (https://github.com/huggingface/safetensors#format) and its length."""
    with os_errors("read", path), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = parse(file.read(min(length, 100_000_000)))
            header.pop("__metadata__", None)
        except (ValueError, AttributeError, TypeError) as error:
            raise InputError(f"cannot read {path}", "not a safetensors file", "save it again") from error
    return header, length
