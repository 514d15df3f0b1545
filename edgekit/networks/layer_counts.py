"""A network's layers with their parameters and MACs, counted while it runs on its example inputs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from edgekit.core.artifact import Operator


def layers(network: nn.Module, inputs: Sequence[Tensor]) -> tuple[Operator, ...]:
    """The ATen operators that multiply or have parameters, in the order in which they run. `inputs`: one sample.

    An operator is named after its first parameter; one that reads the same parameters several times, as a recurrent
    layer does at each step, is one entry.
    """
    tensors = [*network.named_parameters(), *network.named_buffers()]
    recorded = _Recorded({tensor.untyped_storage().data_ptr(): (name, tensor) for name, tensor in tensors})
    with torch.no_grad(), _without_fused_operators(), recorded:
        network(*inputs)
    return tuple(recorded.operators.values())


@contextmanager
def _without_fused_operators() -> Iterator[None]:
    """Attention and recurrent layers run as the matrix products that the counter knows."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), sdpa_kernel(SDPBackend.MATH):
            warnings.simplefilter("ignore")  # of flags this does not set
            with torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


class _Recorded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """`tensors`: address of the storage → name and tensor."""

    def __init__(self, tensors: dict[int, tuple[str, Tensor]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: dict[Any, Operator] = {}
        self._tensors = tensors

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = list(_tensors_in([result]))
        if any(tensor.untyped_storage().data_ptr() in self._tensors for tensor in outputs):  # a view of a parameter
            return result
        own = dict(
            self._tensors[a] for t in _tensors_in(args) if (a := t.untyped_storage().data_ptr()) in self._tensors
        )
        count = flop_registry.get(func._overloadpacket)
        macs = int(count(*args, **(kwargs or {}), out_val=result)) // 2 if count else 0
        if macs or own:
            key = (func, tuple(own)) if own else len(self.operators)
            before = self.operators.get(key)
            self.operators[key] = Operator(
                func._overloadpacket.__name__,
                next((name.rpartition(".")[0] for name in own), "").removeprefix("network."),
                sum(tensor.numel() for tensor in own.values()),
                macs + (before.macs or 0 if before else 0),
                sum(tensor.nbytes for tensor in own.values()),
                sum(tensor.nbytes for tensor in outputs) + (before.activation_bytes or 0 if before else 0),
            )
        return result


def _tensors_in(values: Iterable[Any]) -> Iterable[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from _tensors_in(value)
