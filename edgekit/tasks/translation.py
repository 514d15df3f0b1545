"""Translation of program messages, English to German or French; or any table of pairs.

The messages come from Debian's gettext catalogues (.mo files), written by translators. They are split by message: a
source text is in one split only. The network takes the source and the target prefix; greedy decoding
(`ondevice/greedy.py`, numpy only) is stored with every artifact, and scores and timings include it.
"""

from __future__ import annotations

import gettext
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, Missing, os_errors
from edgekit.core.samples import SampleSet
from edgekit.core.task import Scores, Task
from edgekit.ondevice import greedy
from edgekit.sets.options import SPLITS
from edgekit.sets.reading import sample_set
from edgekit.tasks.shared import downloads
from edgekit.tasks.shared import text as text_module
from edgekit.tasks.shared.text import PAD, SEPARATOR, START, TOKENIZER

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Debian package → its catalogue under /usr/share/locale
PACKAGES = {
    "gnucash-common": "gnucash",
    "gnupg-l10n": "gnupg2",
    "pidgin-data": "pidgin",
    "util-linux-locales": "util-linux",
    "vlc-l10n": "vlc",
}
#: longer messages of a catalogue are skipped: they are paragraphs
LONGEST = 60
DRIVER = "driver.json"


class Translation(Task):
    """Source (N, S) and target prefix (N, T) token ids → logits (N, T, words); decoded: tokens (N, T).

    Labels (N, T) are the target's tokens with the end token, padded with 0.
    """

    name = "translation"
    models = ("transformer-translation", "gru-translation")

    @dataclass(frozen=True)
    class Options:
        """`data`: empty for Debian's catalogues, else a file of tab-separated pairs, one per line. `to`: the language
        of the catalogues. `length`: the most tokens of source and target.
        """

        data: str = ""
        to: Literal["de", "fr"] = "de"
        length: int = 24
        words: int = 2000
        metric: Literal["chrf", "bleu"] = "chrf"

        def problems(self) -> Iterator[str]:
            yield from text_module.size_problems(self.length, self.words, longest=512)

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or self.Options()

    @property
    def licences(self) -> tuple[str, ...]:  # type: ignore[override]
        if self._options.data:
            return ()
        return (f"messages of Debian's {', '.join(PACKAGES)} (GPL-2+, GPL-3+, LGPL-2.1+: see each package)",)

    @cached_property
    def pairs(self) -> Mapping[str, list[tuple[str, str]]]:
        """Split → pairs, 80/10/10 by the sha256 of the source."""
        options = self._options
        pairs, self.skipped = _table(Path(options.data)) if options.data else (_catalogues(options.to), ())
        return text_module.random_split(pairs, lambda pair: pair[0].lower(), SPLITS, "pair")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Shared by both languages, and trained on the training pairs only."""
        tokenizer = text_module.train_tokenizer(
            (text for pair in self.pairs["train"] for text in pair), self._options.words, lower=False
        )
        return text_module.set_length(tokenizer, self._options.length, "$A [SEP]")

    def arguments(self, model: str) -> Mapping[str, Any]:
        length = self._options.length
        return {"words": self.tokenizer.get_vocab_size(), "length": length, "target": length}

    def load(self, split: str) -> SampleSet:
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        sources, targets = zip(*self.pairs[split], strict=True)
        (source, cut), (labels, target_cut) = (
            text_module.encode(self.tokenizer, texts) for texts in (sources, targets)
        )
        notes = text_module.cut_note(cut + target_cut, 2 * len(sources), self._options.length)
        inputs = {"source": source, "target": _shift_right(labels)}
        return sample_set(f"{self.name}:{split}", inputs, labels, self.skipped, notes)

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Mean cross-entropy over the tokens without padding, with a label smoothing of 0.1."""
        from torch.nn.functional import cross_entropy

        if outputs.ndim != 3:
            raise InputError(
                f"the network's output has shape {list(outputs.shape)}", "(samples, tokens, words) is required"
            )
        return cross_entropy(outputs.flatten(0, 1), labels.flatten(), ignore_index=PAD, label_smoothing=0.1)

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        """chrF or BLEU of the corpus, from each sentence's counts. Logits (in training) are scored by position."""
        predictions = next(iter(outputs.values()))
        if predictions.ndim == 3:
            settings = {"end": SEPARATOR, "pad": PAD}
            predictions = greedy.pad_after_end(predictions.argmax(axis=-1), settings)
        return corpus(self._options.metric, self.texts(predictions), self.texts(labels))

    def texts(self, tokens: NDArray[Any]) -> list[str]:
        return decode(self.tokenizer, tokens)

    def ship(self, folder: Path, parents: Mapping[str, Any]) -> None:
        """Store the tokenizer, the decoding code and its settings with the model."""
        text_module.ship(lambda: self.tokenizer, folder, parents)
        shutil.copyfile(greedy.__file__, folder / "greedy.py")
        numbers = {"start": START, "end": SEPARATOR, "pad": PAD}
        settings = {"driver": "greedy", **numbers, "length": self._options.length}
        (folder / DRIVER).write_text(json.dumps(settings, indent=1) + "\n")

    def read(self, text: str, folder: Path) -> tuple[Mapping[str, NDArray[Any]], tuple[str, ...]]:
        """A text (or a .txt file) as inputs of the artifact in `folder`."""
        parsed_text = text_module.parse_text(text, separator="\0")
        source, cut = text_module.encode(text_module.load_tokenizer(folder / TOKENIZER), [parsed_text])
        inputs = {"source": source, "target": _shift_right(np.zeros_like(source))}
        return inputs, text_module.cut_note(cut, 1, source.shape[1])

    def tell(self, outputs: Mapping[str, Any], inputs: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The translation."""
        tokens = np.asarray(next(iter(outputs.values())))
        (text,) = decode(text_module.load_tokenizer(folder / TOKENIZER), tokens[None])
        return {"outputs": {"tokens": tokens.tolist()}, "text": text}


def _shift_right(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The labels shifted right by one position, with the start token in front."""
    shifted = np.roll(labels, 1, axis=1)
    shifted[:, 0] = START
    return shifted


def decode(tokenizer: Tokenizer, tokens: NDArray[Any]) -> list[str]:
    texts: Sequence[str] = tokenizer.decode_batch(tokens.tolist(), skip_special_tokens=True)
    return [text.strip() for text in texts]


def corpus(metric: str, predictions: Sequence[str], references: Sequence[str]) -> Scores:
    """sacrebleu's chrF2 or BLEU, as a fraction: a row of counts per sentence, summed over any selection of rows."""
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise Missing.install("scoring translations", "sacrebleu", "metrics") from error
    scorer: Any = CHRF() if metric == "chrf" else BLEU(force=True)
    rows = np.array(scorer._extract_corpus_statistics(predictions, [references]), np.float64)

    def reduce(rows: NDArray[Any]) -> float:
        return float(scorer._compute_score_from_stats([int(n) for n in rows.sum(axis=0)]).score) / 100

    return Scores({"chrf": "chrF", "bleu": "BLEU"}[metric], "fraction", True, rows, reduce)


def _table(path: Path) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Tab-separated pairs, one per line (further columns are ignored), and messages about unreadable lines."""
    with os_errors("read", path):
        raw = path.read_bytes()
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text", f"byte {error.start}", "save it as UTF-8") from error
    pairs, skipped = [], []
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) >= 2 and cells[0] and cells[1]:
            pairs.append((cells[0], cells[1]))
        elif line.strip():
            skipped.append(f"line {number} of {path}: it is not a tab-separated pair")
    if not pairs or len(skipped) > 0.05 * (len(pairs) + len(skipped)):
        why = skipped[0] if skipped else "it is empty"
        raise InputError(f"{path} does not hold pairs", why, "write one pair per line, separated by a tab")
    return pairs, tuple(skipped)


def _catalogues(language: str) -> list[tuple[str, str]]:
    """All short messages of the catalogues without duplicates, in alphabetical order."""
    messages: dict[str, str] = {}
    for package, domain in PACKAGES.items():
        inside = Path(f"/usr/share/locale/{language}/LC_MESSAGES/{domain}.mo")
        path = downloads.debian(package, inside) / inside.relative_to("/")
        with os_errors("read", path), path.open("rb") as file:
            catalogue: dict[Any, str] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        for source, target in catalogue.items():
            pair = (_plain(source), _plain(target)) if isinstance(source, str) else ("", "")
            if all(pair) and pair[0].lower() not in messages:
                messages[pair[0].lower()] = "\t".join(pair)
    pairs = [text.split("\t") for _, text in sorted(messages.items())]
    return [(source, target) for source, target in pairs]


def _plain(text: str) -> str:
    """One line without shortcut markers and contexts; "" if it is not a sentence or too long."""
    text = text.rpartition("\4")[2]
    text = re.sub(r"[_&](?=\w)", "", " ".join(text.split()))
    return text if len(text) <= LONGEST and re.search(r"[^\W\d_]{2}", text) and "%" not in text else ""
