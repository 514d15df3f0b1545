"""Text as token ids, by a tokenizer of the library `tokenizers` that is stored with every artifact.

`tokenizer.json` holds the vocabulary, the truncation length and the padding id, which is 0 but for the tokenizers of
pretrained models. A device needs
`Tokenizer.from_file("tokenizer.json").encode(text).ids`, and no edgekit.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, Missing, os_errors
from edgekit.sets.texts import Text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
PAD, UNKNOWN, START, SEPARATOR = range(4)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

T = TypeVar("T")


def size_problems(length: int, vocabulary_size: int, longest: int = 4096) -> Iterator[str]:
    """What is wrong with a task's sequence length and vocabulary size."""
    if not 4 <= length <= longest:
        yield f"length must be from 4 to {longest} tokens"
    if not 300 <= vocabulary_size <= 100_000:
        yield "words must be from 300 to 100000"


def random_split(rows: Iterable[T], key: Callable[[T], str], splits: Sequence[str], what: str) -> dict[str, list[T]]:
    """80/10/10 (or 90/10 without "test") by the sha256 of the key, so that rows of equal keys are in the same split.

    Raises InputError if a split is empty; `what` names a row in the message.
    """
    parts: dict[str, list[T]] = {name: [] for name in splits}
    for row in rows:
        bucket = hashlib.sha256(key(row).encode()).digest()[0] % 10
        parts[{8: "val", 9: "test" if "test" in splits else "train"}.get(bucket, "train")].append(row)
    for name, part in parts.items():
        if not part:
            raise InputError(f"the 80/10/10 split left no {what} for {name}", next=f"add more {what}s")
    return parts


def tokenizers_library() -> Any:
    try:
        # the library's own thread pool would use all cores
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import tokenizers
    except ImportError as error:
        raise Missing.install("text", "tokenizers", "text") from error
    return tokenizers


def train_tokenizer(texts: Iterable[str], vocabulary_size: int, *, lower: bool) -> Tokenizer:
    """Byte-level byte-pair encoding (https://arxiv.org/abs/1508.07909): no unknown tokens, and deterministic."""
    tokenizers = tokenizers_library()
    tokenizer: Tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    normalizers = [tokenizers.normalizers.NFKC(), *([tokenizers.normalizers.Lowercase()] if lower else [])]
    tokenizer.normalizer = tokenizers.normalizers.Sequence(normalizers)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary_size, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(path: Path, any_padding: bool = False) -> Tokenizer:
    """Raises InputError if it is not a tokenizer, or if its padding id is not 0; with `any_padding` it may be any that
    the file states.
    """
    with os_errors("read", path):
        text = path.read_text(encoding="utf-8")
    try:
        tokenizer: Tokenizer = tokenizers_library().Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        raise InputError(
            f"{path} is not a tokenizer", str(error).partition("\n")[0], "save it with `tokenizers`"
        ) from error
    if any_padding and tokenizer.padding:
        return tokenizer
    if tokenizer.id_to_token(PAD) not in (SPECIAL[PAD], "<pad>"):
        what = f"{path}: its token 0 is {tokenizer.id_to_token(PAD)!r}"
        raise InputError(what, "token 0 must be the padding", "leave out tokenizer= to train one")
    return tokenizer


def set_length(tokenizer: Tokenizer, length: int, single: str = "", pair: str = "") -> Tokenizer:
    """Set truncation and padding to `length`; `single` and `pair` are templates, such as "$A [SEP] $B"."""
    if single:
        special = [(name, number) for number, name in enumerate(SPECIAL)]
        processing = tokenizers_library().processors.TemplateProcessing
        tokenizer.post_processor = processing(single=single, pair=pair or None, special_tokens=special)
    padding = tokenizer.padding or {"pad_id": PAD, "pad_token": tokenizer.id_to_token(PAD)}
    tokenizer.enable_truncation(**{**(tokenizer.truncation or {}), "max_length": length})
    tokenizer.enable_padding(**{**padding, "length": length})
    return tokenizer


def padding_of(tokenizer: Tokenizer) -> int:
    """The id that fills up a text."""
    return int((tokenizer.padding or {}).get("pad_id", PAD))


def encode(tokenizer: Tokenizer, texts: Sequence[Text]) -> tuple[NDArray[np.int64], int]:
    """(N, length) token ids, and how many of the texts were truncated."""
    encodings = tokenizer.encode_batch(list(texts))
    truncated = sum(bool(encoding.overflowing) for encoding in encodings)
    return np.array([encoding.ids for encoding in encodings], np.int64), truncated


def ship(tokenizer: Any, folder: Path, parents: Mapping[str, Any], name: str = TOKENIZER) -> None:
    """Store the parent artifact's tokenizer with the model, else this task's (`tokenizer` returns it)."""
    parent = parents.get("parent")  # the task's data was encoded without that of a teacher, or of initial weights
    if parent is not None and (parent.path / name).is_file():
        shutil.copyfile(parent.path / name, folder / name)
        return
    tokenizer().save(str(folder / name))


def parse_text(text: str, separator: str = "\t") -> Text:
    """One text, or two separated by a tab; the path of a .txt file stands for its contents."""
    if text.endswith(".txt") and "\n" not in text and Path(text).is_file():
        with os_errors("read", text):
            text = Path(text).read_text(encoding="utf-8")
    if not text.strip():
        raise InputError("the text is empty", next="enter at least one word")
    first, is_pair, second = text.partition(separator)
    return (first, second) if is_pair else text


def cut_note(count: int, total: int, length: int) -> tuple[str, ...]:
    return (f"{count} of {total} texts were cut to {length} tokens",) if count else ()
