"""Adapters in the files of the library peft: `adapter_config.json` and `adapter_model.safetensors`.

Only LoRA and DoRA are read, only what changes a network's weights, and no pickle.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.config import short
from edgekit.core.errors import EdgekitError, InputError, Missing
from edgekit.core.json import read as read_json
from edgekit.core.mute import muted
from edgekit.networks import checkpoints

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
#: the entry of the weights' metadata that tells which weights the adapters are for
BASE = "base_sha256"
#: the fields of a configuration that change the merged weights; of others only the defaults are known
FIELDS = {
    *("r", "lora_alpha", "target_modules", "exclude_modules", "modules_to_save", "fan_in_fan_out", "bias", "lora_bias"),
    *("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "layers_to_transform", "layers_pattern"),
}
#: fields that say where an adapter is from, or how it was trained
IGNORED = {
    *("peft_type", "task_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision"),
    *("inference_mode", "lora_dropout", "init_lora_weights", "loftq_config", "megatron_core", "qalora_group_size"),
    *("eva_config", "corda_config", "lora_ga_config", "velora_config", "ensure_weight_tying", "runtime_config"),
}
#: the fields that say which layers are adapted
LAYERS = {"target_modules", "exclude_modules", "layers_to_transform", "layers_pattern"}
#: what peft takes for a pattern, and is a name but for the marks of its ends
NAME = re.compile(r"\^?[\w.-]+\$?")
#: an adapter's tensor: the layer, and what it is
TENSOR = re.compile(r"(?:base_model\.model\.)?(?P<layer>.+?)\.lora_\w+(?:\.weight|\.bias)?")
AGAIN = "download it again"

log = logging.getLogger("edgekit")


@dataclass(frozen=True)
class Adapter:
    """The fields of a configuration, tensors by name, and the hash of the weights they are for, if it is known."""

    folder: Path
    fields: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    base: str


def library() -> Any:
    try:
        with quiet():
            import peft
    except ImportError as error:
        raise Missing.install("LoRA", "peft", "lora") from error
    return peft


def quiet() -> AbstractContextManager[None]:
    """peft imports other libraries, which warn of what they lack."""
    return muted(log, loggers=("torchao",))


def write(adapted: Any, folder: Path) -> None:
    """Write the adapters of a network of peft's, the same bytes each time."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir()
    with quiet():
        state = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in sorted(state.items())}
    save_file(tensors, folder / WEIGHTS, {BASE: _base_sha256(adapted)})  # of two entries the order is random
    config = {**adapted.peft_config["default"].to_dict(), "inference_mode": True}
    (folder / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True, default=sorted) + "\n")


def read(folder: Path) -> Adapter:
    """Raises InputError for what is no adapter, of another method than LoRA, damaged, or a pickle."""
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} holds no adapter", f"there is no {CONFIG}", "name the folder that peft wrote")
    values = read_json(folder / CONFIG, AGAIN)
    if values.get("peft_type") != "LORA":
        what = f"{folder} cannot be merged"
        raise InputError(what, f"it is {values.get('peft_type')!r:.40}, and edgekit knows LoRA", "merge it with peft")
    others = {name for name, value in values.items() if value and name not in FIELDS | IGNORED}
    if others:
        why = f"it uses {', '.join(sorted(others))[:80]}, which edgekit does not know"
        raise InputError(f"{folder} cannot be merged", why, "merge it with peft")
    file = folder / WEIGHTS
    if not file.is_file():
        pickled = [path.name for path in sorted(folder.glob("adapter_model.*"))]
        why = f"{pickled[0]} is a pickle, which could run code" if pickled else f"there is no {WEIGHTS}"
        raise InputError(f"{folder} cannot be merged", why, f"save it with peft, as {WEIGHTS}")
    tensors = checkpoints.read(file).tensors
    if wrong := [name for name, tensor in tensors.items() if not tensor.is_floating_point() or not _finite(tensor)]:
        raise InputError(f"{file} is damaged", f"{wrong[0]} holds other values than numbers", AGAIN)
    fields = {name: values[name] for name in FIELDS if values.get(name) is not None}
    _check(fields, tensors, folder)
    if isinstance(fields.get("target_modules"), str):  # a pattern, which could take for ever
        fields = {name: value for name, value in fields.items() if name not in LAYERS}
        fields["target_modules"] = _adapted_layers(tensors)
    return Adapter(folder, fields, tensors, _metadata(file).get(BASE, ""))


def attach(network: nn.Module, adapter: Adapter) -> Any:
    """peft's network with these adapters, around `network`, which it changes.

    Raises InputError if they are for another one, Missing.
    """
    peft = library()
    what = f"{adapter.folder} does not fit the network"
    with _damaged(what), quiet():
        config = peft.LoraConfig(**adapter.fields, init_lora_weights=False)
        adapted = peft.get_peft_model(network, config)
        result = peft.set_peft_model_state_dict(adapted, dict(adapter.tensors))
    own = {name for name in adapted.state_dict() if ".lora_" in name or ".modules_to_save." in name}
    if missing := [name for name in result.missing_keys if name in own]:
        raise InputError(what, f"it lacks {_plain(missing[0])}: it was trained on another network", AGAIN)
    if result.unexpected_keys:
        why = f"the network has no {_plain(result.unexpected_keys[0])}: it was trained on another one"
        raise InputError(what, why, "name the model that its configuration names")
    if adapter.base and adapter.base != _base_sha256(adapted):
        raise InputError(what, "it was trained on other weights of this network", "name the model it was trained on")
    return adapted


def _check(fields: Mapping[str, Any], tensors: Mapping[str, Tensor], folder: Path) -> None:
    """Raises InputError for ranks that no tensor has (peft would make matrices of any size), and invalid patterns."""
    ranks = {size for name, tensor in tensors.items() if ".lora_" in name for size in tensor.shape}
    pattern = fields.get("rank_pattern", {})
    stated = {fields.get("r", 8), *(pattern.values() if isinstance(pattern, dict) else [None])}
    if not ranks or not stated <= ranks:
        why = f"{CONFIG} states the rank {fields.get('r', 8)!r:.20}, and {WEIGHTS} has other tensors"
        raise InputError(f"{folder} is damaged", why, AGAIN)
    for field in ("exclude_modules", "modules_to_save", "layers_pattern", "rank_pattern", "alpha_pattern"):
        names = fields.get(field, [])
        for name in [names] if isinstance(names, str) else names:
            if not isinstance(name, str) or not NAME.fullmatch(name):
                what, why = f"{folder} cannot be merged", f"{field} holds {name!r:.40}, which is no name of a layer"
                raise InputError(what, why, "merge it with peft")


def _adapted_layers(tensors: Mapping[str, Tensor]) -> list[str]:
    """The layers that have tensors; a base layer is inside of one that has its own."""
    found = (TENSOR.fullmatch(name) for name in tensors)
    return sorted({match["layer"] for match in found if match and ".base_layer." not in match["layer"]})


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _metadata(file: Path) -> Mapping[str, str]:
    from safetensors import safe_open

    with safe_open(file, "pt") as opened:
        return opened.metadata() or {}


def _base_sha256(adapted: Any) -> str:
    """Of the weights under the adapters, before they are merged."""
    from peft.tuners.lora import LoraLayer

    digest = hashlib.sha256()
    for name, layer in adapted.base_model.model.named_modules():
        if isinstance(layer, LoraLayer) and hasattr(layer.get_base_layer(), "weight"):
            weight = layer.get_base_layer().weight.detach().cpu().contiguous()
            digest.update(f"{name} {weight.dtype} {list(weight.shape)}".encode())
            digest.update(weight.numpy().data)
    return digest.hexdigest()


def _plain(name: str) -> str:
    """A tensor's name without peft's prefixes."""
    return name.removeprefix("base_model.model.").replace(".default", "")


@contextmanager
def _damaged(what: str) -> Iterator[None]:
    """Turns what peft raises for adapters that are not the network's into InputError."""
    try:
        yield
    except (EdgekitError, MemoryError, OSError):
        raise
    except Exception as error:  # names of layers, shapes, missing keys and fields: of many types
        why = short(error) if not isinstance(error, KeyError) else f"it lacks {short(error)}"
        raise InputError(what, why, "name the model that it was trained on") from error
