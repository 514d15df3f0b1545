"""An OpenVINO graph whose weights are stored in few bits: constants that the CPU plugin keeps as they are.

A weight becomes Multiply(Subtract(Convert(u4), zero points), scales), in blocks `[out, blocks, block]` and a Reshape;
the subtraction is left out of symmetric ones, which are signed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.compression.calibration.openvino import computed, key, read
from edgekit.compression.weight_only.codes import Codes, Floats, Grid, Integers, packed
from edgekit.compression.weight_only.methods import Matrix
from edgekit.compression.weight_only.moments import Feed, Run
from edgekit.steps.shared.openvino_tables import halve_tables
from edgekit.steps.shared.weight_only_step import LEAST_INPUTS, SMALL

if TYPE_CHECKING:
    from openvino import Node, Output

#: operators between a head and its output
_AFTER_HEAD = frozenset("Add Convert Reshape Softmax LogSoftmax Squeeze Unsqueeze Multiply Divide Tanh Result".split())
#: the file's own word for activations that stay float: OpenVINO would quantize them at run time
FLOAT_ACTIVATIONS = ["runtime_options", "DYNAMIC_QUANTIZATION_GROUP_SIZE"]


class OpenvinoWeights:
    level = 0

    def __init__(self, path: Path) -> None:
        self.model = read(path)
        self.path = path
        self.notes: list[str] = []
        self._live = computed(self.model)
        self._heads = self._found_heads()
        self._nodes = {node.get_friendly_name(): node for node in self.model.get_ordered_ops()}
        self._constants: dict[str, Node] = {}

    def fitted(self, grid: Grid, columns: int) -> Grid:
        """A block that does not divide the row is halved until it does; a row has one scale if none does."""
        block = grid.block if grid.block < columns else 0
        while block >= LEAST_INPUTS and columns % block:
            block //= 2
        return dataclasses.replace(grid, block=block if block >= LEAST_INPUTS else 0)

    def matrices(self) -> list[Matrix]:
        return [matrix for node in self._nodes.values() if (matrix := self._matrix(node))]

    def run(self, names: Sequence[str]) -> Run:
        """Of the model as it was read."""
        import openvino
        from openvino import opset13 as ops

        model = read(self.path)
        ports = {key(port): port for node in model.get_ordered_ops() for port in node.outputs()}
        first = len(model.outputs)
        model.add_results([ops.result(ports[name]) for name in names])
        options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "CACHE_DIR": ""}
        inputs = [min(port.get_names(), default=port.node.get_friendly_name()) for port in model.inputs]
        request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

        def compute(feed: Feed) -> Mapping[str, Any]:
            request.infer([feed[name] for name in inputs])
            return {name: request.get_output_tensor(first + index).data for index, name in enumerate(names)}

        return compute

    def store(self, matrices: Sequence[Matrix], codes: Mapping[str, Codes], factors: Mapping[str, Floats]) -> None:
        from openvino import opset13 as ops

        divided: dict[str, Output] = {}
        ports = {key(port): port for node in self._nodes.values() for port in node.outputs()}
        for name, factor in factors.items():
            divided[name] = ops.multiply(ports[name], ops.constant(1 / factor)).output(0)
        for matrix in matrices:
            node = self._nodes[matrix.name]
            weight = self._weight(matrix.key, codes[matrix.key])
            if matrix.role == "table":
                node.input(0).replace_source_output(weight)
                continue
            source = divided.get(matrix.input, node.input_value(0))
            product = ops.matmul(source, weight, False, True)
            names = node.output(0).get_names()
            for reader in node.output(0).get_target_inputs():
                reader.replace_source_output(product.output(0))
            node.output(0).set_names(set())
            node.set_friendly_name(f"{matrix.name}/float")
            product.set_friendly_name(matrix.name)
            product.output(0).set_names(names)
        self.model.validate_nodes_and_infer_types()

    def save(self, folder: Path) -> None:
        import openvino

        halve_tables(self.model)
        self.model.set_rt_info("0", FLOAT_ACTIVATIONS)
        openvino.save_model(self.model, folder / "model.xml", compress_to_fp16=False)

    # --- reading ---

    def _matrix(self, node: Node) -> Matrix | None:
        kind, name = node.get_type_name(), node.get_friendly_name()
        if kind == "Gather":
            axis = node.input_value(2).get_node()
            if axis.get_type_name() != "Constant" or int(axis.get_data().reshape(-1)[0]):
                return None
            if node.input_value(1).get_node().get_friendly_name() not in self._live:
                return None
            return self._found(node, name, 0, False, "table")
        if kind != "MatMul" or node.get_attributes()["transpose_a"]:
            return None
        if node.input_value(0).get_node().get_friendly_name() not in self._live:
            return None
        role = "head" if name in self._heads else "product"
        return self._found(node, name, 1, not node.get_attributes()["transpose_b"], role)

    def _found(self, node: Node, name: str, index: int, turned: bool, role: str) -> Matrix | None:
        source = node.input_value(index).get_node()
        while source.get_type_name() in ("Convert", "Transpose"):
            if source.get_type_name() == "Transpose":
                turned ^= [int(axis) for axis in source.input_value(1).get_node().get_data()] == [1, 0]
            source = source.input_value(0).get_node()
        if source.get_type_name() != "Constant" or source.get_element_type().get_type_name() not in ("f32", "f16"):
            return None
        shape = tuple(source.get_output_shape(0))
        if len(shape) != 2:
            return None
        rows, columns = (shape[1], shape[0]) if turned else shape
        if rows * columns < SMALL or columns < LEAST_INPUTS:
            return None
        constant = source.get_friendly_name()

        def values() -> Floats:
            data = source.get_data()
            return np.ascontiguousarray(data.T if turned else data, np.float32)

        input = "" if role == "table" else key(node.input_value(0))
        return Matrix(name, f"{constant}/turned" if turned else constant, input, values, (rows, columns), role)  # type: ignore[arg-type]

    def _found_heads(self) -> set[str]:
        """The products that a result is made from by little more than a bias."""
        heads: set[str] = set()
        nodes = list(self.model.get_results())
        while nodes:
            node = nodes.pop()
            if node.get_type_name() == "MatMul":
                heads.add(node.get_friendly_name())
            elif node.get_type_name() in _AFTER_HEAD:
                sources = [port.get_node() for port in node.input_values()]
                live = [source for source in sources if source.get_friendly_name() in self._live]
                nodes += live if len(live) == 1 else []
        return heads

    # --- writing ---

    def _weight(self, name: str, codes: Codes) -> Output:
        """The float weight `[out, in]` of the constants that all who read them share."""
        from openvino import opset13 as ops

        grid, (rows, columns) = codes.grid, codes.codes.shape
        blocks = codes.scales.shape[1]
        shape = (rows, blocks, columns // blocks) if blocks > 1 else (rows, columns)
        each = (rows, blocks, 1) if blocks > 1 else (rows, 1)
        stored = self._constant(f"{name}/codes", codes.codes, grid, shape)
        value = ops.convert(stored, "f32")
        if not grid.symmetric:
            zeros = self._constant(f"{name}/zeros", codes.zeros, grid, each)
            value = ops.subtract(value, ops.convert(zeros, "f32"))
        scales = self._constants.setdefault(f"{name}/scales", ops.constant(codes.scales.reshape(each)))
        value = ops.multiply(value, scales)
        if blocks > 1:
            value = ops.reshape(value, ops.constant(np.array([rows, columns], np.int64)), False)
        return value.output(0)

    def _constant(self, name: str, codes: Integers, grid: Grid, shape: tuple[int, ...]) -> Node:
        """Codes as u4 or u8, or of a symmetric grid as i4 or i8."""
        if name not in self._constants:
            import openvino
            from openvino import opset13 as ops

            if grid.symmetric:  # two's complement: the middle becomes 0
                codes = np.bitwise_xor(codes, np.uint8(grid.middle))
            element = getattr(openvino.Type, f"{'i' if grid.symmetric else 'u'}{grid.bits}")
            tensor = openvino.Tensor(element, openvino.Shape(list(shape)))
            values = packed(codes.reshape(-1), grid.bits)
            tensor.data.reshape(-1)[:] = values.view(np.int8) if element == openvino.Type.i8 else values
            self._constants[name] = ops.constant(tensor, name=name)
        return self._constants[name]
