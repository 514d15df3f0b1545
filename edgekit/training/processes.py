"""Data-parallel training: one process, or several that each take a share of every batch.

`torchrun` starts several, and Lightning Fabric, imported for them only, joins them.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NoReturn

from edgekit.core import children
from edgekit.core.errors import DeviceError, InputError, Missing

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from edgekit.training.checkpoints import State

#: of several processes, the first broadcasts whether a checkpoint is due after so many steps
FLAG_INTERVAL = 16


class SingleProcess:
    """Training in one process."""

    rank, count = 0, 1

    def begin_training(self) -> None:
        """Raises InputError in one of several processes that are not joined."""
        if world_size() > 1:
            what = "only edgekit train can run in several processes"
            raise InputError(what, f"WORLD_SIZE is {world_size()}", "run this command without torchrun")

    def batch_bounds(self, samples: int, batch: int) -> list[int]:
        """The first sample of each batch, and the end of the last batch."""
        return [*range(0, samples, batch), samples]

    def generator(self, order: torch.Generator, seed: int) -> torch.Generator:
        """The generator for augmentation."""
        return order

    def wrap(self, network: nn.Module) -> Any:
        """What is called in place of the network."""
        return network

    def gradient_sync(self, wrapped: Any, last: bool) -> AbstractContextManager[Any]:
        """Context of a batch; with `last`, backward averages the gradients over all processes."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()  # type: ignore[no-untyped-call]

    def sum(self, value: float) -> float:
        return value

    def broadcast_flag(self, value: bool) -> bool:
        """The first process's value in every process; always False between two broadcasts."""
        return value

    def broadcast(self, value: Any) -> Any:
        """The first process's JSON value in every process."""
        return value

    def broadcast_state(self, state: State | None) -> State | None:
        """The first process's checkpoint in every process."""
        return state

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes, by rank."""
        return [tensor]


class DistributedProcess(SingleProcess):
    """One of several processes started by torchrun."""

    def __init__(self, fabric: Any) -> None:
        self._fabric = fabric
        self.rank, self.count = int(fabric.global_rank), int(fabric.world_size)
        self.device: torch.device = fabric.device
        self._started_training, self._flag_calls = False, 0

    def begin_training(self) -> None:
        """The first process lets the others, which `wait`, start."""
        if self.rank == 0 and not self._started_training:
            self.broadcast(True)
        self._started_training = True

    def release(self) -> None:
        """Let the others end if no training started."""
        if self.rank == 0 and not self._started_training:
            self._started_training = True
            self.broadcast(False)

    def wait(self) -> bool:
        """Wait for the first process; returns whether it trains."""
        return bool(self.broadcast(None))

    def batch_bounds(self, samples: int, batch: int) -> list[int]:
        """A remainder too small for every process joins the last batch."""
        least = 2 * self.count
        if min(samples, batch) < least:
            what = f"{self.count} processes cannot share {min(samples, batch)} samples a batch"
            raise InputError(
                what, f"each needs at least two ({least} in all)", "use a larger batch, or fewer processes"
            )
        bounds = super().batch_bounds(samples, batch)
        if len(bounds) > 2 and bounds[-1] - bounds[-2] < least:
            del bounds[-2]
        return bounds

    def generator(self, order: torch.Generator, seed: int) -> torch.Generator:
        import torch

        torch.manual_seed(seed + 1_000_003 * (self.rank + 1))  # dropout must also differ between processes
        return torch.Generator().manual_seed(seed + 1_000_003 * (self.rank + 1))

    def wrap(self, network: nn.Module) -> Any:
        import torch

        if self.device.type == "cuda" and any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules()):
            network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return self._fabric.setup_module(network)

    def gradient_sync(self, wrapped: Any, last: bool) -> AbstractContextManager[Any]:
        context: AbstractContextManager[Any] = self._fabric.no_backward_sync(wrapped, enabled=not last)
        return context

    def backward(self, loss: Tensor) -> None:
        self._fabric.backward(loss)

    def sum(self, value: float) -> float:
        import torch

        return float(self._fabric.all_reduce(torch.tensor(value, dtype=torch.float64), reduce_op="sum"))

    def broadcast_flag(self, value: bool) -> bool:
        self._flag_calls += 1
        return bool(self.broadcast(value)) if self._flag_calls % FLAG_INTERVAL == 0 else False

    def broadcast(self, value: Any) -> Any:
        return json.loads(self._broadcast_bytes(json.dumps(value).encode() if self.rank == 0 else b""))

    def broadcast_state(self, state: State | None) -> State | None:
        from safetensors.torch import load, save

        values: Mapping[str, Any] | None = self.broadcast(state and state[1])
        if values is None:
            return None
        raw = self._broadcast_bytes(save(state[0]) if state is not None else b"")
        return dict(load(raw)), dict(values)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        return [part.cpu() for part in self._fabric.all_gather(tensor).unbind()]

    def _broadcast_bytes(self, raw: bytes) -> bytes:
        """The first process's bytes in every process; nothing is pickled."""
        import torch
        from torch import distributed

        size = torch.tensor([len(raw)], device=self.device)
        distributed.broadcast(size, 0)
        buffer = torch.empty(int(size), dtype=torch.uint8, device=self.device)
        if self.rank == 0:
            buffer = torch.frombuffer(bytearray(raw), dtype=torch.uint8).to(self.device)
        distributed.broadcast(buffer, 0)
        return bytes(buffer.cpu().numpy())


_current: SingleProcess = SingleProcess()


def current() -> SingleProcess:
    return _current


def world_size() -> int:
    """The number of processes that torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1") or 1)


def rank() -> int:
    return int(os.environ.get("RANK", "0") or 0) if world_size() > 1 else 0


@contextmanager
def joined(accelerator: str) -> Iterator[DistributedProcess]:
    """This process as one of several. Raises Missing without Lightning Fabric, InputError without such a device."""
    global _current
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise Missing.install("training in several processes", "lightning-fabric", "distributed") from error
    import torch

    kind = ("cuda" if torch.cuda.is_available() else "cpu") if accelerator == "auto" else accelerator
    if kind == "mps" or (kind == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"several processes cannot train on {kind} on this machine", next="use --accelerator cpu")
    local_count, nodes = (int(os.environ.get(name, "1")) for name in ("LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"))
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    strategy = DDPStrategy(find_unused_parameters=True)  # a network may have outputs that the loss does not use
    fabric = Fabric(accelerator=kind, strategy=strategy, devices=local_count, num_nodes=nodes)
    fabric.launch()
    _current = joined = DistributedProcess(fabric)
    children.end_with_parent()
    previous_handler = signal.signal(signal.SIGTERM, _stop)  # torchrun sends it to the others when one has died
    try:
        yield joined
        torch.distributed.destroy_process_group()
    except RuntimeError as error:
        if not is_process_lost(error):
            raise
        _stop()
    finally:
        signal.signal(signal.SIGTERM, previous_handler)
        _current = SingleProcess()


def is_process_lost(error: Exception) -> bool:
    """Whether this is the error of a collective operation after another process has ended."""
    text = str(error)
    return any(part in text for part in ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL"))


def _stop(*_: Any) -> NoReturn:
    raise lost_process()


def lost_process() -> DeviceError:
    what = f"process {rank()} stops: another process of this training has ended"
    return DeviceError(what, "its error is above", "run the same command again: it resumes from the checkpoint")
