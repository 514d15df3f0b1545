"""Translation: what programs say to their users, English to German or French; or any table of pairs.

The messages are those of Debian's gettext catalogues (.mo files), which translators wrote. They are split by message: a
source text is in one split only. The network takes the source and the target so far; greedy decoding around it
(`ondevice/greedy.py`, numpy alone) goes with every artifact and is what is scored and timed.
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
from edgekit.core.task import Scores
from edgekit.ondevice import greedy
from edgekit.sets.options import SPLITS
from edgekit.sets.reading import sample_set
from edgekit.tasks.shared import downloads
from edgekit.tasks.shared import text as text_module
from edgekit.tasks.shared.base import _Base
from edgekit.tasks.shared.text import PAD, SEPARATOR, START, TOKENIZER

if TYPE_CHECKING:
    from tokenizers import Tokenizer

#: Debian package → a catalogue that it brings, under /usr/share/locale
PACKAGES = {
    "gnucash-common": "gnucash",
    "gnupg-l10n": "gnupg2",
    "pidgin-data": "pidgin",
    "util-linux-locales": "util-linux",
    "vlc-l10n": "vlc",
}
#: a longer message of a catalogue is left out: it is a paragraph
LONGEST = 60
DRIVER = "driver.json"


class Translation(_Base):
    """Source (N, S) and target so far (N, T) token numbers → logits (N, T, words); decoded, tokens (N, T).

    Labels (N, T) are the target's tokens, the one that ends included, 0 fills up.
    """

    name = "translation"
    models = ("transformer-translation", "gru-translation")

    @dataclass(frozen=True)
    class Options:
        """`data`: nothing for Debian's catalogues, else a file of pairs, one a line with a tab between. `to`: the
        language of the catalogues. `length`: the most tokens of either side.
        """

        data: str = ""
        to: Literal["de", "fr"] = "de"
        length: int = 24
        words: int = 2000
        metric: Literal["chrf", "bleu"] = "chrf"

        def problems(self) -> Iterator[str]:
            yield from text_module.problems(self.length, self.words, most=512)

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
        found, self.skipped = _table(Path(options.data)) if options.data else (_catalogues(options.to), ())
        return text_module.drawn(found, lambda pair: pair[0].lower(), SPLITS, "pair")

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """One for both languages, learnt from the training pairs alone."""
        made = text_module.trained(
            (text for pair in self.pairs["train"] for text in pair), self._options.words, lower=False
        )
        return text_module.settle(made, self._options.length, "$A [SEP]")

    def arguments(self, model: str) -> Mapping[str, Any]:
        length = self._options.length
        return {"words": self.tokenizer.get_vocab_size(), "length": length, "target": length}

    def load(self, split: str) -> SampleSet:
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        sources, targets = zip(*self.pairs[split], strict=True)
        (source, cut), (labels, also) = (text_module.encoded(self.tokenizer, texts) for texts in (sources, targets))
        notes = text_module.cut_note(cut + also, 2 * len(sources), self._options.length)
        inputs = {"source": source, "target": _so_far(labels)}
        return sample_set(f"{self.name}:{split}", inputs, labels, self.skipped, notes)

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Mean cross entropy over the tokens there are, labels smoothed by a tenth."""
        from torch.nn.functional import cross_entropy

        if outputs.ndim != 3:
            raise InputError(f"the network gives {list(outputs.shape)}", "(samples, places, words) is needed")
        return cross_entropy(outputs.flatten(0, 1), labels.flatten(), ignore_index=PAD, label_smoothing=0.1)

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        """chrF or BLEU of the corpus, over each sentence's counts. Logits, as in training, are scored by place."""
        found = next(iter(outputs.values()))
        if found.ndim == 3:
            settings = {"end": SEPARATOR, "pad": PAD}
            found = greedy.pad_after_end(found.argmax(axis=-1), settings)
        return corpus(self._options.metric, self.texts(found), self.texts(labels))

    def texts(self, tokens: NDArray[Any]) -> list[str]:
        return decoded(self.tokenizer, tokens)

    def ship(self, folder: Path, parents: Mapping[str, Any]) -> None:
        """The tokenizer, the decoding around the model, and its settings."""
        text_module.ship(lambda: self.tokenizer, folder, parents)
        shutil.copyfile(greedy.__file__, folder / "greedy.py")
        numbers = {"start": START, "end": SEPARATOR, "pad": PAD}
        settings = {"driver": "greedy", **numbers, "length": self._options.length}
        (folder / DRIVER).write_text(json.dumps(settings, indent=1) + "\n")

    def read(self, text: str, folder: Path) -> tuple[Mapping[str, NDArray[Any]], tuple[str, ...]]:
        """A text (or a .txt file) as the artifact in `folder` takes it."""
        whole = text_module.pair_of(text, separator="\0")
        source, cut = text_module.encoded(text_module.loaded(folder / TOKENIZER), [whole])
        inputs = {"source": source, "target": _so_far(np.zeros_like(source))}
        return inputs, text_module.cut_note(cut, 1, source.shape[1])

    def tell(self, outputs: Mapping[str, Any], inputs: Mapping[str, Any], folder: Path) -> dict[str, Any]:
        """The translation."""
        tokens = np.asarray(next(iter(outputs.values())))
        (text,) = decoded(text_module.loaded(folder / TOKENIZER), tokens[None])
        return {"outputs": {"tokens": tokens.tolist()}, "text": text}


def _so_far(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """What has been said before each place: the token that starts, then the labels."""
    shifted = np.roll(labels, 1, axis=1)
    shifted[:, 0] = START
    return shifted


def decoded(tokenizer: Tokenizer, tokens: NDArray[Any]) -> list[str]:
    found: Sequence[str] = tokenizer.decode_batch(tokens.tolist(), skip_special_tokens=True)
    return [text.strip() for text in found]


def corpus(metric: str, found: Sequence[str], wanted: Sequence[str]) -> Scores:
    """sacrebleu's chrF2 or BLEU, as a fraction: a row of counts per sentence, added up over any choice of them."""
    try:
        from sacrebleu.metrics.bleu import BLEU
        from sacrebleu.metrics.chrf import CHRF
    except ImportError as error:
        raise Missing.install("scoring translations", "sacrebleu", "metrics") from error
    judge: Any = CHRF() if metric == "chrf" else BLEU(force=True)
    rows = np.array(judge._extract_corpus_statistics(found, [wanted]), np.float64)

    def reduce(chosen: NDArray[Any]) -> float:
        return float(judge._compute_score_from_stats([int(n) for n in chosen.sum(axis=0)]).score) / 100

    return Scores({"chrf": "chrF", "bleu": "BLEU"}[metric], "fraction", True, rows, reduce)


def _table(path: Path) -> tuple[list[tuple[str, str]], tuple[str, ...]]:
    """Pairs, one a line with a tab between (what follows a second tab is left out), and what could not be read."""
    with os_errors("read", path):
        raw = path.read_bytes()
    try:
        lines = raw.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text", f"byte {error.start}", "save it as UTF-8") from error
    found, skipped = [], []
    for number, line in enumerate(lines, 1):
        cells = [cell.strip() for cell in line.split("\t")]
        if len(cells) >= 2 and cells[0] and cells[1]:
            found.append((cells[0], cells[1]))
        elif line.strip():
            skipped.append(f"line {number} of {path}: it is no pair with a tab between")
    if not found or len(skipped) > 0.05 * (len(found) + len(skipped)):
        why = skipped[0] if skipped else "it is empty"
        raise InputError(f"{path} does not hold pairs", why, "one pair a line, a tab between")
    return found, tuple(skipped)


def _catalogues(language: str) -> list[tuple[str, str]]:
    """Every short message of the catalogues once, in alphabetical order."""
    found: dict[str, str] = {}
    for package, domain in PACKAGES.items():
        inside = Path(f"/usr/share/locale/{language}/LC_MESSAGES/{domain}.mo")
        path = downloads.debian(package, inside) / inside.relative_to("/")
        with os_errors("read", path), path.open("rb") as file:
            catalogue: dict[Any, str] = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]
        for source, target in catalogue.items():
            pair = (_plain(source), _plain(target)) if isinstance(source, str) else ("", "")
            if all(pair) and pair[0].lower() not in found:
                found[pair[0].lower()] = "\t".join(pair)
    pairs = [text.split("\t") for _, text in sorted(found.items())]
    return [(source, target) for source, target in pairs]


def _plain(text: str) -> str:
    """One line without markers of keyboard shortcuts and contexts; "" for what is no sentence or too long."""
    text = text.rpartition("\4")[2]
    text = re.sub(r"[_&](?=\w)", "", " ".join(text.split()))
    return text if len(text) <= LONGEST and re.search(r"[^\W\d_]{2}", text) and "%" not in text else ""
