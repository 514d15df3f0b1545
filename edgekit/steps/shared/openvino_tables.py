"""Positional embeddings of an OpenVINO graph, stored as float16."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgekit.steps.shared.fp16_constants import is_table, misfit

if TYPE_CHECKING:
    from openvino import Model


def halve_tables(model: Model) -> None:
    """Store positional embeddings as float16, in place; they are added in float32."""
    from openvino import opset13 as ops

    for node in model.get_ordered_ops():
        if node.get_type_name() != "Constant" or node.get_element_type().get_type_name() != "f32":
            continue
        readers = node.output(0).get_target_inputs()
        if not is_table(node.data) or any(reader.get_node().get_type_name() != "Add" for reader in readers):
            continue
        if misfit(node.data):
            continue
        stored = ops.constant(node.data.astype(np.float16), name=f"{node.get_friendly_name()}/float16")
        for reader in readers:
            reader.replace_source_output(ops.convert(stored, "f32").output(0))
