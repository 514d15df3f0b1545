"""Language modelling: the next token of posts to newsgroups, of Reuters news, or of any text.

The texts are joined, with the end token after each, and cut into windows of `length` tokens, which are scored from an
empty cache: perplexity (https://doi.org/10.1121/1.2016299) is exp of the mean negative log-likelihood of a token.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core import metrics
from edgekit.core.errors import InputError, os_errors
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature, Signature
from edgekit.core.task import Scores, Task
from edgekit.ondevice.text import decoded, end_token
from edgekit.sets import tables
from edgekit.sets.options import SPLITS
from edgekit.sets.reading import sample_set
from edgekit.sets.rows import rows
from edgekit.tasks.shared import news
from edgekit.tasks.shared import text as text_module
from edgekit.tasks.shared.text import TOKENIZER

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from edgekit.core.artifact import TensorSpec

#: the characters that a tokenizer is trained on are at most so many: more of the same hardly change it
TOKENIZER_CHARACTERS = 4_000_000


class LanguageModelling(Task):
    """Token ids (N, length) int64 → logits (N, length, words) of each next token; labels (N, length): that token."""

    name = "language-modelling"
    models = ("decoder",)

    @dataclass(frozen=True)
    class Options:
        """`data`: 20-newsgroups, reuters-r8, a .txt file (an empty line ends a text), a folder of .txt files, or a
        table with the column `text`. `length`: tokens of a window. `words`: the vocabulary size. `tokenizer`: a file
        to take in place of one trained on the training texts. `windows`: of validation and test, those that are scored,
        evenly spread; 0: all.
        """

        data: str = "20-newsgroups"
        text: str = "text"
        length: int = 128
        words: int = 4096
        tokenizer: str = ""
        windows: int = 96

        def problems(self) -> Iterator[str]:
            yield from text_module.size_problems(self.length, self.words)
            if self.windows < 0:
                yield "windows must be 0 (all) or more"

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or self.Options()

    @property
    def licences(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(filter(None, [news.LICENCES.get(self._options.data, "")]))

    @cached_property
    def texts(self) -> Mapping[str, Sequence[str]]:
        """Split → texts: 80/10/10 by their sha256, or the data's own test split."""
        options = self._options
        if options.data not in news.FILES:
            texts = _texts(Path(options.data), options.text)
            return text_module.random_split(texts, lambda text: text, SPLITS, "text")
        texts = [post.text for post in news.posts(options.data, "train")]
        parts = text_module.random_split(texts, lambda text: text, ("train", "val"), "text")
        return {**parts, "test": [post.text for post in news.posts(options.data, "test")]}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The named one, else one trained on the training texts only."""
        if self._options.tokenizer:
            return text_module.load_tokenizer(Path(self._options.tokenizer))
        texts = self.texts["train"]
        step = max(1, sum(map(len, texts)) // TOKENIZER_CHARACTERS)
        return text_module.train_tokenizer(texts[::step], self._options.words, lower=False)

    def arguments(self, model: str) -> Mapping[str, Any]:
        return {"words": self.tokenizer.get_vocab_size(), "length": self._options.length}

    def load(self, split: str) -> SampleSet:
        """Raises InputError if the data is not available, or too short for one window."""
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        length = self._options.length
        encoded = self.tokenizer.encode_batch(list(self.texts[split]), add_special_tokens=False)
        end = [number] if (number := end_token(self.tokenizer)) >= 0 else []
        tokens = np.concatenate([[*encoding.ids, *end] for encoding in encoded]).astype(np.int64)
        first = self._first_token()
        step = length - len(first)
        count = (len(tokens) - 1) // step
        if count < 1:
            what = f"the {split} texts of {self._options.data} have {len(tokens)} tokens"
            raise InputError(what, f"a window has {length}", "add texts, or name a smaller length")
        rows = np.arange(count)
        if split != "train" and 0 < self._options.windows < count:
            rows = np.linspace(0, count - 1, self._options.windows).astype(np.int64)
        windows = tokens[rows[:, None] * step + np.arange(step + 1)]
        windows = np.concatenate([np.tile(np.array(first, np.int64), (len(rows), 1)), windows], axis=1)
        return sample_set(f"{self.name}:{split}", {"tokens": windows[:, :-1].copy()}, windows[:, 1:].copy())

    def _first_token(self) -> list[int]:
        """The token that the tokenizer puts before a text, if it is one: a model trained so fails without it."""
        before = self.tokenizer.encode("").ids
        return before if len(before) == 1 else []

    def signature(self, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Signature:
        return Signature((InputSignature("text", tokenizer=TOKENIZER, max_length=self._options.length),))

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Mean cross-entropy over the tokens."""
        from torch.nn.functional import cross_entropy

        if outputs.ndim != 3:
            what = f"the network's output has shape {list(outputs.shape)}"
            raise InputError(what, "(samples, tokens, words) is required", "check the network's last layer")
        return cross_entropy(outputs.flatten(0, 1), labels.flatten())

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        return metrics.perplexity(outputs, labels)

    def ship(self, folder: Path, parents: Mapping[str, Any]) -> None:
        text_module.ship(lambda: self.tokenizer, folder, parents)

    def read(self, text: str, folder: Path) -> tuple[Mapping[str, NDArray[Any]], tuple[str, ...]]:
        """A text (or a .txt file) as the prompt of the artifact in `folder`."""
        tokenizer = text_module.load_tokenizer(folder / TOKENIZER)
        prompt = text_module.parse_text(text, separator="\0")
        return {"tokens": np.array([tokenizer.encode(prompt).ids], np.int64)}, ()

    def tell(self, outputs: Mapping[str, Any], inputs: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The text that was generated; of logits the most probable next token."""
        tokenizer, values = text_module.load_tokenizer(folder / TOKENIZER), np.asarray(next(iter(outputs.values())))
        tokens = values[-1:].argmax(axis=-1) if values.ndim == 2 else values
        return {"outputs": {"tokens": tokens.tolist()}, "text": decoded(tokenizer, tokens)}


def _texts(path: Path, column: str) -> list[str]:
    """The texts of a .txt file, of a folder of them, or of a table's column. Raises InputError."""
    if path.suffix.lower() in tables.SUFFIXES:
        found = [str(row.cells.get(column) or "") for row in rows(path)]
        if not any(found):
            raise InputError(f"{path} has no texts in the column {column!r}", next="name another: ?text=COLUMN")
    else:
        files = sorted(path.rglob("*.txt")) if path.is_dir() else [path]
        if not files:
            raise InputError(f"{path} holds no .txt files", next="name a folder of texts, or a file")
        found = [part for file in files for part in _read(file).split("\n\n")]
    return [text for text in found if text.strip()]


def _read(path: Path) -> str:
    with os_errors("read", path):
        raw = path.read_bytes()
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text", f"byte {error.start}", "save it as UTF-8") from error
