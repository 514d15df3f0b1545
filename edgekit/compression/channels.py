"""Structured pruning of channels and attention heads.

Torch-Pruning's dependency graph (https://arxiv.org/abs/2301.12900) propagates a cut through residual connections,
depthwise and grouped convolutions, concatenations and attention.

Layers that cannot be pruned without breaking the network (its outputs, sizes fixed by a reshape) are found by trial:
groups are pruned one by one, and a group after which the network is not the original without the removed channels
(`removal.py`) is left unpruned. A network that splits channels is also tried cut apart there (`splits.py`), and the
smaller of the two networks is returned.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from edgekit.compression import dependencies, recurrent, splits
from edgekit.compression.dependencies import WrongIndices
from edgekit.compression.removal import Removal
from edgekit.core.errors import CannotConvert, InputError

Importance = Literal["magnitude", "taylor", "bn-scale"]
Scope = Literal["layer", "global"]
#: with the scope `global`, the largest share of its channels that a layer may lose
MAX_LAYER_RATIO = 0.9
#: attribute names for a module's number of attention heads
HEADS = ("heads", "num_heads", "num_attention_heads", "n_heads", "nhead", "n_head")
#: names of the layers whose outputs are split into heads
SPLIT = {"query", "key", "value", "q", "k", "v", "qkv", "query_key_value", "q_proj", "k_proj", "v_proj"}
SPLIT |= {"to_q", "to_k", "to_v", "to_qkv", "q_lin", "k_lin", "v_lin", "Wqkv", "in_proj"}
#: the layers that lose output channels
PRUNED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
#: name of the layers at splits, while the network is traced
JOINTS = "layers_at_splits"
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Cut:
    """How to prune. `ratio`: the share of channels to remove, of each layer or (`global`) of all layers together.

    The remaining number of channels of a layer is a multiple of `round_to`.
    """

    ratio: float
    importance: Importance = "magnitude"
    scope: Scope = "layer"
    round_to: int = 8


@dataclass(frozen=True)
class Result:
    """A pruned network, and the names of the layers that cannot be pruned."""

    network: nn.Module
    whole: tuple[str, ...]


def cut(
    network: nn.Module, inputs: Sequence[Tensor], how: Cut, learn: Callable[[nn.Module], None] | None = None
) -> Result:
    """A pruned copy of `network`; it is traced with `inputs`.

    `learn` accumulates gradients of the loss in the copy, for the Taylor criterion (https://arxiv.org/abs/1906.10771).
    Raises CannotConvert if the network cannot be traced or nothing can be pruned, and InputError for BatchNorm scales
    (https://arxiv.org/abs/1708.06519) if the network has no BatchNorm.
    """
    if how.importance == "bn-scale" and not any(isinstance(m, NORMS) for m in network.modules()):
        raise InputError("this network has no BatchNorm, which bn-scale needs", next="use magnitude or taylor")
    results, failures = [], []
    for cut_apart in (False, True) if splits.layers_for(network, inputs) else (False,):
        try:
            results.append(_cut_by_trial(network, inputs, how, learn, cut_apart))
        except CannotConvert as error:
            failures.append(error)
    if not results:
        raise failures[0]
    result = min(results, key=lambda result: size(result.network))
    if size(result.network) == size(network):
        why = f"at ratio {how.ratio:g}, in multiples of {how.round_to}, no layer can lose a channel"
        if result.whole:
            names = ", ".join(name.removeprefix("network.") for name in result.whole[:5])
            why += f"; splits, reshapes, recurrence or the outputs fix the channels of {names}"
        raise CannotConvert("there is nothing to prune", why, "raise the ratio, or lower round_to")
    return result


def _cut_by_trial(
    network: nn.Module,
    inputs: Sequence[Tensor],
    how: Cut,
    learn: Callable[[nn.Module], None] | None,
    cut_apart: bool,
) -> Result:
    """Prune copies until one does not break. Raises CannotConvert."""
    whole: set[str] = set()
    while True:
        smaller = copy.deepcopy(network)
        if how.importance == "taylor":
            assert learn is not None
            learn(smaller)
        broken, fixed = _cut(smaller, inputs, how, whole, cut_apart)
        if not broken:
            break
        if broken <= whole:
            why = f"{', '.join(sorted(broken))} cannot be left unpruned"
            raise CannotConvert("this network cannot be pruned", why, "replace its splits or reshapes of channels")
        whole |= broken
    smaller.zero_grad(set_to_none=True)
    return Result(smaller, tuple(sorted(whole | fixed)))


def size(network: nn.Module) -> int:
    """The number of parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def macs(network: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Multiply-accumulate operations of one sample, by Torch-Pruning's counter (convolutions and linear layers)."""
    import torch_pruning

    training = network.training
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # on a copy: the counter modifies modules
        total, _ = torch_pruning.utils.count_ops_and_params(copy.deepcopy(network).eval(), tuple(inputs))
    network.train(training)
    batch = len(inputs[0]) if inputs[0].ndim else 1
    return int(total) // max(batch, 1)


def _cut(
    network: nn.Module, inputs: Sequence[Tensor], how: Cut, whole: Iterable[str], cut_apart: bool
) -> tuple[set[str], set[str]]:
    """Prune in place; the names of the layers whose pruning broke the network, if any, and of those that stay whole."""
    import torch_pruning

    class Pruner(torch_pruning.pruner.BasePruner):  # type: ignore[misc]
        """Rounds to the nearest multiple; the base class rounds down: 1 % could halve a layer of 16 channels."""

        _parts = 1

        def _is_atten_group(self, group: Any) -> Any:
            """Called for each group just before its channels are rounded."""
            self._parts = self._get_channel_groups(group)
            return super()._is_atten_group(group)

        def _round_to(self, n_pruned: int, current_channels: int, round_to: int) -> int:
            """`n_pruned` is of one part, a head or a group of a norm, `current_channels` and the multiple of all."""
            channels, step = current_channels // self._parts, round_to // math.gcd(round_to, self._parts)
            nearest = step * max(round((channels - n_pruned) / step), 1)
            return max(channels - nearest, 0)

        def estimate_importance(self, group: Any) -> Any:
            """Its indices may be wrong behind a split or a chunk, whose parts meet again."""
            try:
                importance = super().estimate_importance(group)
            except (LookupError, RuntimeError) as error:
                raise WrongIndices(_layers(group, names)) from error
            if importance is not None and len(importance) % self._get_channel_groups(group):
                raise WrongIndices(_layers(group, names))
            return importance

    network.eval()
    removed = Removal(copy.deepcopy(network), inputs)
    joints = splits.layers_for(network, inputs) if cut_apart else nn.ModuleList()
    fixed = set(recurrent.layers(network))
    modules = dict(network.named_modules())
    names = {module: name for name, module in modules.items()}
    ignored = [modules[name] for name in [*whole, *recurrent.layers(network)]]
    if cut_apart:
        network.add_module(JOINTS, joints)  # the tracer finds the modules of the network alone
    heads = _heads(network)
    per_head = {m: m.num_heads for m in network.modules() if isinstance(m, nn.MultiheadAttention)}
    importance = {
        "magnitude": torch_pruning.importance.GroupMagnitudeImportance,
        "taylor": torch_pruning.importance.GroupTaylorImportance,
        "bn-scale": torch_pruning.importance.BNScaleImportance,
    }[how.importance]()
    with warnings.catch_warnings(), dependencies.checked(network), recurrent.traced_whole(network):
        warnings.simplefilter("ignore")
        try:
            pruner = Pruner(
                network,
                tuple(inputs),
                importance=importance,
                pruning_ratio=how.ratio,
                max_pruning_ratio=MAX_LAYER_RATIO if how.scope == "global" else 1.0,
                global_pruning=how.scope == "global",
                round_to=how.round_to,
                ignored_layers=[*ignored, *joints],
                forward_fn=splits.traced_with(joints) if cut_apart else None,
                customized_pruners=recurrent.pruners(network),
                # the defaults are shared by all pruners, and keep their networks
                in_channel_groups=dict(per_head),
                out_channel_groups=dict(per_head),
                num_heads={layer: count for layer, (_, _, count) in heads.items()},
                prune_num_heads=True,
                prune_head_dims=False,
                head_pruning_ratio=how.ratio,
                root_module_types=list(PRUNED),
            )
            if cut_apart:
                fixed |= _fixed(pruner, joints, names)
            groups = _groups(pruner, fixed, names)
        except WrongIndices as error:
            return error.layers, fixed
        except Exception as error:  # its tracer raises many kinds
            raise _untraceable(error) from error
        finally:
            if cut_apart:
                delattr(network, JOINTS)
        try:
            kept = (group for group in groups if not any(dep.target.module in joints for dep, _ in group))
            return _prune_all(kept, lambda: _set_heads(heads, pruner.num_heads), network, removed, names), fixed
        except WrongIndices as error:
            return error.layers, fixed
        except Exception as error:
            raise _untraceable(error) from error


def _prune_all(
    groups: Iterable[Any],
    set_heads: Callable[[], None],
    network: nn.Module,
    removed: Removal,
    names: dict[nn.Module, str],
) -> set[str]:
    """Prune one group after another; the names of the layers whose pruning broke the network, if any."""
    involving: dict[str, set[str]] = {}  # layer → those that were pruned together with it
    for group in groups:
        involved = _layers(group, names)
        if not _prune(group, set_heads, network, removed, names):
            return involved
        for dep, _ in group:
            involving.setdefault(names.get(dep.target.module, ""), set()).update(involved)
    mixed = removed.mixed()
    return involving[mixed] if mixed else set()


def _untraceable(error: Exception) -> CannotConvert:
    lines = str(error).splitlines() or [type(error).__name__]
    return CannotConvert("this network's layer dependencies cannot be traced", lines[0])


def _groups(pruner: Any, fixed: set[str], names: dict[nn.Module, str]) -> Iterator[Any]:
    """The groups to prune; the layers of those that would lose all their channels somewhere are added to `fixed`."""
    enough = pruner.DG.check_pruning_group

    def check(group: Any) -> bool:
        if enough(group):
            return True
        fixed.update(_layers(group, names))
        return False

    pruner.DG.check_pruning_group = check
    groups: Iterator[Any] = pruner.step(interactive=True)
    return groups


def _fixed(pruner: Any, joints: Iterable[nn.Module], names: dict[nn.Module, str]) -> set[str]:
    """The layers whose output channels go into a split, or are added to a part of one."""
    groups = pruner.DG.get_all_groups(root_module_types=pruner.root_module_types)
    of_splits = [group for group in groups if any(dep.target.module in joints for dep, _ in group)]
    return {name for group in of_splits for name in _layers(group, names)}


def _prune(
    group: Any,
    set_heads: Callable[[], None],
    network: nn.Module,
    removed: Removal,
    names: dict[nn.Module, str],
) -> bool:
    """Prune a group; is the network still the original without the removed channels?"""
    try:
        removed.add(group, names)
        group.prune()
        set_heads()
        return removed.is_right(network)
    except Exception:  # a reshape that fixed a size, an index beyond the end, …
        return False


def _layers(group: Any, names: dict[nn.Module, str]) -> set[str]:
    """The layers whose output channels a group prunes."""
    layers = {
        names[dep.target.module]
        for dep, _ in group
        if isinstance(dep.target.module, (*PRUNED, nn.Embedding))
        and dep.target.module in names
        and "out" in getattr(dep.handler, "__name__", "")
    }
    root = group[0].dep.target.module
    return layers or ({names[root]} if root in names else set())


def _heads(network: nn.Module) -> dict[nn.Module, tuple[nn.Module, str, int]]:
    """Layer whose output is split into heads → the attention it is in, its attribute with their number, the number."""
    heads: dict[nn.Module, tuple[nn.Module, str, int]] = {}
    for module in network.modules():
        attribute = next((name for name in HEADS if type(vars(module).get(name)) is int), None)
        if attribute is None or isinstance(module, nn.MultiheadAttention):
            continue
        count = getattr(module, attribute)
        for name, layer in module.named_children():
            if name in SPLIT and isinstance(layer, nn.Linear) and count > 1 and layer.out_features % count == 0:
                heads[layer] = (module, attribute, count)
    return heads


def _set_heads(heads: dict[nn.Module, tuple[nn.Module, str, int]], left: dict[nn.Module, int]) -> None:
    """Update the attributes that the attention's code reads after heads were pruned."""
    for layer, (module, attribute, count) in heads.items():
        now = left.get(layer, count)
        setattr(module, attribute, now)
        if type(vars(module).get("all_head_size")) is int and type(vars(module).get("attention_head_size")) is int:
            setattr(module, "all_head_size", now * vars(module)["attention_head_size"])  # noqa: B010
