"""Text classification: Reuters news by topic, 20 newsgroups, data sets in one of GLUE's layouts, tables of texts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.task import Scores
from edgekit.sets.options import SPLITS
from edgekit.sets.reading import sample_set
from edgekit.tasks.shared import glue, news
from edgekit.tasks.shared import text as text_module
from edgekit.tasks.shared.base import Classification, Regression
from edgekit.tasks.shared.glue import Row
from edgekit.tasks.shared.images import shuffled
from edgekit.tasks.shared.text import TOKENIZER

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: the fraction of the training texts that is the validation split
VALIDATION = 0.15


class TextClassification(Classification):
    """Token ids (N, length) int64 → logits (N, classes), or values (N, 1) for regression."""

    name = "text-classification"
    models = ("transformer-text", "gru-text")
    pretrained = "text-encoder"

    @dataclass(frozen=True)
    class Options:
        """`data`: reuters-r8, 20-newsgroups, a folder in one of GLUE's layouts, or a table (`text` and `label` name its
        columns; a comma separates two text columns). `words`: the vocabulary size. `tokenizer`: a file, or reuters-r8
        or 20-newsgroups for the tokenizer trained on these (to fine-tune a network pretrained on them).
        """

        data: str = "reuters-r8"
        text: str = ""
        label: str = ""
        length: int = 128
        words: int = 4000
        metric: Literal["", "accuracy", "f1", "matthews", "pearson", "spearman"] = ""
        tokenizer: str = ""

        def problems(self) -> Iterator[str]:
            yield from text_module.size_problems(self.length, self.words)

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or self.Options()

    @property
    def licences(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(filter(None, [news.LICENCES.get(self._options.data, "")]))

    @cached_property
    def _rows(self) -> Mapping[str, list[Row]]:
        options = self._options
        if options.data not in news.FILES:
            return glue.read(Path(options.data), options.text, options.label)
        rows = _rows_of(options.data, "train")
        order = shuffled(len(rows))
        cut = len(rows) - round(VALIDATION * len(rows))
        parts = {"train": [rows[i] for i in order[:cut]], "val": [rows[i] for i in order[cut:]]}
        return {**parts, "test": _rows_of(options.data, "test")}

    @cached_property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        if self._is_regression:
            return ()
        names = {str(row.label) for row in self._rows["train"]}
        if len(names) < 2:
            raise InputError(f"{self.name} holds one class only", ", ".join(names), "add a second class")
        return tuple(sorted(names, key=_by_number))

    @cached_property
    def _is_regression(self) -> bool:
        """Whether the labels are continuous values, not classes."""
        return any(isinstance(row.label, float) for row in self._rows["train"])

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The named one, else one trained on the training texts only."""
        options, paired = self._options, any(isinstance(row.text, tuple) for row in self._rows["train"])
        if options.tokenizer in news.FILES:
            return TextClassification(replace(options, data=options.tokenizer, tokenizer="")).tokenizer
        if options.tokenizer:
            return text_module.set_length(text_module.load_tokenizer(Path(options.tokenizer), True), options.length)
        texts = (row.text for row in self._rows["train"])
        flat = (part for text in texts for part in (text if isinstance(text, tuple) else (text,)))
        tokenizer = text_module.train_tokenizer(flat, options.words, lower=True)
        return text_module.set_length(tokenizer, options.length, "$A", "$A [SEP] $B" if paired else "")

    def arguments(self, model: str) -> Mapping[str, Any]:
        words, pad = self.tokenizer.get_vocab_size(), text_module.padding_of(self.tokenizer)
        if model == self.pretrained:
            return {"classes": len(self.classes) or 1, "pad": pad}
        if pad != text_module.PAD:
            what = f"{self._options.tokenizer} fills up with token {pad}"
            raise InputError(what, f"{model} takes token 0 for padding", "leave out tokenizer= to train one")
        return {"words": words, "length": self._options.length, "classes": len(self.classes) or 1}

    def load(self, split: str) -> SampleSet:
        """Raises InputError if the data is not available, or a label is not among the training classes."""
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        rows = self._rows[split]
        tokens, cut = text_module.encode(self.tokenizer, [row.text for row in rows])
        notes = text_module.cut_note(cut, len(rows), self._options.length)
        skipped = tuple(self._rows_skipped(split))
        return sample_set(f"{self.name}:{split}", {"tokens": tokens}, self._labels(rows), skipped, notes)

    def _rows_skipped(self, split: str) -> list[str]:
        return getattr(self._rows[split], "skipped", [])

    def _labels(self, rows: list[Row]) -> NDArray[Any]:
        if self._is_regression:
            return np.array([float(row.label) for row in rows], np.float32)
        class_indices = {name: number for number, name in enumerate(self.classes)}
        for row in rows:
            if str(row.label) not in class_indices:
                what = f"{row.where}: the class {row.label!r} is not in the training texts"
                raise InputError(
                    what, f"there are {', '.join(self.classes[:9])}", "fix the label, or add it to the training texts"
                )
        return np.array([class_indices[str(row.label)] for row in rows], np.int64)

    def loss(self, outputs: Any, labels: Any) -> Any:
        return Regression().loss(outputs, labels) if self._is_regression else super().loss(outputs, labels)

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        """The named metric, else the one that GLUE's layout implies, else accuracy."""
        metric = self._options.metric or getattr(self._rows["train"], "metric", "")
        if not self._is_regression and metric in ("", "accuracy"):
            return super().score(outputs, labels)
        return glue.score(metric or "spearman", next(iter(outputs.values())), labels)

    def ship(self, folder: Path, parents: Mapping[str, Any]) -> None:
        text_module.ship(lambda: self.tokenizer, folder, parents)

    def read(self, text: str, folder: Path) -> tuple[Mapping[str, NDArray[Any]], tuple[str, ...]]:
        """A text (two separated by a tab, or a .txt file) as inputs of the artifact in `folder`."""
        tokenizer = text_module.load_tokenizer(folder / TOKENIZER, True)
        tokens, cut = text_module.encode(tokenizer, [text_module.parse_text(text)])
        return {"tokens": tokens}, text_module.cut_note(cut, 1, tokens.shape[1])


def _rows_of(data: str, split: str) -> list[Row]:
    return [Row(*post) for post in news.posts(data, split)]


def _by_number(name: str) -> tuple[bool, int, str]:
    """Numbers first, in their order, then other names."""
    number = int(name) if re.fullmatch("[0-9]{1,18}", name) else None
    return number is None, number or 0, name
