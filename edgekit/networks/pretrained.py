"""Networks around a pretrained encoder: `encoder` is one of the library transformers, `head` a layer of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit import networks
from edgekit.core.errors import InputError
from edgekit.networks import hugging_face
from edgekit.networks.signatures.hugging_face_text import longest

if TYPE_CHECKING:
    from torch import nn

HEAD = "head"


def is_foreign(folder: Path) -> bool:
    """Is it a Hugging Face directory, or the import of one?"""
    return _loader(folder) in ("", "hugging_face") and hugging_face.is_directory(folder)


def is_encoder(folder: Path) -> bool:
    """Does it hold a pretrained encoder: such an import, or a network trained from one?"""
    return is_foreign(folder) or isinstance(_stored_configuration(folder), dict)


def configuration(folder: Path) -> Mapping[str, Any]:
    """What the pretrained model's config.json says: of such an import, or of a network trained from one.

    Raises InputError for another artifact.
    """
    if is_foreign(folder):
        return hugging_face.configuration(folder)
    if isinstance(config := _stored_configuration(folder), dict):
        return config
    what = f"{folder} holds no pretrained encoder"
    raise InputError(what, "it is another network", "name the import of a Hugging Face directory")


def load(network: nn.Module, folder: Path, fresh: Sequence[str], inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """Load the encoder from an import; returns the parts that keep their own weights. `inputs`: some samples.

    Raises InputError if it does not fit, or its texts are shorter than the samples.
    """
    if others := [part for part in fresh if part != HEAD]:
        raise InputError(f"{others[0]!r} cannot be fresh", f"all but {HEAD} is loaded", f"leave out {others[0]}")
    encoder: Any = network.get_submodule("encoder")
    most, length = longest(encoder), next(iter(inputs.values())).shape[1]
    if 0 < most < length:
        why = f"it has places for {most}"
        raise InputError(f"{folder} takes no texts of {length} tokens", why, f"add length={most} to the task's options")
    hugging_face.load_encoder(encoder, folder)
    return (HEAD,)


def _stored_configuration(folder: Path) -> Any:
    stored = networks.reference(folder).get("arguments") if _loader(folder) == "named" else None
    return stored.get("config") if isinstance(stored, dict) else None


def _loader(folder: Path) -> str:
    return str(networks.reference(folder).get("loader", "named")) if (folder / networks.NETWORK).is_file() else ""
