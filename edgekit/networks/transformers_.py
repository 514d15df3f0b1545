"""Networks of the library transformers with the outputs that their file gets."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor, nn

from edgekit.core.errors import InputError


class Outputs(nn.Module):
    """A network that is called by keywords, and only the outputs of these names."""

    def __init__(self, network: Any, names: Sequence[str]) -> None:
        super().__init__()
        self.network, self.names = network, tuple(names)
        takes_cache = "use_cache" in inspect.signature(network.forward).parameters
        self.options = {"use_cache": False} if takes_cache else {}

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        output = self.network(**inputs, **self.options, return_dict=True)
        if missing := [name for name in self.names if name not in output]:
            what, why = f"{type(self.network).__name__} has no output {missing[0]}", f"it has {', '.join(output)}"
            raise InputError(what, why, "load it in a function of your own: edgekit import net.py:make")
        return {name: output[name] for name in self.names}


class Pooled(nn.Module):
    """One vector for each text: the mean over its tokens, or that of the first one; `normalize` to length 1.

    Reimers and Gurevych 2019 (arXiv:1908.10084), section 3; the bounds of the divisors are sentence-transformers'.
    """

    def __init__(self, network: Any, mode: Literal["mean", "cls"], normalize: bool) -> None:
        super().__init__()
        self.inner = Outputs(network, ["last_hidden_state"])
        self.mode, self.normalize = mode, normalize

    def forward(self, **inputs: Tensor) -> dict[str, Tensor]:
        states = self.inner(**inputs)["last_hidden_state"]
        if self.mode == "cls":
            vector = states[:, 0]
        else:
            mask = inputs["attention_mask"].unsqueeze(-1).to(states.dtype)
            vector = (states * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        if self.normalize:
            vector = vector / vector.square().sum(-1, keepdim=True).sqrt().clamp(min=1e-12)
        return {"embedding": vector}
