"""Low-rank adaptation of a network in place, by the library peft, and back to a plain network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.backends import mha

from edgekit.core.config import short
from edgekit.core.errors import InputError, ParityFailed, suggest
from edgekit.networks import peft_files
from edgekit.networks.outputs import named_outputs
from edgekit.ondevice.runner import peak_rss_bytes
from edgekit.training.calls import as_input, call
from edgekit.training.lora_settings import LoraSettings

#: the folder of peft's files in an artifact
FOLDER = "adapter"
#: queries, keys and values of attention, as networks call them
ATTENTION = frozenset(
    (
        *("query", "key", "value", "q_proj", "k_proj", "v_proj", "q_lin", "k_lin", "v_lin", "to_q", "to_k", "to_v"),
        *("qkv", "qkv_proj", "query_key_value", "c_attn", "Wqkv"),
    )
)
#: samples over which the merged network is compared, and by how much it may differ, as a share of the largest output
SAMPLES, TOLERANCE = 16, 1e-5
#: an error names no more layers than this
FEW = 12

T = TypeVar("T")

log = logging.getLogger("edgekit")


class Adapted:
    """A network whose weights are fixed but for its adapters and its fresh parts.

    `fixed`: the names of the tensors in its state that training does not change.
    """

    def __init__(
        self, network: nn.Module, settings: LoraSettings, fresh: Sequence[str], samples: Mapping[str, Any]
    ) -> None:
        """Puts adapters into the network. `samples`: some inputs by name.

        Raises InputError for layers that are not there, that do not run, or that share their weights; Missing.
        """
        peft, self._inputs = peft_files.library(), {name: as_input(array[:SAMPLES]) for name, array in samples.items()}
        self.network, self._count = network, _count(network.parameters())
        _check_fresh(network, fresh)
        self.targets = _targets(network, settings.lora_targets, fresh, _ran(network, self._inputs))
        config = peft.LoraConfig(
            r=settings.lora,
            lora_alpha=settings.lora_alpha or 2 * settings.lora,
            target_modules=_shortened(network, self.targets),
            modules_to_save=list(fresh) or None,
            lora_dropout=settings.lora_dropout,
            use_dora=settings.dora,
        )
        with _refused(", ".join(self.targets[:FEW])), peft_files.quiet():
            self._adapted = peft.get_peft_model(network, config)
        trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
        self.fixed = frozenset(
            name for name in network.state_dict() if name not in trained and ".modules_to_save." not in name
        )
        self.trained = _count(parameter for parameter in network.parameters() if parameter.requires_grad)
        self.peak = 0

    @property
    def where(self) -> str:
        ends = sorted({name.rpartition(".")[2] for name in self.targets})
        return f"in {len(self.targets)} layers ({', '.join(ends[:FEW])}{', …' if len(ends) > FEW else ''})"

    def train(self, fit: Callable[..., T], device: torch.device) -> T:
        """`fit(fixed=…)`, and how much memory that took."""
        memory = PeakMemory(device)
        with plain_attention():
            result = fit(fixed=self.fixed)
        self.peak = memory.bytes()
        return result

    def note(self) -> str:
        share = f"{self.trained:,} of {self._count:,} parameters ({self.trained / self._count:.2%})"
        return f"LoRA trained {share} {self.where}; peak memory {self.peak / 1e6:,.0f} MB"

    def details(self) -> dict[str, Any]:
        counts = {"trained_parameters": self.trained, "parameters": self._count, "peak_memory_bytes": self.peak}
        return {**counts, "targets": list(self.targets)}

    def merge(self, out: Path) -> None:
        """Write the adapters to `out` in peft's format, and add them to the weights: a plain network, on the CPU.

        Raises ParityFailed if it computes something else than before.
        """
        network = self.network.cpu().eval()
        peft_files.write(self._adapted, out / FOLDER)
        merged(self._adapted, self._outputs)
        network.requires_grad_(True)

    def _outputs(self) -> dict[str, Tensor]:
        with torch.inference_mode(), plain_attention():
            return {n: t.double() for n, t in named_outputs(call(self.network, self._inputs)).items()}


def merged(adapted: Any, outputs: Callable[[], Mapping[str, Tensor]]) -> Any:
    """The plain network that peft's adapted one becomes. Raises ParityFailed if its outputs are others than before."""
    before = outputs()
    with peft_files.quiet():
        network = adapted.merge_and_unload()
    for name, tensor in outputs().items():
        largest = max(1.0, float(before[name].abs().max()))
        if not (difference := float((tensor - before[name]).abs().max())) <= TOLERANCE * largest:
            why = f"its output {name} differs by {difference:.2g}: a layer's weights are used by other code, too"
            raise ParityFailed("merged, the network is another one", why, "name other layers in lora_targets")
    return network.eval()


@contextmanager
def plain_attention() -> Iterator[None]:
    """torch's fused path of nn.TransformerEncoderLayer reads the weights itself, so that adapters would not count."""
    enabled = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(enabled)


class PeakMemory:
    """The highest memory from now on: of the process on a CPU (since its start where that cannot be reset), else of
    torch's tensors on the device."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = torch.cuda if device.type == "cuda" else None
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # man 5 proc

    def bytes(self) -> int:
        return int(self._cuda.max_memory_allocated() if self._cuda is not None else peak_rss_bytes())


def _count(parameters: Any) -> int:
    return sum(parameter.numel() for parameter in parameters)


def _check_fresh(network: nn.Module, fresh: Sequence[str]) -> None:
    """Raises InputError for a part that is no module, or that peft would confuse with another one."""
    names = [name for name, _ in network.named_modules() if name]
    for part in fresh:
        if part not in names:
            why = f"the parts are {', '.join(dict.fromkeys(name.partition('.')[0] for name in names))}"
            raise InputError(f"LoRA trains whole modules afresh, and {part!r} is none", why, "name one in fresh")
        if others := [name for name in names if name.endswith(part) and name != part]:
            why = f"peft cannot tell it from {others[0]}"
            raise InputError(f"{part!r} cannot be trained afresh with LoRA", why, "rename it in the network")


def _ran(network: nn.Module, inputs: Mapping[str, Tensor]) -> list[str]:
    """The names of the layers that run on these inputs, in their order.

    Those whose weights are read by other code do not: an adapter would have no effect there.
    """
    ran: dict[str, None] = {}
    handles = [
        module.register_forward_hook(lambda *_, name=name: ran.setdefault(name))
        for name, module in network.named_modules()
        if name
    ]
    try:
        with torch.inference_mode(), plain_attention():
            call(network.eval(), inputs)
    finally:
        for handle in handles:
            handle.remove()
    return list(ran)


def _targets(network: nn.Module, wanted: Sequence[str], fresh: Sequence[str], ran: Sequence[str]) -> list[str]:
    """The layers that get an adapter. Raises InputError."""
    from transformers.pytorch_utils import Conv1D

    modules = dict(network.named_modules())
    kinds = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention, Conv1D)
    inside = [f"{name}." for name, module in modules.items() if isinstance(module, nn.MultiheadAttention)]
    layers = {n: m for n, m in modules.items() if isinstance(m, kinds) and not n.startswith(tuple(inside))}
    layers = {n: m for n, m in layers.items() if not any(n == part or n.startswith(f"{part}.") for part in fresh)}
    shared = _shared(modules)
    known = f"layers: {', '.join(list(layers)[:FEW])}{', …' if len(layers) > FEW else ''}"
    if wanted:
        chosen = []
        for name in wanted:
            matching = [layer for layer in layers if layer == name or layer.endswith(f".{name}")]
            if not matching:
                what = f"lora_targets names {name!r}, which is no layer that can be adapted"
                raise InputError(what, known, suggest(name, tuple(layers)))
            chosen += matching
        for name in chosen:
            if name in shared or name not in ran:
                why = f"{shared[name]} has the same weights" if name in shared else "it does not run itself"
                raise InputError(f"{name} cannot be adapted", why, "leave it out of lora_targets")
        return list(dict.fromkeys(chosen))
    usable = [name for name in ran if name in layers and name not in shared]
    attention = [name for name in usable if name.rpartition(".")[2] in ATTENTION]
    linear = [name for name in usable if isinstance(layers[name], nn.Linear | Conv1D)]
    chosen = attention or (linear if fresh else linear[:-1])
    if not chosen:
        why = f"no linear layer but the last runs; {known}"
        raise InputError("LoRA finds no layers to adapt", why, "name them: lora_targets")
    return [name for name in layers if name in chosen]


def _shared(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """Layer → another one with the same weight."""
    owner: dict[int, str] = {}
    shared: dict[str, str] = {}
    for name, module in modules.items():
        for parameter in module.parameters(recurse=False):
            other = owner.setdefault(id(parameter), name)
            if other != name:
                shared |= {name: other, other: name}
    return shared


def _shortened(network: nn.Module, targets: Sequence[str]) -> list[str]:
    """The last parts of the layers' paths where no other layer ends in them, as is usual in peft; else the paths."""
    ends = sorted({name.rpartition(".")[2] for name in targets})
    matching = [n for n, _ in network.named_modules() if n.rpartition(".")[2] in ends]
    return ends if sorted(matching) == sorted(targets) and not any(end.isdigit() for end in ends) else list(targets)


@contextmanager
def _refused(layers: str) -> Iterator[None]:
    """Turns what peft raises for layers that it cannot adapt into InputError."""
    try:
        yield
    except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
        raise InputError(f"peft cannot adapt {layers}", short(error), "name other layers in lora_targets") from error
