"""Limits and corrections of Torch-Pruning's dependency graph, while it is in use.

A flattening that is none, or wrong indices behind a split, lead to ever new indices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torch import nn

#: of a group; DenseNet-201 has some 5,000
MOST_DEPENDENCIES = 10_000
#: of a layer, times its widest weight, and at least so many; a flattened 512x14x14 has some 100,000
MOST_INDICES = 200_000


class WrongIndices(Exception):
    """The channels of a group cannot be followed: its indices do not fit these layers."""

    def __init__(self, layers: set[str]) -> None:
        super().__init__("its splits or reshapes of channels are read wrongly")
        self.layers = layers


class TooManyIndices(Exception):
    """Indices that grow without end."""


@contextmanager
def checked(network: nn.Module) -> Iterator[None]:
    """While a group that grows without end raises WrongIndices, and only a flattening is taken for one."""
    from torch_pruning.dependency import index_mapping
    from torch_pruning.dependency.graph import DependencyGraph
    from torch_pruning.dependency.group import Group

    add, flatten, group_of = (
        Group.add_dep,
        index_mapping._FlattenIndexMapping.__call__,
        DependencyGraph.get_pruning_group,
    )
    update = index_mapping.update_reshape_index_mapping
    widest = max((size for parameter in network.parameters() for size in parameter.shape), default=0)
    most = max(MOST_INDICES, 2 * widest)

    def bounded_add(group: Any, dep: Any, idxs: Any) -> None:
        if len(group) >= MOST_DEPENDENCIES or len(idxs) > most:
            raise TooManyIndices
        add(group, dep, idxs)

    def bounded_flatten(mapping: Any, idxs: Any) -> Any:
        if not mapping.reverse and len(idxs) * mapping._stride > most:
            raise TooManyIndices
        return flatten(mapping, idxs)

    def bounded_group(graph: Any, module: nn.Module, *rest: Any) -> Any:
        try:
            return group_of(graph, module, *rest)
        except TooManyIndices as error:
            raise WrongIndices({graph._module2name[module]}) from error

    def checked_update(graph: Any, node: Any) -> None:
        if _may_flatten(graph, node):
            update(graph, node)

    with (
        mock.patch.object(Group, "add_dep", bounded_add),
        mock.patch.object(index_mapping._FlattenIndexMapping, "__call__", bounded_flatten),
        mock.patch.object(DependencyGraph, "get_pruning_group", bounded_group),
        mock.patch.object(index_mapping, "update_reshape_index_mapping", checked_update),
    ):
        yield


def _may_flatten(graph: Any, reshape: Any) -> bool:
    """Does a layer behind it read all axes but the batch? Torch-Pruning asks that by an attribute of old versions."""
    from torch_pruning.dependency import shape_infer

    size = getattr(reshape.grad_fn, "_saved_self_sym_sizes", ())
    if len(size) < 3:
        return True
    counted = [shape_infer.infer_in_channels_recursively(graph, node, [0]) for node in reshape.outputs]
    return math.prod(size[1:]) in counted
