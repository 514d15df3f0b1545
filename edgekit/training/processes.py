"""The processes that train together. One is the rule; of several, each learns from its share of every batch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from edgekit.training.checkpoints import State


class Alone:
    """One process, which has nobody to agree with."""

    rank, count = 0, 1

    def cuts(self, samples: int, batch: int) -> list[int]:
        """Where batches begin, and where the last one ends."""
        return [*range(0, samples, batch), samples]

    def generator(self, order: torch.Generator, seed: int) -> torch.Generator:
        """What augmentations are drawn from."""
        return order

    def wrap(self, network: nn.Module) -> Any:
        """What to call in place of the network; None for the network itself."""
        return None

    def backward(self, loss: Tensor, through: Any, last: bool) -> None:
        """Gradients of the loss; with `last` they are then those of all processes."""
        loss.backward()  # type: ignore[no-untyped-call]

    def sum(self, value: float) -> float:
        return value

    def any(self, value: bool) -> bool:
        """Does the first process say so?"""
        return value

    def state(self, found: State | None) -> State | None:
        """The first process's checkpoint, in every process."""
        return found

    def told(self, found: Any) -> Any:
        """What the first process found, plain JSON values, in every process."""
        return found

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensor of every process, by rank."""
        return [tensor]


_current: Alone = Alone()


def current() -> Alone:
    return _current
