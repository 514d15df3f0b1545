"""An imported Keras 3 model (.keras), run on Keras' torch backend in safe mode, without TensorFlow."""

from __future__ import annotations

import logging
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.core.errors import EdgekitError, InputError, Missing, os_errors
from edgekit.core.files import check_unpacked
from edgekit.core.json import parse

if TYPE_CHECKING:
    from torch import Tensor

    from edgekit.networks.interface import Interface, Positional

FILE = "model.keras"
#: in safe mode, Keras imports from these modules only
MODULES = ("keras", "builtins")
#: layers that hold code or another library's objects
CODE = ("Lambda", "TorchModuleWrapper", "FlaxLayer", "JaxLayer", "TFSMLayer")
#: sizes tried for dynamic axes other than the batch
SIZES = (32, 64, 128, 224, 16, 8)


def load(folder: Path, reference: Mapping[str, Any]) -> Positional:
    """The model as a network with positional inputs. Raises InputError, Missing."""
    network = read(folder / FILE)
    network.kept = reference.get("kept")
    return network


def read(path: Path) -> Positional:
    """Raises Missing without Keras, InputError if the file is damaged or holds code, naming the layer."""
    _check(path)
    keras = _keras()
    with _damaged(path):
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    if not getattr(model, "inputs", None):
        why = "it was saved before its input shapes were known"
        raise InputError(f"{path} has no inputs", why, "build it with keras.Input, or call it once, before saving")
    return _positional(model)


def interface(network: Positional, path: Path) -> tuple[Interface, dict[str, Tensor]]:
    """The model's interface, and example inputs of ones. Raises InputError if it cannot run."""
    import torch

    from edgekit.networks.interface import probe

    model: Any = network.network.model
    why = ""
    inputs = {tensor.name.replace("/", "_"): tensor for tensor in model.inputs}
    axes = {
        name: {axis: f"{name}_{axis}" for axis, size in enumerate(tensor.shape) if axis and size is None}
        for name, tensor in inputs.items()
    }
    for size in SIZES:
        example = {
            name: torch.ones([2 if i == 0 else n or size for i, n in enumerate(tensor.shape)], dtype=_dtype(tensor))
            for name, tensor in inputs.items()
        }
        try:
            with torch.inference_mode():
                network.outputs_by_name(*example.values())
        except EdgekitError:
            raise
        except Exception as error:  # any error of Keras or torch: this size does not fit
            why = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            continue
        return probe(network, example, {name: lengths for name, lengths in axes.items() if lengths}, str(path)), example
    raise InputError(f"{path} cannot be run", why[:200], "check that it runs in Keras with KERAS_BACKEND=torch")


def tensors(network: Positional) -> dict[str, list[Any]]:
    """Keras' name of each weight → [dtype, shape], without random state."""
    model: Any = network.network.model
    return {weight.path: [str(weight.dtype), list(weight.shape)] for weight in model.weights}


def _positional(model: Any) -> Positional:
    """The model with positional inputs and flat outputs: Keras takes a list of inputs, and nests outputs."""
    from keras import tree
    from torch import nn

    from edgekit.networks.interface import Positional

    class ListInputs(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *tensors: Tensor) -> dict[str, Tensor]:
            outputs = tree.flatten(self.model(tensors[0] if len(tensors) == 1 else list(tensors), training=False))
            names = getattr(model, "output_names", None) or [f"output{index}" for index in range(len(outputs))]
            return {"output": outputs[0]} if len(outputs) == 1 else dict(zip(names, outputs, strict=True))

    return Positional(ListInputs()).eval()


def _keras() -> Any:
    """Keras on its torch backend. Raises Missing, or InputError if it already runs on another backend."""
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "torch"
    try:
        import keras
    except ImportError as error:
        raise Missing.install("a .keras model", "keras", "keras") from error
    if keras.backend.backend() != "torch":
        why = f"Keras was imported with its {keras.backend.backend()} backend"
        raise InputError(".keras models need Keras on torch", why, "set KERAS_BACKEND=torch before importing keras")
    return keras


def _dtype(tensor: Any) -> Any:
    import torch

    return getattr(torch, tensor.dtype)


def _check(path: Path) -> None:
    """Raises InputError for a layer that would run code, naming it, and for a missing or damaged file."""
    with os_errors("read", path), path.open("rb") as file:
        file.read(1)
    with _damaged(path), zipfile.ZipFile(path) as archive:
        check_unpacked(path, archive, "save it again")
        if damaged_member := archive.testzip():
            raise ValueError(f"{damaged_member} in it is damaged")
        config = parse(archive.read("config.json"))
    for node in _nodes(config):
        name = (node.get("config") or {}).get("name") or node["class_name"]
        module = str(node.get("module") or "keras").partition(".")[0]
        if node["class_name"] in CODE:
            why = f"layer {name!r} is a {node['class_name']}, which holds code"
            raise InputError(f"{path} cannot be trusted", why, "write that layer with keras.ops, or use net.py:make")
        if module not in MODULES or (node.get("registered_name") and not node.get("module")):
            why = f"layer {name!r} is a {node['class_name']} of {node.get('module') or 'your own code'}"
            raise InputError(f"{path} needs custom code", why, "load it in your own function: net.py:make")


def _nodes(config: Any) -> Iterator[dict[str, Any]]:
    """All objects in the configuration."""
    if isinstance(config, dict):
        if isinstance(config.get("class_name"), str):
            yield config
        for value in config.values():
            yield from _nodes(value)
    elif isinstance(config, list):
        for value in config:
            yield from _nodes(value)


@contextmanager
def _damaged(path: Path) -> Iterator[None]:
    level = logging.getLogger("absl").level
    try:
        yield
    except (EdgekitError, MemoryError):
        raise
    except Exception as error:  # the zip, HDF5 and Keras readers raise many types
        message = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"cannot read {path}", f"not a complete Keras 3 model: {message[:200]}", "save it again"
        ) from error
    finally:
        logging.getLogger("absl").setLevel(level)
