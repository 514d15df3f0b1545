"""What torch raises, in words."""

from __future__ import annotations

import pytest

from edgekit.core.errors import InputError
from edgekit.training import torch_errors
from edgekit.training.settings import Settings

torch = pytest.importorskip("torch")


BASE = Settings(epochs=2, batch=64, lr=0.01)


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory")])
def test_out_of_memory_says_what_to_halve(error: Exception) -> None:
    with pytest.raises(InputError) as raised, torch_errors.translated(BASE, torch.device("cpu")):
        raise error
    assert "--batch 32 --accumulate 2" in raised.value.next


def test_out_of_memory_as_torch_says_it_on_a_cpu() -> None:
    with pytest.raises(InputError, match="out of memory"), torch_errors.translated(BASE, torch.device("cpu")):
        torch.empty(2**60)
    with pytest.raises(RuntimeError), torch_errors.translated(BASE, torch.device("cpu")):
        torch.ones(2) @ torch.ones(3)
