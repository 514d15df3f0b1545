"""The plainnet format: `model.npz` holds the weights and the layers as JSON; what goes in and out lies beside it."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import ClassVar

from edgekit.core.artifact import ModelFacts, Operator, Sizes
from edgekit.core.errors import InputError, os_errors
from edgekit.core.format import Format
from edgekit.formats import SPECS, read_specs
from edgekit_plainnet.runtime import read

#: what numpy and zipfile raise for a file that is damaged
DAMAGED = (ValueError, LookupError, TypeError, AttributeError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


class Plainnet(Format):
    file: ClassVar[str] = "model.npz"

    @staticmethod
    def describe(path: Path) -> ModelFacts:
        try:
            with os_errors("read", path):
                layers, arrays = read(path)
            inputs, outputs = read_specs(path.parent)
            counts = {
                layer["output"]: sum(arrays[layer[key]].size for key in ("weight", "bias") if key in layer)
                for layer in layers
            }
            weights = sum(array.nbytes for array in arrays.values() if array.ndim > 1)
            file, specs = path.stat().st_size, (path.parent / SPECS).stat().st_size
            quantized = any(array.dtype == "int8" for array in arrays.values())
            return ModelFacts(
                inputs=inputs,
                outputs=outputs,
                sizes=Sizes(file + specs, weights, file - weights, specs),
                traits=frozenset({"int8"} if quantized else ()),
                parameters=sum(counts.values()),
                operators=tuple(Operator(layer["type"], layer["output"], counts[layer["output"]]) for layer in layers),
                quantized="int8" if quantized else "",
            )
        except DAMAGED as error:
            raise InputError(f"{path} is no plainnet model", "it is damaged", "export it again") from error
