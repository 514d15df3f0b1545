"""The tokenizer of a Hugging Face directory, and the text inputs of its network.

The tokenizer that is stored with the model truncates and pads by itself, to the length that the model is used with.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edgekit.core.config import short
from edgekit.core.errors import InputError, Missing, os_errors
from edgekit.core.json import parse, read
from edgekit.core.signature import InputSignature
from edgekit.ondevice import text

TOKENIZER, SETTINGS = "tokenizer.json", "tokenizer_config.json"
#: what sentence-transformers adds
MODULES, LENGTHS = "modules.json", "sentence_bert_config.json"

#: tokens of a text, where nothing sets fewer and `--shape` sets no other number
LENGTH = 128

AGAIN = "download it again"

#: input name → the part of an encoding that it takes, in the order of the inputs
PARTS: Mapping[str, Any] = {"input_ids": "", "attention_mask": "mask", "token_type_ids": "segments"}

log = logging.getLogger("edgekit")


class Prepared(NamedTuple):
    """A tokenizer that truncates and pads as the model needs, and notes for the user."""

    tokenizer: Any
    notes: list[str]


def settings(folder: Path) -> dict[str, Any]:
    """The contents of tokenizer_config.json, {} without one. Raises InputError."""
    path = folder / SETTINGS
    if not path.is_file():
        return {}
    with os_errors("read", path):
        raw = path.read_bytes()
    try:
        # transformers writes int(1e30), which no 64 bits hold, for any number of tokens
        values = parse(re.sub(rb'("model_max_length"\s*:\s*)\d{20,}', rb"\g<1>0", raw))
        if not isinstance(values, dict):
            raise ValueError("it does not hold a JSON object")
    except ValueError as error:
        raise InputError(f"{path} is damaged", short(error), AGAIN) from error
    return values


def input_names(folder: Path, config: Any) -> list[str]:
    """Which of PARTS the network takes, as its tokenizer makes them."""
    stated = settings(folder).get("model_input_names")
    segments = isinstance(stated, list) and "token_type_ids" in stated
    segments = segments or (not isinstance(stated, list) and (getattr(config, "type_vocab_size", 0) or 0) > 1)
    return [name for name in PARTS if name != "token_type_ids" or segments]


def longest(network: Any) -> int:
    """How many tokens the network has places for; 0: any number."""
    count = int(getattr(network.config, "max_position_embeddings", 0) or 0)
    for name, module in network.named_modules():
        # of RoBERTa's family, whose places are numbered from behind the padding's
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None:
            return int(module.num_embeddings) - int(module.padding_idx) - 1
    return count


def most_tokens(folder: Path, network: Any) -> int:
    """The least of what the network, its tokenizer and sentence-transformers take; 0: any number."""
    stated = [longest(network), settings(folder).get("model_max_length")]
    if (folder / MODULES).is_file() and (folder / LENGTHS).is_file():
        stated.append(read(folder / LENGTHS, AGAIN).get("max_seq_length"))
    return min((int(n) for n in stated if isinstance(n, int | float) and 0 < n < 1e9), default=0)


def prepared(folder: Path, network: Any, length: int, pads: bool) -> Prepared | None:
    """The folder's tokenizer, for texts of at most `length` tokens; None, with nothing said, if it holds none.

    Raises InputError for one that is damaged, or does not fit the network, Missing without its library.
    """
    tokenizer, notes = _found(folder)
    if tokenizer is None:
        return Prepared(None, notes) if notes else None
    rows = network.get_input_embeddings().weight.shape[0]
    most = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if most >= rows:
        why = f"it has token {most}, and the network knows {rows}: token 0 to {rows - 1}"
        raise InputError(f"{folder / TOKENIZER} does not fit the network", why, "take the tokenizer of this model")
    tokenizer.enable_truncation(length, direction=_side(folder, "truncation_side"))
    tokenizer.no_padding()
    if pads:
        token, number = _padding(folder, tokenizer, network)
        tokenizer.enable_padding(direction=_side(folder, "padding_side"), pad_id=number, pad_token=token, length=length)
    if _lowers(folder):
        import tokenizers

        own = [tokenizer.normalizer] if tokenizer.normalizer is not None else []
        tokenizer.normalizer = tokenizers.normalizers.Sequence([tokenizers.normalizers.Lowercase(), *own])
    return Prepared(tokenizer, notes)


def records(names: Sequence[str], length: int, rows: int) -> tuple[InputSignature, ...]:
    """The signature of the text inputs `names`; `rows`: of the table of its tokens."""
    return tuple(
        InputSignature(
            "text",
            name=name,
            tokenizer=TOKENIZER,
            max_length=length,
            part=PARTS[name],
            range=(0, rows - 1) if not PARTS[name] else None,
        )
        for name in names
    )


def _found(folder: Path) -> tuple[Any, list[str]]:
    """The tokenizer in tokenizer.json, else what transformers makes of the folder's other files."""
    path = folder / TOKENIZER
    if path.is_file():
        try:
            with os_errors("read", path):
                return text.load(path), []
        except ImportError as error:
            raise Missing.install("text", "tokenizers", "text") from error
        except ValueError as error:
            raise InputError(f"{path} is not a tokenizer", short(error), AGAIN) from error
    others = [name for name in OTHERS if (folder / name).is_file()]
    if not others:
        return None, []
    from transformers import AutoTokenizer

    try:
        fast = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, use_fast=True)
        return fast.backend_tokenizer, [f"{TOKENIZER} was made from {others[0]} by transformers"]
    except Exception as error:  # missing packages and damaged files are of many types
        log.debug("%s: %s", folder, error)
        return None, [f"there is no {TOKENIZER}, and transformers cannot make one from {others[0]}: it takes token ids"]


#: vocabularies that transformers may convert
OTHERS = ("vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")


def _side(folder: Path, key: str) -> str:
    return "left" if settings(folder).get(key) == "left" else "right"


def _padding(folder: Path, tokenizer: Any, network: Any) -> tuple[str, int]:
    """The token that fills up a text, and its id: the tokenizer's, else the network's, else 0, which the mask hides."""
    stated: Any = settings(folder).get("pad_token")
    stated = stated.get("content") if isinstance(stated, dict) else stated
    number = tokenizer.token_to_id(stated) if isinstance(stated, str) else None
    if number is None:
        number = getattr(network.config, "pad_token_id", None)
    number = number if isinstance(number, int) and tokenizer.id_to_token(number) is not None else 0
    return str(tokenizer.id_to_token(number)), number


def _lowers(folder: Path) -> bool:
    """Does sentence-transformers make texts lower case before the tokenizer sees them?"""
    return (
        (folder / MODULES).is_file()
        and (folder / LENGTHS).is_file()
        and bool(read(folder / LENGTHS, AGAIN).get("do_lower_case"))
    )
