"""The processes that train together. One is the rule; of several, each learns from its share of every batch.

Several are started by `torchrun`, and joined by Lightning Fabric, which is imported for them only.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

from edgekit.core.errors import DeviceError, InputError, Missing

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from edgekit.training.checkpoints import State

#: of several processes, the first says whether it is time for a checkpoint after so many steps
ASKED = 16


class Alone:
    """One process, which has nobody to agree with."""

    rank, count = 0, 1

    def begin(self) -> None:
        """Raises InputError in one of several processes that were not joined."""
        if started() > 1:
            what = "several processes train together only through edgekit train"
            raise InputError(what, f"WORLD_SIZE is {started()}", "run this one without torchrun")

    def cuts(self, samples: int, batch: int) -> list[int]:
        """Where batches begin, and where the last one ends."""
        return [*range(0, samples, batch), samples]

    def generator(self, order: torch.Generator, seed: int) -> torch.Generator:
        """What augmentations are drawn from."""
        return order

    def wrap(self, network: nn.Module) -> Any:
        """What to call in place of the network."""
        return network

    def learning(self, wrapped: Any, last: bool) -> AbstractContextManager[Any]:
        """Around a batch: with `last` its gradients are, after backward, those of all processes."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def sum(self, value: float) -> float:
        return value

    def any(self, value: bool) -> bool:
        """Does the first process say so?"""
        return value

    def told(self, found: Any) -> Any:
        """What the first process found, plain JSON values, in every process."""
        return found

    def state(self, found: State | None) -> State | None:
        """The first process's checkpoint, in every process."""
        return found

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensor of every process, by rank."""
        return [tensor]


class Several(Alone):
    """One of several processes that were started by torchrun."""

    def __init__(self, fabric: Any) -> None:
        self._fabric = fabric
        self.rank, self.count = int(fabric.global_rank), int(fabric.world_size)
        self.device: torch.device = fabric.device
        self._begun, self._asked = False, 0

    def begin(self) -> None:
        """The first process lets the others, which `wait`, go on."""
        if self.rank == 0 and not self._begun:
            self.told(True)
        self._begun = True

    def release(self) -> None:
        """Let the others go where no training began."""
        if self.rank == 0 and not self._begun:
            self._begun = True
            self.told(False)

    def wait(self) -> bool:
        """Until the first process trains, or is through without."""
        return bool(self.told(None))

    def cuts(self, samples: int, batch: int) -> list[int]:
        """The last batch takes the rest with it where that is too little for every process."""
        least = 2 * self.count
        if min(samples, batch) < least:
            what = f"{self.count} processes cannot share {min(samples, batch)} samples a batch"
            raise InputError(what, f"each needs two, so {least} in all", "take a larger batch, or fewer processes")
        cuts = super().cuts(samples, batch)
        if len(cuts) > 2 and cuts[-1] - cuts[-2] < least:
            del cuts[-2]
        return cuts

    def generator(self, order: torch.Generator, seed: int) -> torch.Generator:
        import torch

        torch.manual_seed(seed + 1_000_003 * (self.rank + 1))  # dropout, too, differs between the processes
        return torch.Generator().manual_seed(seed + 1_000_003 * (self.rank + 1))

    def wrap(self, network: nn.Module) -> Any:
        import torch

        if self.device.type == "cuda" and any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules()):
            network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return self._fabric.setup_module(network)

    def learning(self, wrapped: Any, last: bool) -> AbstractContextManager[Any]:
        found: AbstractContextManager[Any] = self._fabric.no_backward_sync(wrapped, enabled=not last)
        return found

    def backward(self, loss: Tensor) -> None:
        self._fabric.backward(loss)

    def sum(self, value: float) -> float:
        import torch

        return float(self._fabric.all_reduce(torch.tensor(value, dtype=torch.float64), reduce_op="sum"))

    def any(self, value: bool) -> bool:
        self._asked += 1
        return bool(self.told(value)) if self._asked % ASKED == 0 else False

    def told(self, found: Any) -> Any:
        return json.loads(self._broadcast(json.dumps(found).encode() if self.rank == 0 else b""))

    def state(self, found: State | None) -> State | None:
        from safetensors.torch import load, save

        plain: Mapping[str, Any] | None = self.told(found and found[1])
        if plain is None:
            return None
        raw = self._broadcast(save(found[0]) if found is not None else b"")
        return dict(load(raw)), dict(plain)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        return [part.cpu() for part in self._fabric.all_gather(tensor).unbind()]

    def _broadcast(self, raw: bytes) -> bytes:
        """The first process's bytes in every process; nothing is pickled."""
        import torch
        from torch import distributed

        size = torch.tensor([len(raw)], device=self.device)
        distributed.broadcast(size, 0)
        held = torch.empty(int(size), dtype=torch.uint8, device=self.device)
        if self.rank == 0:
            held = torch.frombuffer(bytearray(raw), dtype=torch.uint8).to(self.device)
        distributed.broadcast(held, 0)
        return bytes(held.cpu().numpy())


_current: Alone = Alone()


def current() -> Alone:
    return _current


def started() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1") or 1)


def rank() -> int:
    return int(os.environ.get("RANK", "0") or 0) if started() > 1 else 0


@contextmanager
def joined(accelerator: str) -> Iterator[Several]:
    """This process as one of several. Raises Missing without Lightning Fabric, InputError where no such device is."""
    global _current
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise Missing.install("training in several processes", "lightning-fabric", "distributed") from error
    import torch

    kind = ("cuda" if torch.cuda.is_available() else "cpu") if accelerator == "auto" else accelerator
    if kind == "mps" or (kind == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"several processes cannot train on {kind} here", next="use --accelerator cpu")
    here, nodes = (int(os.environ.get(name, "1")) for name in ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"))
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    strategy = DDPStrategy(find_unused_parameters=True)  # a network may have outputs that nothing is learnt from
    fabric = Fabric(accelerator=kind, strategy=strategy, devices=here, num_nodes=nodes)
    fabric.launch()
    _current = joined = Several(fabric)
    before = signal.signal(signal.SIGTERM, _ended)  # torchrun ends the others when one has died
    try:
        yield joined
        torch.distributed.destroy_process_group()
    except RuntimeError as error:
        if not is_lost(error):
            raise
        _ended()
    finally:
        signal.signal(signal.SIGTERM, before)
        _current = Alone()


def is_lost(error: Exception) -> bool:
    """Is this what a collective says when another process is gone?"""
    text = str(error)
    return any(word in text for word in ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL"))


def _ended(*_: Any) -> NoReturn:
    raise lost()


def lost() -> DeviceError:
    what = f"process {rank()} stops: another process of this training has ended"
    return DeviceError(what, "what it said is above", "run the same command again: it goes on from its checkpoint")
