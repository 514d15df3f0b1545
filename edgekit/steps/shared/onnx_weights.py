"""An ONNX graph whose weights are stored in few bits: MatMulNBits and GatherBlockQuantized of ONNX Runtime."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.compression.calibration.onnx import Session
from edgekit.compression.weight_only.codes import Codes, Floats, Grid, packed
from edgekit.compression.weight_only.methods import Matrix
from edgekit.compression.weight_only.moments import Run
from edgekit.core.artifact import Artifact
from edgekit.steps.shared import onnx_slim, onnx_weight_only
from edgekit.steps.shared.onnx_rules import drop_unread
from edgekit.steps.shared.weight_only_step import LEAST_INPUTS, SMALL

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

DOMAIN = "com.microsoft"
#: operators between a head and its output
_AFTER_HEAD = frozenset("Add Identity Cast Reshape Softmax LogSoftmax Squeeze Unsqueeze Slice Mul Div Tanh".split())
#: the largest block that a row is cut into if it has one scale
MOST_BLOCK = 256
#: bytes above which a file needs its weights beside it
MOST_PACKED = 1_900_000_000


def level_of(accuracy_level: int, parent: Artifact) -> int:
    """Of -1: 4 for a model with states, whose products read one token at a time, else 0."""
    return accuracy_level if accuracy_level >= 0 else 4 if parent.states else 0


class OnnxWeights:
    """`accuracy_level` of its products: 0 computes in float, 4 rounds activations to int8 in blocks at run time.

    MatMulNBits of 8 bits at level 0 takes 2 to 12 times float's time (ONNX Runtime 1.32); such weights are dequantized
    by operators on constants, which ONNX Runtime computes when it loads the model.
    """

    def __init__(self, path: Path, accuracy_level: int) -> None:
        import onnx

        self.path, self.level = path, accuracy_level
        self.model: ModelProto = onnx.load(str(path))
        self.notes: list[str] = ["products round activations to int8 in blocks at run time"] if accuracy_level else []
        graph = self.model.graph
        self._constants: dict[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                values = [entry.t for entry in node.attribute if entry.name == "value"]
                self._constants |= dict(zip(node.output, values, strict=False))
        self._maker = {name: node for node in graph.node for name in node.output if name}
        self._heads = _heads(graph, self._maker, set(self._constants))

    def fitted(self, grid: Grid, columns: int) -> Grid:
        """As it is: the last block of a row is filled up. A row of int8 that is dequantized has one scale if not."""
        whole = grid.bits == 8 and not self.level and columns % grid.width(columns)
        return dataclasses.replace(grid, block=0) if whole else grid

    def matrices(self) -> list[Matrix]:
        found = [matrix for index in range(len(self.model.graph.node)) if (matrix := self._matrix(index))]
        return found

    def run(self, names: Sequence[str]) -> Run:
        import onnx

        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        given = {value.name for value in model.graph.input}
        session = Session(model, [name for name in names if name not in given])
        return lambda feed: {**session(feed), **{name: feed[name] for name in names if name in given}}

    def store(self, matrices: Sequence[Matrix], codes: Mapping[str, Codes], factors: Mapping[str, Floats]) -> None:
        graph = self.model.graph
        nodes = {self._name(index): node for index, node in enumerate(graph.node)}
        self._packed: dict[str, list[str]] = {}
        self._first: list[NodeProto] = []
        replaced: dict[str, list[NodeProto]] = {}
        for matrix in matrices:
            node = nodes[matrix.name]
            replaced[matrix.name] = (
                self._table(node, matrix, codes[matrix.key], matrices)
                if matrix.role == "table"
                else self._product(node, matrix, codes[matrix.key])
                if codes[matrix.key].grid.bits == 4 or self.level
                else self._dequantized(node, matrix, codes[matrix.key])
            )
        first = self._divided(graph, matrices, replaced, factors)
        rewritten = list(self._first)
        for index, node in enumerate(graph.node):
            name = self._name(index)
            rewritten += [*first.get(name, []), *replaced.get(name, [node])]
        kept = [_copy(node) for node in rewritten]
        del graph.node[:]
        graph.node.extend(kept)
        _drop_idle(graph)
        drop_unread(graph)
        if all(entry.domain != DOMAIN for entry in self.model.opset_import):
            from onnx import helper

            self.model.opset_import.append(helper.make_opsetid(DOMAIN, 1))

    def save(self, folder: Path) -> None:
        if stored := onnx_weight_only.store(self.model):
            self.notes.append(f"the weights of {stored} recurrent operators are int8")
        onnx_slim.slim(self.model)
        save(self.model, folder / "model.onnx")

    # --- reading ---

    def _name(self, index: int) -> str:
        node = self.model.graph.node[index]
        return str(node.output[0] if node.output else f"{node.op_type}.{index}")

    def _matrix(self, index: int) -> Matrix | None:
        node = self.model.graph.node[index]
        if node.op_type == "Gather" and node.domain in ("", "ai.onnx"):
            return self._table_of(node, self._name(index))
        if node.op_type not in ("MatMul", "Gemm") or node.domain not in ("", "ai.onnx"):
            return None
        attributes = {entry.name: entry for entry in node.attribute}
        if node.op_type == "Gemm" and any(
            (attributes[name].f if name in attributes else 1.0) != 1.0 for name in ("alpha", "beta")
        ):
            return None
        if "transA" in attributes and attributes["transA"].i:
            return None
        turned = not (node.op_type == "Gemm" and "transB" in attributes and attributes["transB"].i)
        found = self._constant(node.input[1], turned)
        if found is None or node.input[0] in self._constants:
            return None
        name, turned = found
        rows, columns = reversed(self._constants[name].dims) if turned else self._constants[name].dims
        if rows * columns < SMALL or columns < LEAST_INPUTS:
            return None
        # the same constant read the other way round is another matrix
        key = f"{name}/turned" if turned else name
        role = "head" if self._name(index) in self._heads else "product"
        return Matrix(self._name(index), key, node.input[0], lambda: self._values(name, turned), (rows, columns), role)  # type: ignore[arg-type]

    def _table_of(self, node: NodeProto, name: str) -> Matrix | None:
        if any(entry.name == "axis" and entry.i for entry in node.attribute):
            return None
        found = self._constant(node.input[0], False)
        if found is None:
            return None
        constant, turned = found
        rows, columns = reversed(self._constants[constant].dims) if turned else self._constants[constant].dims
        if rows * columns < SMALL or columns < LEAST_INPUTS or columns % 2:
            return None
        key = f"{constant}/turned" if turned else constant
        return Matrix(name, key, "", lambda: self._values(constant, turned), (rows, columns), "table")

    def _constant(self, name: str, turned: bool) -> tuple[str, bool] | None:
        """The constant matrix behind a name, and whether `[out, in]` is its transpose; None if there is none."""
        while name not in self._constants:
            node = self._maker.get(name)
            if node is None or node.op_type not in ("Transpose", "Identity", "Cast") or not node.input:
                return None
            if node.op_type == "Transpose":
                order = next((list(entry.ints) for entry in node.attribute if entry.name == "perm"), [1, 0])
                turned ^= order == [1, 0]
            name = node.input[0]
        tensor = self._constants[name]
        return (name, turned) if len(tensor.dims) == 2 and tensor.data_type in (1, 10) else None

    def _values(self, name: str, turned: bool) -> Floats:
        from onnx import numpy_helper

        values = numpy_helper.to_array(self._constants[name])
        return np.ascontiguousarray(values.T if turned else values, np.float32)

    # --- writing ---

    def _add(self, name: str, values: np.ndarray[Any, Any]) -> str:
        from onnx import numpy_helper

        self.model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def _parts(self, key: str, codes: Codes, block: int) -> list[str]:
        """The names of the packed codes `[out, blocks, bytes]`, scales, and zero points where they differ."""
        if key not in self._packed:
            rows, columns = codes.codes.shape
            blocks = -(-columns // block)
            padded = np.full((rows, blocks * block), codes.grid.middle, np.uint8)
            padded[:, :columns] = codes.codes
            repeat = 1 if codes.scales.shape[1] == blocks else blocks
            scales, zeros = np.repeat(codes.scales, repeat, axis=1), np.repeat(codes.zeros, repeat, axis=1)
            names = [
                self._add(f"{key}/codes", packed(padded.reshape(rows, blocks, block), codes.grid.bits)),
                self._add(f"{key}/scales", scales.astype(np.float32)),
            ]
            if not codes.grid.symmetric:
                names.append(self._add(f"{key}/zeros", packed(zeros, codes.grid.bits)))
            self._packed[key] = names
        return self._packed[key]

    def _product(self, node: NodeProto, matrix: Matrix, codes: Codes) -> list[NodeProto]:
        from onnx import helper

        rows, columns = matrix.shape
        block = block_of(codes, columns)
        bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2] else ""
        output = node.output[0]
        product = helper.make_node(
            "MatMulNBits",
            [node.input[0], *self._parts(matrix.key, codes, block)],
            [f"{output}/product" if bias else output],
            name=node.name or output,
            domain=DOMAIN,
            K=columns,
            N=rows,
            bits=codes.grid.bits,
            block_size=block,
        )
        if self.level:
            product.attribute.append(helper.make_attribute("accuracy_level", self.level))
        add = [helper.make_node("Add", [product.output[0], bias], [output])] if bias else []
        return [product, *add]

    def _rows(self, key: str, codes: Codes) -> list[str]:
        """The names of codes `[out, in]` packed by rows, scales, and zero points where they differ."""
        name = f"{key}/rows"
        if name not in self._packed:
            names = [
                self._add(f"{name}/codes", packed(codes.codes, codes.grid.bits)),
                self._add(f"{name}/scales", codes.scales),
            ]
            if not codes.grid.symmetric:
                names.append(self._add(f"{name}/zeros", packed(codes.zeros, codes.grid.bits)))
            self._packed[name] = names
        return list(self._packed[name])

    def _dequantized(self, node: NodeProto, matrix: Matrix, codes: Codes) -> list[NodeProto]:
        """A product of float weights that operators make of int8 constants."""
        from onnx import helper

        weight = f"{matrix.key}/floats"
        if weight not in self._packed:
            self._packed[weight] = [weight]
            self._first += self._floats(weight, matrix, codes)
        bias = node.input[2] if node.op_type == "Gemm" and len(node.input) > 2 and node.input[2] else ""
        output = node.output[0]
        product = helper.make_node(
            "MatMul", [node.input[0], weight], [f"{output}/product" if bias else output], name=node.name or output
        )
        add = [helper.make_node("Add", [product.output[0], bias], [output])] if bias else []
        return [product, *add]

    def _floats(self, name: str, matrix: Matrix, codes: Codes) -> list[NodeProto]:
        """Operators that compute the weights `[in, out]`: Mul(Sub(Cast(codes), zero points), scales), in blocks."""
        from onnx import TensorProto, helper

        rows, columns = matrix.shape
        blocks = codes.scales.shape[1]
        stored, scales, *zeros = self._rows(matrix.key, codes)
        shapes = {"blocks": [rows, blocks, columns // blocks], "each": [rows, blocks, 1], "matrix": [rows, columns]}
        of = {word: self._add(f"{name}/{word}", np.array(shape, np.int64)) for word, shape in shapes.items()}
        nodes: list[NodeProto] = []

        def then(kind: str, *inputs: str, **how: Any) -> str:
            output = f"{name}/{len(nodes)}"
            nodes.append(helper.make_node(kind, inputs, [output], **how))
            return output

        if zeros:
            zero = then("Reshape", then("Cast", zeros[0], to=TensorProto.FLOAT), of["each"])
        else:
            zero = self._add(f"{name}/middle", np.array(codes.grid.middle, np.float32))
        value = then("Sub", then("Reshape", then("Cast", stored, to=TensorProto.FLOAT), of["blocks"]), zero)
        value = then("Mul", value, then("Reshape", scales, of["each"]))
        nodes.append(helper.make_node("Transpose", [then("Reshape", value, of["matrix"])], [name], perm=[1, 0]))
        return nodes

    def _table(self, node: NodeProto, matrix: Matrix, codes: Codes, matrices: Sequence[Matrix]) -> list[NodeProto]:
        from onnx import helper

        columns, nodes = matrix.shape[1], []
        block = block_of(codes, columns)
        in_blocks = codes.grid.bits == 4 or self.level  # as MatMulNBits has them
        shared = any(other.key == matrix.key and other.role != "table" for other in matrices)
        if in_blocks and shared and columns % block == 0:
            stored, *rest = self._parts(matrix.key, codes, block)
            shape = self._add(f"{node.output[0]}/shape", np.array([0, -1], np.int64))
            nodes.append(helper.make_node("Reshape", [stored, shape], [f"{node.output[0]}/codes"]))
            parts = [nodes[0].output[0], *rest]
        else:
            block = codes.grid.block if 0 < codes.grid.block <= columns else _power(columns)
            parts = self._rows(matrix.key, codes)
        lookup = helper.make_node(
            "GatherBlockQuantized",
            [parts[0], node.input[1], *parts[1:]],
            [node.output[0]],
            name=node.name or node.output[0],
            domain=DOMAIN,
            bits=codes.grid.bits,
            block_size=block,
            gather_axis=0,
            quantize_axis=1,
        )
        return [*nodes, lookup]

    def _divided(
        self,
        graph: GraphProto,
        matrices: Sequence[Matrix],
        replaced: Mapping[str, list[NodeProto]],
        factors: Mapping[str, Floats],
    ) -> dict[str, list[NodeProto]]:
        """Divide inputs by their factors; the operators that do so, by the name of the first that reads them."""
        from onnx import helper

        first: dict[str, list[NodeProto]] = {}
        for name, factor in factors.items():
            constant = self._add(f"{name}/factors", (1 / factor).astype(np.float32))
            readers = [matrix.name for matrix in matrices if matrix.input == name]
            order = {self._name(index): index for index in range(len(graph.node))}
            earliest = min(readers, key=order.__getitem__)
            first.setdefault(earliest, []).append(helper.make_node("Mul", [name, constant], [f"{name}/divided"]))
            for reader in readers:
                replaced[reader][0].input[0] = f"{name}/divided"
        return first


def block_of(codes: Codes, columns: int) -> int:
    """The block of MatMulNBits: that of the codes; where a row has one scale, the largest power of two that divides
    it, so that nothing is filled up."""
    width = codes.grid.width(columns)
    if width < columns and not width & (width - 1):
        return width
    divisor = columns & -columns
    if divisor >= LEAST_INPUTS:
        return min(divisor, MOST_BLOCK)
    return _power(columns)


def _power(columns: int) -> int:
    """The least power of two, of 16 or more, that holds a row."""
    return max(LEAST_INPUTS, 1 << (columns - 1).bit_length())


def _heads(graph: GraphProto, maker: Mapping[str, NodeProto], constants: set[str]) -> set[str]:
    """The first outputs of the products that an output of the graph is made from by little more than a bias."""
    names = [value.name for value in graph.output]
    heads, seen = set(), set()
    while names:
        name = names.pop()
        node = maker.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type in ("MatMul", "Gemm"):
            heads.add(node.output[0])
        elif node.op_type in _AFTER_HEAD:
            computed = [n for n in node.input if n and n not in constants]
            names += computed if len(computed) == 1 else []
    return heads


def _drop_idle(graph: GraphProto) -> None:
    """Remove operators on constants alone whose results nothing reads any more."""
    while True:
        read = {value.name for value in graph.output} | {name for node in graph.node for name in node.input}
        idle = [
            index
            for index, node in enumerate(graph.node)
            if node.op_type in ("Transpose", "Identity", "Cast", "Constant") and not read & set(node.output)
        ]
        if not idle or _reads_from_within(graph):
            return
        for index in reversed(idle):
            del graph.node[index]


def _reads_from_within(graph: GraphProto) -> bool:
    return any(entry.HasField("g") or entry.graphs for node in graph.node for entry in node.attribute)


def _copy(node: NodeProto) -> NodeProto:
    copy = type(node)()
    copy.CopyFrom(node)
    return copy


def save(model: ModelProto, path: Path) -> None:
    """With its weights beside it, in `model.data0`, if they are more than a protobuf holds."""
    import onnx

    external = model.ByteSize() > MOST_PACKED
    onnx.save(model, str(path), save_as_external_data=external, location="model.data0" if external else None)
