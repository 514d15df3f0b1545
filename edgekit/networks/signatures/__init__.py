"""Signatures from where users have them: a signature file, a library's transforms, or what a network carries.

Libraries' objects are known by the name and module of their class, so that no library is imported here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core import user_code
from edgekit.core.artifact import TensorSpec
from edgekit.core.config import read_toml
from edgekit.core.errors import InputError, Problem, RecipeError
from edgekit.core.signature import OutputSignature, Signature, parse
from edgekit.core.user_code import run_user_code
from edgekit.networks.factory import required_arguments
from edgekit.networks.signatures import heads, hugging_face, timm_, torchvision_

if TYPE_CHECKING:
    from torch import nn

FORMS = (
    "name a signature file (.toml), a preprocessor_config.json, or code: net.py:transform, "
    "torchvision.models:ResNet18_Weights.DEFAULT, or a detector's family: " + ", ".join(heads.FAMILIES)
)


def read(source: str) -> Signature:
    """The signature that `source` names. Code is run. Raises InputError for what is none, or cannot be expressed."""
    path = Path(source)
    if source in heads.FAMILIES:
        return Signature((), (OutputSignature("boxes", family=source),))  # type: ignore[arg-type]
    if path.suffix == ".toml":
        return read_file(path)
    if path.suffix == ".json" or path.is_dir():
        return hugging_face.of_files(path)
    if not is_code(source):
        raise InputError(f"{source!r} names no signature", "there is no such file or code", FORMS)
    value = user_code.resolve(source)
    signature = run_user_code(source, f"{source} cannot be read", lambda: of_object(value, source))
    return _of_table(signature.to_table(), source)  # code need not have kept to the record's types and limits


def read_file(path: Path) -> Signature:
    """The signature in a TOML file. Raises InputError, with every problem."""
    return _of_table(read_toml(path), str(path))


def of_object(value: Any, source: str) -> Signature:
    """The signature of a library's object, or of what a function without arguments returns. Raises InputError."""
    known = _of_known(value, source)
    if known is not None:
        return known
    if not callable(value):
        raise InputError(f"{source} is of the type {type(value).__name__}", "it describes no preprocessing", FORMS)
    if missing := required_arguments(value):
        why = f"it needs arguments: {', '.join(missing)}"
        raise InputError(f"{source} cannot be called", why, "write a function without arguments around it")
    result = run_user_code(source, f"{source} failed", value)
    known = _of_known(result, source)
    if known is None:
        what = f"{source} returns something of the type {type(result).__name__}"
        raise InputError(what, "it describes no preprocessing", "return a transform, a Signature, or a dict like it")
    return known


def of_network(
    network: nn.Module, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> tuple[Signature, str]:
    """What a timm or Hugging Face network, or torchvision's detector, carries about itself, and where; else nothing.

    What it carries and cannot be expressed is left out.
    """
    if timm_.is_network(network):
        return timm_.of_network(network), "the network's pretrained_cfg"
    if hugging_face.is_network(network):
        return hugging_face.of_network(network, inputs, outputs)
    if torchvision_.is_one_stage(network) and len(inputs) == 1:
        return torchvision_.of_one_stage(network, inputs[0]), "torchvision's transform"
    return Signature(), ""


def _of_known(value: Any, source: str) -> Signature | None:
    if isinstance(value, Signature):
        return value
    if isinstance(value, Mapping):
        if "transform" in value:
            return _of_transform_and_classes(value, source)
        return timm_.of_config(value) if timm_.is_config(value) else _of_table(value, source)
    if torchvision_.is_weights(value):
        return torchvision_.of_weights(value)
    if torchvision_.is_transform(value):
        return Signature((torchvision_.of_transform(value),))
    if hugging_face.is_processor(value):
        return Signature((hugging_face.of_processor(value),))
    return None


def _of_transform_and_classes(value: Mapping[str, Any], source: str) -> Signature:
    """Of `{"transform": T, "classes": [...]}`."""
    if unknown := [key for key in value if key not in ("transform", "classes")]:
        raise InputError(f"{source} has an unknown key {unknown[0]!r}", next="its keys are transform and classes")
    signature = _of_known(value["transform"], source)
    if signature is None:
        what = f"the transform of {source} is of the type {type(value['transform']).__name__}"
        raise InputError(what, "it describes no preprocessing", FORMS)
    return with_classes(signature, tuple(value.get("classes", ())))


def with_classes(signature: Signature, classes: Sequence[str]) -> Signature:
    """The signature with these class names of its first output."""
    if not classes:
        return signature
    first, *others = signature.outputs or (OutputSignature(),)
    return replace(signature, outputs=(replace(first, classes=tuple(classes)), *others))


def _of_table(table: Mapping[str, Any], source: str) -> Signature:
    signature, problems = parse(table)
    if not problems and not signature:
        problems = [Problem("signature", "it has neither [[input]] nor [[output]]")]
    if problems:
        raise RecipeError(source, problems)
    return signature


def is_code(source: str) -> bool:
    """Does it name code, maybe with dots after the colon: `torchvision.models:ResNet18_Weights.DEFAULT`?"""
    where, separator, attributes = source.rpartition(":")
    names = attributes.split(".")
    return bool(separator) and all(map(str.isidentifier, names)) and user_code.is_reference(f"{where}:{names[0]}")
