"""A TFLite graph whose weights are stored in few bits.

int4: in blocks with a scale of float16, which LiteRT's kernels multiply with activations that they round to int8 at run
time. int8: dequantized by an operator, so that products stay float. Scales are positive, and the codes symmetric.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.compression.weight_only.codes import Codes, Floats, Grid, packed, rounded
from edgekit.compression.weight_only.methods import Matrix
from edgekit.compression.weight_only.moments import Feed, Run
from edgekit.core.errors import CannotConvert
from edgekit.formats.tflite import packed as packed_model
from edgekit.formats.tflite import read, unpack
from edgekit.steps.shared.tflite_rules import Graph
from edgekit.steps.shared.weight_only_step import SMALL

#: blocks that LiteRT has kernels for
BLOCKS = (256, 128, 64, 32)
_AFTER_HEAD = frozenset("ADD RESHAPE SOFTMAX LOG_SOFTMAX SQUEEZE EXPAND_DIMS MUL DIV TANH LOGISTIC".split())


class TfliteWeights:
    level = 0

    def __init__(self, path: Path) -> None:
        self.path = path
        self.model = unpack(path.read_bytes(), str(path))
        self.graph = Graph(self.model, self.model.subgraphs[0])
        self.notes: list[str] = []
        self._heads = self._found_heads()

    def fitted(self, grid: Grid, columns: int) -> Grid:
        """int8 has a scale per channel, int4 the largest block of a kernel that divides the row, if one does."""
        block = next((b for b in BLOCKS if b <= grid.block and b < columns and columns % b == 0), 0)
        return dataclasses.replace(grid, block=block if grid.bits == 4 else 0, symmetric=True, positive=True)

    def matrices(self) -> list[Matrix]:
        return [matrix for operator in self.graph.operators if (matrix := self._matrix(operator))]

    def run(self, names: Sequence[str]) -> Run:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        inputs = read(self.path).subgraphs[0].inputs
        indices = {self.graph.name(index): index for index in range(len(self.graph.graph.tensors))}
        interpreter = Interpreter(
            str(self.path),
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()

        def compute(feed: Feed) -> Mapping[str, NDArray[Any]]:
            for tensor in inputs:
                interpreter.set_tensor(tensor.index, feed[tensor.name])
            interpreter.invoke()
            return {name: interpreter.get_tensor(indices[name]) for name in names}

        return compute

    def store(self, matrices: Sequence[Matrix], codes: Mapping[str, Codes], factors: Mapping[str, Floats]) -> None:
        if factors:
            raise CannotConvert("awq divides inputs of products", "TFLite's graph is not changed so", "use gptq")
        roles: dict[str, set[str]] = {}
        for matrix in matrices:
            roles.setdefault(matrix.key, set()).add(matrix.role)
        done: set[str] = set()
        for matrix in matrices:
            if matrix.key in done:
                continue
            done.add(matrix.key)
            chosen = codes[matrix.key]
            if chosen.grid.bits == 4:
                self._store_int4(int(matrix.key), chosen)
            else:
                # one scale for a table: older runtimes misread several
                values = matrix.values().reshape(1, -1)
                whole = rounded(values, chosen.grid) if "table" in roles[matrix.key] else chosen
                self._store_int8(int(matrix.key), whole, matrix.shape)

    def save(self, folder: Path) -> None:
        (folder / "model.tflite").write_bytes(packed_model(self.model))

    # --- reading ---

    def _matrix(self, operator: Any) -> Matrix | None:
        kind = self.graph.type(operator)
        if kind not in ("FULLY_CONNECTED", "EMBEDDING_LOOKUP"):
            return None
        index = int(operator.inputs[1])
        name, shape = self.graph.name(int(operator.outputs[0])), self.graph.shape(index)
        if self.graph.dtype(index) != "float32" or len(shape) != 2 or np.prod(shape) < SMALL or shape[1] % 2:
            return None
        if self.graph.constant(index) is None or not self._is_own(index):
            return None
        table = kind == "EMBEDDING_LOOKUP"
        role: Any = "table" if table else "head" if name in self._heads else "product"
        source = "" if table else self.graph.name(int(operator.inputs[0]))

        def values() -> Floats:
            return np.array(self.graph.constant(index), np.float32)

        return Matrix(name, str(index), source, values, (shape[0], shape[1]), role)

    def _is_own(self, index: int) -> bool:
        """Is a constant read by such operators alone, and its buffer by no other tensor?"""
        buffer = self.graph.graph.tensors[index].buffer
        shared = sum(tensor.buffer == buffer for graph in self.model.subgraphs for tensor in graph.tensors)
        places = [(self.graph.type(o), list(map(int, o.inputs)).index(index)) for o in self.graph.readers(index)]
        readers = all(kind in ("FULLY_CONNECTED", "EMBEDDING_LOOKUP") and place == 1 for kind, place in places)
        return shared == 1 and readers and index not in map(int, self.graph.graph.outputs)

    def _found_heads(self) -> set[str]:
        heads: set[str] = set()
        names = [int(index) for index in self.graph.graph.outputs]
        while names:
            operator = self.graph.writer(names.pop())
            if operator is None:
                continue
            if self.graph.type(operator) == "FULLY_CONNECTED":
                heads.add(self.graph.name(int(operator.outputs[0])))
            elif self.graph.type(operator) in _AFTER_HEAD:
                computed = [int(i) for i in operator.inputs if i >= 0 and self.graph.writer(int(i)) is not None]
                names += computed if len(computed) == 1 else []
        return heads

    # --- writing ---

    def _store_int4(self, index: int, codes: Codes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        tensor = self.graph.graph.tensors[index]
        self._set(tensor, schema.TensorType.INT4, packed(codes.codes ^ np.uint8(codes.grid.middle), 4))
        tensor.quantization = schema.QuantizationParametersT()
        if codes.scales.shape[1] == 1:
            self._per_channel(tensor, codes.scales)
            return
        scales = schema.TensorT(
            shape=np.array(codes.scales.shape, np.int32),
            type=schema.TensorType.FLOAT16,
            buffer=len(self.model.buffers),
            name=tensor.name + b"/scales",
            hasRank=True,
        )
        self.model.buffers.append(schema.BufferT(np.frombuffer(codes.scales.astype(np.float16).tobytes(), np.uint8)))
        self.graph.graph.tensors.append(scales)
        details = schema.BlockwiseQuantizationT()
        details.scales, details.zeroPoints = len(self.graph.graph.tensors) - 1, -1
        details.blockSize = codes.grid.width(codes.codes.shape[1])
        tensor.quantization.details, tensor.quantization.detailsType = (
            details,
            schema.QuantizationDetails.BlockwiseQuantization,
        )

    def _store_int8(self, index: int, codes: Codes, shape: tuple[int, int]) -> None:
        from ai_edge_litert import schema_py_generated as schema

        tensor = self.graph.graph.tensors[index]
        values = (codes.codes ^ np.uint8(codes.grid.middle)).reshape(shape)
        self._set(tensor, schema.TensorType.INT8, values)
        tensor.quantization = schema.QuantizationParametersT()
        self._per_channel(tensor, codes.scales)
        products = [o for o in self.graph.readers(index) if self.graph.type(o) == "FULLY_CONNECTED"]
        if not products:
            return
        floats = schema.TensorT(
            shape=np.array(shape, np.int32), type=schema.TensorType.FLOAT32, name=tensor.name + b"/float", hasRank=True
        )
        self.graph.graph.tensors.append(floats)
        output = len(self.graph.graph.tensors) - 1
        code = schema.BuiltinOperator.DEQUANTIZE
        number = next((i for i, c in enumerate(self.model.operatorCodes) if c.builtinCode == code), None)
        if number is None:
            number = len(self.model.operatorCodes)
            self.model.operatorCodes.append(
                schema.OperatorCodeT(deprecatedBuiltinCode=code, builtinCode=code, version=2)
            )
        operator = schema.OperatorT(
            opcodeIndex=number, inputs=np.array([index], np.int32), outputs=np.array([output], np.int32)
        )
        for product in products:
            self.graph.read(product, 1, output)
        first = next(i for i, o in enumerate(self.graph.operators) if o in products)
        self.graph.operators.insert(first, operator)
        self.graph.changed()

    def _set(self, tensor: Any, type: int, values: NDArray[Any]) -> None:
        tensor.type = type
        self.model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)

    @staticmethod
    def _per_channel(tensor: Any, scales: Floats) -> None:
        quantization = tensor.quantization
        quantization.scale = np.array(scales.reshape(-1), np.float32)
        quantization.zeroPoint = np.zeros(quantization.scale.size, np.int64)
        quantization.quantizedDimension = 0
