"""A torch network as plainnet layers, by torch.export."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import networks
from edgekit.core.artifact import Artifact
from edgekit.core.mute import muted
from edgekit.core.step import Context
from edgekit.formats import write_specs
from edgekit.networks.tracing import converting, example, trace

#: what the layers do not offer otherwise
USUAL = {
    "dilation": ([1, 1],),
    "groups": (1,),
    "ceil_mode": (False,),
    "alpha": (1,),
    "start_dim": (1,),
    "end_dim": (-1,),
}

Layers = list[dict[str, Any]]
Arrays = dict[str, Any]

#: torch's operators, as layers of the runtime
TYPES = {
    "aten.conv2d.default": "conv",
    "aten.linear.default": "linear",
    "aten.max_pool2d.default": "max_pool",
    "aten.flatten.using_ints": "flatten",
    "aten.relu.default": "relu",
    "aten.mul.Tensor": "mul",
    "aten.add.Tensor": "add",
}


def lowered(parent: Artifact, ctx: Context) -> tuple[Layers, Arrays]:
    """The network's layers in order, and its constants. Raises CannotConvert for an operator that plainnet lacks."""
    network, inputs = networks.load(parent.path), example(parent)
    with muted(ctx.log), converting(parent.name, "plainnet", network, inputs.inputs):
        program = trace(network, inputs, ctx.log)
        signature = program.graph_signature
        names = dict(zip(signature.user_inputs, (spec.name for spec in parent.inputs), strict=True))
        names |= dict(zip(signature.user_outputs, (spec.name for spec in parent.outputs), strict=True))
        arrays = {}
        for name, target in {**signature.inputs_to_parameters, **signature.inputs_to_buffers}.items():
            tensor = program.state_dict.get(target, program.constants.get(target))
            arrays[name] = tensor.detach().numpy()
        return [_layer(node, names) for node in program.graph.nodes if node.op == "call_function"], arrays


def _layer(node: Any, names: Mapping[str, str]) -> dict[str, Any]:
    """One node of the program as a layer, all of its arguments by name."""
    if str(node.target) not in TYPES:
        raise NotImplementedError(f"plainnet has no layer for {node.target}")
    schema = node.target._schema.arguments
    given = {argument.name: argument.default_value for argument in schema}
    given |= dict(zip(given, node.args, strict=False)) | node.kwargs
    unusual = [name for name, usual in USUAL.items() if name in given and given[name] not in usual]
    if unusual or given.get("bias", "") is None:
        raise NotImplementedError(f"plainnet has no {node.target} with another {unusual or 'bias'}")
    layer: dict[str, Any] = {"type": TYPES[str(node.target)], "output": names.get(node.name, node.name)}
    layer["inputs"] = [
        names.get(given[key].name, given[key].name) for key in ("input", "self", "other") if key in given
    ]
    layer |= {key: given[key].name for key in ("weight", "bias") if key in given}
    shapes = {key: list(given[key]) for key in ("kernel_size", "stride", "padding") if key in given}
    return {**layer, **shapes, "stride": shapes.get("stride") or shapes.get("kernel_size")}


def write(parent: Artifact, layers: Layers, arrays: Arrays, out: Path) -> None:
    graph = np.frombuffer(json.dumps(layers).encode(), np.uint8)
    np.savez(out / "model.npz", graph=graph, **arrays)
    write_specs(out, parent.inputs, parent.outputs)
