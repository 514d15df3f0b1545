"""TFLite files for tests, from tensors and operators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
FLOAT = schema.TensorType.FLOAT32


class Written:
    """A TFLite model under construction."""

    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version, self.model.description = 3, b"by hand"
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes, self.model.metadata = [], []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(
        self,
        name: str,
        shape: Sequence[int],
        dtype: int = FLOAT,
        data: Any = None,
        scale: tuple[float, int] | None = None,
        signature: Sequence[int] | None = None,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), list(shape), dtype, 0
        tensor.shapeSignature = None if signature is None else list(signature)
        if data is not None:
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(schema.BufferT(np.frombuffer(data.tobytes(), np.uint8)))
        if scale:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale[0]], [scale[1]]
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def operator(self, builtin: int, inputs: Sequence[int], outputs: Sequence[int], custom: str = "") -> None:
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = builtin, min(builtin, 127), 1
        code.customCode = custom.encode() or None
        self.model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes) - 1
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        self.graph.operators.append(operator)

    def metadata(self, name: str, value: bytes) -> None:
        entry = schema.MetadataT()
        entry.name, entry.buffer = name.encode(), len(self.model.buffers)
        self.model.buffers.append(schema.BufferT(np.frombuffer(value, np.uint8)))
        self.model.metadata.append(entry)

    def write(self, path: Path) -> Path:
        """The first tensor is the model's input, what the last operator writes its outputs."""
        from ai_edge_litert.tools import flatbuffer_utils

        self.graph.inputs = [0]
        self.graph.outputs = self.graph.operators[-1].outputs if self.graph.operators else [0]
        path.write_bytes(bytes(flatbuffer_utils.convert_object_to_bytearray(self.model)))
        return path
