"""A network of the library transformers: a folder with `config.json` and `model.safetensors`, as `save_pretrained`
writes them.

The class is the one in transformers that `architectures` names. No code that comes with a model is run, nothing is
unpickled, and nothing is downloaded: the library gets the configuration and the tensors, and no path.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgekit.core.config import short
from edgekit.core.errors import EdgekitError, InputError, Missing
from edgekit.core.json import read as read_json
from edgekit.core.mute import muted
from edgekit.networks import checkpoints

if TYPE_CHECKING:
    from torch import Tensor, nn

CONFIG, WEIGHTS = "config.json", "model.safetensors"
INDEX = f"{WEIGHTS}{checkpoints.INDEX}"

AGAIN = "download it again"
FACTORY = "load it in a function of your own: edgekit import net.py:make"

#: the end of a class's name → the outputs that its file gets; a class without a head gives the last of these
HEADS = {
    "ForSequenceClassification": ("logits",),
    "ForTokenClassification": ("logits",),
    "ForQuestionAnswering": ("start_logits", "end_logits"),
    "ForMaskedLM": ("logits",),
    "ForImageClassification": ("logits",),
    "ForAudioClassification": ("logits",),
    "ForSemanticSegmentation": ("logits",),
    "Model": ("last_hidden_state",),
}
DECODERS = ("ForCausalLM", "LMHeadModel")

#: at most so many tensors are named in a message
FEW = 3

log = logging.getLogger("edgekit")


class Loaded(NamedTuple):
    """The network in float32 and eval mode, and what the user should know about it, a sentence each."""

    network: Any
    halves: bool
    notes: list[str]


def load(folder: Path, reference: Mapping[str, Any]) -> nn.Module:
    """The network as `model.json` describes it. Raises InputError, Missing."""
    inputs, outputs = ([str(spec["name"]) for spec in reference[side]] for side in ("inputs", "outputs"))
    pooling, states = reference.get("pooling", {}), bool(reference.get("states"))
    return wrapped(read(folder).network, inputs, outputs, pooling, states)


def wrapped(
    network: Any, inputs: Sequence[str], outputs: Sequence[str], pooling: Mapping[str, Any], is_decoder: bool
) -> nn.Module:
    """The network with positional inputs, and only these outputs. `pooling`: of `Pooled`, {} for none."""
    from edgekit.networks import transformers_
    from edgekit.networks.decoders import Decoder
    from edgekit.networks.interface import Positional

    if is_decoder:
        return Decoder(network).eval()
    part = transformers_.Pooled(network, **pooling) if pooling else transformers_.Outputs(network, outputs)
    return Positional(part, inputs).eval()


def read(folder: Path) -> Loaded:
    """The network in a folder. Raises InputError for what is none, or needs code that is not in transformers; Missing.

    Tensors that its head lacks are an error, since random numbers would be shipped in their place.
    """
    values = configuration(folder)
    transformers = library()
    cls = network_class(values, folder)
    tensors = checkpoints.read(weights_file(folder)).tensors
    _refuse_integers(tensors, folder)
    with _quiet(transformers), _damaged(folder / CONFIG):
        config = cls.config_class.from_dict({key: value for key, value in values.items() if key != "auto_map"})
        network, report = cls.from_pretrained(
            None,
            config=config,
            state_dict=dict(tensors),
            dtype="float32",
            attn_implementation="eager",
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    notes = _checked(network, tensors, report, folder)
    network.eval().requires_grad_(False)
    halves = any(str(tensor.dtype) in ("torch.float16", "torch.bfloat16") for tensor in tensors.values())
    return Loaded(network, halves, notes)


def load_encoder(encoder: nn.Module, folder: Path) -> None:
    """Load the weights of a folder's network, without its head, into an encoder by its configuration.

    Raises InputError, Missing.
    """
    state = read(folder).network.base_model.state_dict()
    encoder.load_state_dict({name: tensor for name, tensor in state.items() if not name.startswith("pooler.")})


def write(network: Any, folder: Path) -> None:
    """`config.json` and `model.safetensors`, with each shared tensor once."""
    with _quiet(library()):
        network.save_pretrained(folder, max_shard_size="1TB")
    (folder / "generation_config.json").unlink(missing_ok=True)


def library() -> Any:
    try:
        import transformers
    except ImportError as error:
        raise Missing.install("a Hugging Face directory", "transformers", "hf") from error
    return transformers


# --- the configuration ----------------------------------------------------------------------------------------------


def is_directory(path: Path) -> bool:
    """Is it a folder with a `config.json`?"""
    return path.is_dir() and (path / CONFIG).is_file()


def configuration(folder: Path) -> dict[str, Any]:
    """The contents of config.json. Raises InputError for a network that cannot be imported by what it says."""
    file = folder / CONFIG
    values = read_json(file, AGAIN)
    if quantized := values.get("quantization_config"):
        method = quantized.get("quant_method", "") if isinstance(quantized, dict) else ""
        why = f"its weights are quantized already{f' ({method})' if method else ''}, and edgekit starts from float"
        raise InputError(f"{folder} cannot be imported", why, "download the model that it was made from")
    names = values.get("architectures")
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        why = '"architectures" does not name its class'
        raise InputError(f"{file} does not say what the network is", why, f'add "architectures", or {FACTORY}')
    return values


def network_class(values: Mapping[str, Any], folder: Path) -> Any:
    """The class of transformers that the configuration names. Raises InputError where there is none, or no support."""
    transformers = library()
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    name, kind = str(values["architectures"][0]), str(values.get("model_type", ""))
    known = kind in CONFIG_MAPPING_NAMES
    if values.get("auto_map") and not known:
        why = f"it needs code that comes with it (auto_map), which edgekit does not run: transformers has no {kind!r}"
        raise InputError(f"{folder} cannot be imported", why, f"if you trust it, {FACTORY}")
    with _quiet(transformers), _damaged(folder / CONFIG):
        cls = getattr(transformers, name, None) if re.fullmatch(r"[A-Za-z]\w*", name) else None
    if not isinstance(cls, type) or not issubclass(cls, transformers.PreTrainedModel):
        what = f"transformers {transformers.__version__} has no network {name!r}"
        raise InputError(what, f"{folder / CONFIG} names it", f"pip install -U transformers, or {FACTORY}")
    if values.get("is_encoder_decoder"):
        why = "it is an encoder with a decoder, whose parts run at different times; one file holds one network"
        raise InputError(f"{name} cannot be imported", why, FACTORY)
    if not name.endswith((*HEADS, *DECODERS)):
        supported = ", ".join(f"…{end}" for end in (*HEADS, *DECODERS))
        raise InputError(f"{name} cannot be imported", f"edgekit imports {supported}", FACTORY)
    return cls


def is_decoder(values: Mapping[str, Any]) -> bool:
    return str(values["architectures"][0]).endswith(DECODERS)


def outputs_of(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The outputs of a network that is no decoder."""
    name = str(values["architectures"][0])
    return next(outputs for end, outputs in HEADS.items() if name.endswith(end))


# --- the weights ----------------------------------------------------------------------------------------------------


def weights_file(folder: Path) -> Path:
    """model.safetensors or its index, all of whose files are there. Raises InputError."""
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    if (folder / INDEX).is_file():
        table = read_json(folder / INDEX, AGAIN).get("weight_map")
        names = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
        if missing := [name for name in names if not (folder / Path(name).name).is_file()]:
            some = ", ".join(missing[:FEW]) + (", …" if len(missing) > FEW else "")
            why = f"{INDEX} names {len(names)} files, and {len(missing)} are missing: {some}"
            raise InputError(f"{folder} is incomplete", why, "download them")
        return folder / INDEX
    others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".h5"))
    if others:
        why = f"its weights are in {others[0]}, a pickle, which could run code; no {WEIGHTS} is there"
        next = "download the safetensors; or, if you trust it, load and save_pretrained it with transformers"
        raise InputError(f"{folder} cannot be imported", why, next)
    raise InputError(f"{folder} holds no weights", f"there is neither {WEIGHTS} nor its index", "download them")


def _refuse_integers(tensors: Mapping[str, Tensor], folder: Path) -> None:
    packed = [name for name, t in tensors.items() if t.ndim > 1 and not t.is_floating_point() and t.numel() > 4096]
    packed = [name for name in packed if not name.endswith("position_ids")]
    packed += [name for name, tensor in tensors.items() if tensor.is_floating_point() and tensor.element_size() < 2]
    if packed:
        why = f"{packed[0]} is {str(tensors[packed[0]].dtype).removeprefix('torch.')}: it is quantized already"
        raise InputError(f"{folder} cannot be imported", why, "download the model that it was made from")


def _checked(network: Any, tensors: Mapping[str, Any], report: Mapping[str, Any], folder: Path) -> list[str]:
    """Notes on tensors that are not read. Raises InputError for those that are missing, or of another shape."""
    file, own = folder / WEIGHTS, set(network.state_dict())
    if errors := [*report.get("error_msgs", ())]:
        raise InputError(f"{file} does not fit {CONFIG}", str(errors[0])[:200], AGAIN)
    if wrong := sorted(report.get("mismatched_keys", ())):
        name, there, wanted = wrong[0]
        why = f"{name} is {list(there)} there, and {list(wanted)} by {CONFIG}"
        raise InputError(f"{file} does not fit {CONFIG}", why, AGAIN)
    missing = sorted(report.get("missing_keys", ()))
    notes = []
    poolers = [name for name in missing if re.search(r"(^|\.)pooler\.", name)]
    if type(network).__name__.endswith("Model") and poolers and poolers == missing:
        network.pooler, missing = None, []
    if missing:
        raise _missing(network, missing, len(own), file)
    buffers = dict(network.named_buffers())
    extra = [name for name in sorted(report.get("unexpected_keys", ())) if name not in buffers]
    extra = [name for name in extra if not name.endswith(("position_ids", "rotary_emb.inv_freq", "masked_bias"))]
    layers = {_layer(name, network) for name in own}
    if inner := [name for name in extra if _layer(name, network) in layers]:
        why = f"it holds {_few(inner)}, which a network by {CONFIG} does not have: one of the two was changed"
        raise InputError(f"{file} does not fit {CONFIG}", why, AGAIN)
    if extra:
        notes.append(f"{type(network).__name__} does not use {_few(extra)} of its file")
    return notes


def _layer(name: str, network: Any) -> str:
    """The layer that a tensor belongs to, by kind: those of a stack are the same."""
    inner = name.removeprefix(f"{network.base_model_prefix}.")
    return re.sub(r"\.\d+\.", ".#.", inner).rpartition(".")[0]


def _missing(network: Any, missing: Sequence[str], total: int, file: Path) -> InputError:
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    name, prefix = type(network).__name__, f"{network.base_model_prefix}."
    base = MODEL_MAPPING_NAMES.get(network.config.model_type, "")
    what = f"{file} lacks {_few(missing)}"
    if isinstance(base, str) and base and base != name and not any(each.startswith(prefix) for each in missing):
        why = f"they are the head of {name}, which would be random numbers: it is the checkpoint of a {base}"
        return InputError(what, why, f'train the head first, or write "architectures": ["{base}"] into {CONFIG}')
    return InputError(what, f"{len(missing)} of the {total} tensors of a {name} would be random numbers", AGAIN)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")


# --- the library ----------------------------------------------------------------------------------------------------


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """Its warnings and progress bars go to edgekit's log."""
    logging_ = transformers.utils.logging
    level, bars = logging_.get_verbosity(), logging_.is_progress_bar_enabled()
    logging_.set_verbosity_error()
    logging_.disable_progress_bar()
    try:
        with muted(log, loggers=("torchao",)):
            yield
    finally:
        logging_.set_verbosity(level)
        if bars:
            logging_.enable_progress_bar()


@contextmanager
def _damaged(file: Path) -> Iterator[None]:
    """Turn what transformers raises for a configuration that it cannot use into InputError."""
    try:
        yield
    except (EdgekitError, MemoryError, OSError):
        raise
    except Exception as error:  # checks of fields, missing packages and errors of shapes are of many types
        why = f"transformers cannot build the network: {short(error)}"
        raise InputError(f"{file} cannot be used", why, f"{AGAIN}, or {FACTORY}") from error
