"""Torch errors as edgekit errors."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import EdgekitError, InputError, Missing
from edgekit.training import processes
from edgekit.training.settings import Settings

if TYPE_CHECKING:
    import torch

COMPILERS = ("g++", "clang++", "c++")


@contextmanager
def translated(settings: Settings, device: torch.device) -> Iterator[None]:
    """Raises InputError instead of torch's error if memory runs out, or if a network cannot be compiled."""
    try:
        yield
    except EdgekitError:
        raise
    except (MemoryError, RuntimeError) as error:
        if _is_out_of_memory(error):
            raise _out_of_memory(settings, device) from error
        if processes.current().count > 1 and processes.is_process_lost(error):
            raise processes.lost_process() from error
        if settings.compile and type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
            first_line = str(error).strip().partition("\n")[0]
            raise InputError("this network cannot be compiled", first_line, "leave out compile") from error
        raise


def compile_network(network: Any) -> Any:
    """The network through torch.compile. Raises Missing without a C++ compiler."""
    import torch

    if not any(map(shutil.which, COMPILERS)):
        raise Missing("compile needs a C++ compiler", f"no {', '.join(COMPILERS)} is installed", "apt install g++")
    return torch.compile(network)


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _out_of_memory(settings: Settings, device: torch.device) -> InputError:
    what = f"out of memory while training on {device}"
    if settings.batch == 1:
        return InputError(what, "even one sample at a time does not fit", "use a smaller network, or smaller samples")
    half, doubled = settings.batch // 2, settings.accumulate * 2
    why = f"a batch of {settings.batch} does not fit"
    return InputError(
        what,
        why,
        f"--batch {half} --accumulate {doubled} needs about half the memory, and gives the same optimizer steps",
    )
