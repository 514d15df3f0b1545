"""The torch format: `model.json` (which network, with which arguments) and `model.safetensors` (its weights)."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from edgekit.errors import InputError, os_errors
from edgekit.types import ModelFacts, Operator, Sizes, TensorSpec

DTYPE_BYTES = {"F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


class Torch:
    file = "model.json"
    suffixes: tuple[str, ...] = ()

    @staticmethod
    def describe(path: Path) -> ModelFacts:
        """Read both headers; no torch needed. The "operators" are the tensors of the state dict.

        Raises InputError for what is not such a pair of files.
        """
        with os_errors("read", path):
            raw = path.read_bytes()
        weights = path.with_suffix(".safetensors")
        header, header_bytes = _header(weights)
        try:
            network = json.loads(raw)
            shapes: dict[str, tuple[int, ...]] = {name: tuple(entry["shape"]) for name, entry in header.items()}
            size = {name: math.prod(shape) * DTYPE_BYTES[header[name]["dtype"]] for name, shape in shapes.items()}
            total = path.stat().st_size + weights.stat().st_size
            heavy = sum(size[name] for name, shape in shapes.items() if len(shape) >= 2)
            return ModelFacts(
                inputs=tuple(map(TensorSpec.from_json, network["inputs"])),
                outputs=tuple(map(TensorSpec.from_json, network["outputs"])),
                sizes=Sizes(total, heavy, total - heavy - header_bytes, header_bytes),
                parameters=sum(math.prod(shape) for shape in shapes.values()),
                operators=tuple(Operator("tensor", name, math.prod(shape)) for name, shape in shapes.items()),
                details={"network": network["model"], "arguments": network["arguments"]},
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} does not describe a network", "it is damaged", "make it again") from error


def _header(path: Path) -> tuple[dict[str, dict[str, Any]], int]:
    """The JSON header of a safetensors file (https://github.com/huggingface/safetensors#format) and its length."""
    with os_errors("read", path), path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        try:
            header = json.loads(file.read(min(length, 100_000_000)))
            header.pop("__metadata__", None)
        except (ValueError, AttributeError, TypeError) as error:
            raise InputError(f"cannot read {path}", "not a safetensors file", "save it again") from error
    return header, length
