"""Text as token numbers, by a tokenizer of the library `tokenizers` that goes with every artifact.

`tokenizer.json` holds everything: how text is taken apart, how long it may be, and that 0 fills up. A device needs
`Tokenizer.from_file("tokenizer.json").encode(text).ids`, nothing of edgekit.
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

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER = "tokenizer.json"
PAD, UNKNOWN, START, SEPARATOR = range(4)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

#: a text, or two that belong together
Text = str | tuple[str, str]

T = TypeVar("T")


def problems(length: int, words: int, most: int = 4096) -> Iterator[str]:
    """What is wrong with a task's sizes: the tokens of a text, and how many are told apart."""
    if not 4 <= length <= most:
        yield f"length must be from 4 to {most} tokens"
    if not 300 <= words <= 100_000:
        yield "words must be from 300 to 100000"


def drawn(rows: Iterable[T], key: Callable[[T], str], splits: Sequence[str], what: str) -> dict[str, list[T]]:
    """80/10/10 (or 90/10 without "test") by the sha256 of the key, so that two that are equal end in one split.

    Raises InputError where a split gets none; `what` is what it gets none of.
    """
    parts: dict[str, list[T]] = {name: [] for name in splits}
    for row in rows:
        bucket = hashlib.sha256(key(row).encode()).digest()[0] % 10
        parts[{8: "val", 9: "test" if "test" in splits else "train"}.get(bucket, "train")].append(row)
    for name, part in parts.items():
        if not part:
            raise InputError(f"no {what} fell to {name}, of 80/10/10 drawn", next=f"give more {what}s")
    return parts


def library() -> Any:
    try:
        # as many threads as the caller allowed; the library's own pool would ask for all
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import tokenizers
    except ImportError as error:
        raise Missing.install("text", "tokenizers", "text") from error
    return tokenizers


def trained(texts: Iterable[str], words: int, *, lower: bool) -> Tokenizer:
    """Byte-pair encoding over bytes (https://arxiv.org/abs/1508.07909): nothing is unknown, the same on each run."""
    tokenizers = library()
    made: Tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    form = [tokenizers.normalizers.NFKC(), *([tokenizers.normalizers.Lowercase()] if lower else [])]
    made.normalizer = tokenizers.normalizers.Sequence(form)
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=True)
    made.decoder = tokenizers.decoders.ByteLevel()
    letters = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=words, special_tokens=list(SPECIAL), initial_alphabet=letters, show_progress=False
    )
    made.train_from_iterator(texts, trainer)
    return made


def loaded(path: Path) -> Tokenizer:
    """Raises InputError where it is no tokenizer, or fills up with another number than 0."""
    with os_errors("read", path):
        text = path.read_text(encoding="utf-8")
    try:
        made: Tokenizer = library().Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain Exception
        raise InputError(
            f"{path} is no tokenizer", str(error).partition("\n")[0], "save it with `tokenizers`"
        ) from error
    if made.id_to_token(PAD) not in (SPECIAL[PAD], "<pad>"):
        what = f"{path}: its token 0 is {made.id_to_token(PAD)!r}"
        raise InputError(what, "0 must be what texts are filled up with", "train one: leave out tokenizer=")
    return made


def settle(tokenizer: Tokenizer, length: int, single: str = "", pair: str = "") -> Tokenizer:
    """Let it cut and fill up to `length` itself; `single` and `pair` are templates, such as "$A [SEP] $B"."""
    if single:
        special = [(name, number) for number, name in enumerate(SPECIAL)]
        template = library().processors.TemplateProcessing(single=single, pair=pair or None, special_tokens=special)
        tokenizer.post_processor = template
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length, pad_id=PAD, pad_token=tokenizer.id_to_token(PAD))
    return tokenizer


def encoded(tokenizer: Tokenizer, texts: Sequence[Text]) -> tuple[NDArray[np.int64], int]:
    """(N, length) token numbers, and how many of the texts had to be cut."""
    found = tokenizer.encode_batch(list(texts))
    return np.array([one.ids for one in found], np.int64), sum(bool(one.overflowing) for one in found)


def ship(tokenizer: Any, folder: Path, parents: Mapping[str, Any], name: str = TOKENIZER) -> None:
    """Beside the model: the tokenizer of the artifact it was made from, else this task's (a function gives it)."""
    for artifact in parents.values():
        if (artifact.path / name).is_file():
            shutil.copyfile(artifact.path / name, folder / name)
            return
    tokenizer().save(str(folder / name))


def pair_of(text: str, separator: str = "\t") -> Text:
    """What was typed: one text, or two with a tab between. A file's name stands for what is in it (.txt)."""
    if text.endswith(".txt") and "\n" not in text and Path(text).is_file():
        with os_errors("read", text):
            text = Path(text).read_text(encoding="utf-8")
    if not text.strip():
        raise InputError("the text is empty", next="give it at least one word")
    first, found, second = text.partition(separator)
    return (first, second) if found else text


def cut_note(count: int, among: int, length: int) -> tuple[str, ...]:
    return (f"{count} of {among} texts were cut to {length} tokens",) if count else ()
