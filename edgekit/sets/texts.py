"""Texts for a model with a tokenizer: the rows of a table, GLUE's folders, or the lines of a .txt file.

The columns are `text` and `label` of the options; else those of a GLUE layout (https://gluebenchmark.com/tasks), else
the only column of text. Labels that are numbers, or LABEL_0, LABEL_1, …, are indices of classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError, Missing, os_errors, suggest
from edgekit.core.signature import InputSignature
from edgekit.ondevice import text as tokens
from edgekit.sets.labels import Raw
from edgekit.sets.options import Options
from edgekit.sets.reading import SPLIT_NAMES, Item, UnreadableSample
from edgekit.sets.rows import listed
from edgekit.sets.rows import rows as table_rows

#: a text, or a pair of texts
Text = str | tuple[str, str]

LINES = ".txt"
TABLES = (".csv", ".tsv", ".jsonl", ".parquet")

#: columns that may hold the text; the first complete entry is used
TEXTS = (
    *(("sentence1", "sentence2"), ("question1", "question2"), ("question", "sentence"), ("premise", "hypothesis")),
    *(("#1 String", "#2 String"), ("sentence",), ("text",), ("review",)),
)
#: column of the label → the metric it implies
LABELS = {"label": "", "gold_label": "", "is_duplicate": "f1", "Quality": "f1", "score": "spearman", "class": ""}
TRAIN = ("train.tsv", "msr_paraphrase_train.txt")
TEST = ("dev.tsv", "dev_matched.tsv", "msr_paraphrase_test.txt", "test.tsv")
SPLIT = "split"

#: rows whose cells say which columns hold text
LOOKED_AT = 200


def takes_text(inputs: Sequence[TensorSpec]) -> bool:
    """Does a model with these inputs have a tokenizer?"""
    return any(_tokenizer_of(spec) for spec in inputs)


def _tokenizer_of(spec: TensorSpec) -> str:
    record = spec.signature
    return record.tokenizer if isinstance(record, InputSignature) and record.kind == "text" else ""


class Encoder:
    """Texts as the inputs of a model, by its tokenizer. `length`: of the options, 0: as the tokenizer says.

    Raises InputError for a model with another input, or a tokenizer that cannot be read, Missing without its library.
    """

    def __init__(self, inputs: Sequence[TensorSpec], length: int = 0) -> None:
        if other := next((spec for spec in inputs if not _tokenizer_of(spec)), None):
            raise InputError(f"the model takes more than a text: {other}", next="name an .npz with all its inputs")
        self._inputs = inputs
        self.truncated = 0
        first = inputs[0]
        fixed = first.shape[1] if len(first.shape) == 2 else None
        if length and fixed and length != fixed:
            raise InputError(f"length={length} does not fit the model", f"it takes {first}", "leave out length")
        record = first.signature
        assert isinstance(record, InputSignature)
        self.length = fixed or length or record.max_length
        self._tokenizer = _loaded(Path(record.tokenizer), self.length)
        self._parts = {spec.name: spec.signature.part for spec in inputs}  # type: ignore[union-attr]

    def __call__(self, text: Text) -> dict[str, NDArray[Any]]:
        """Input name → (1, tokens) int64. Raises ValueError for an empty text."""
        arrays: dict[str, NDArray[Any]]
        arrays, truncated = tokens.samples(self._tokenizer, text, self._parts)
        self.truncated += truncated
        return arrays

    def note(self, total: int) -> tuple[str, ...]:
        """How many of the texts so far were truncated."""
        return (f"{self.truncated} of {total} texts were cut to {self.length} tokens",) if self.truncated else ()


class Texts:
    """Texts as samples of a model with a tokenizer. Raises InputError: no such columns, no texts; Missing."""

    def __init__(self, path: Path, options: Options, inputs: Sequence[TensorSpec]) -> None:
        self._options, self._files = options, files_of(path)
        self._path, self._inputs = path, inputs
        self.count: int | None = None
        self._read = self._length = 0
        self._columns = {file: self._of_file(file) for file in self._files}
        self.labelled = all(label for _, label in self._columns.values())
        self.splits = self._splits()

    @cached_property
    def _encode(self) -> Encoder:
        return Encoder(self._inputs, self._options.length)

    def __iter__(self) -> Iterator[Item]:
        self._read = self._length = 0
        if self._inputs:
            self._encode.truncated = 0
        for file, split in self._files.items():
            columns, label = self._columns[file]
            for where, cells in _cells(file):
                name = f"{where} of {file}"
                text = _text(cells, columns)
                own = split or SPLIT_NAMES.get(str(cells.get(SPLIT, "")).lower(), "")
                yield Item(name, repr(text), raw_label(cells.get(label)), lambda text=text: self._values(text), own)  # type: ignore[misc]

    def _values(self, text: Text) -> Mapping[str, NDArray[Any]]:
        try:
            values = {name: array[0] for name, array in self._encode(text).items()}
        except ValueError as error:
            raise UnreadableSample(str(error)) from error
        count = len(next(iter(values.values())))
        self._length = self._length or count
        if count != self._length:
            why = f"it has {count} tokens, the first text {self._length}, and nothing fills them up"
            raise UnreadableSample(f"{why}: ?length=N cuts all to one length, language-modelling?data=FILE joins them")
        self._read += 1
        return values

    def decoded(self) -> Mapping[str, InputSignature]:
        return {}

    def notes(self) -> tuple[str, ...]:
        return self._encode.note(self._read)

    def _of_file(self, file: Path) -> tuple[tuple[str, ...], str]:
        """The columns of its texts, and that of its labels, "" if it has none."""
        if _is_lines(file):
            return ("text",), ""
        first = [cells for _, cells in islice(cells_of(file), LOOKED_AT) if cells]
        if not first:
            raise InputError(f"{file} holds no texts", "it is empty", "add rows")
        header = tuple(first[0])
        for name in (*self._options.text, *filter(None, [self._options.label])):
            if name not in header:
                what, why = f"{file} has no column {name!r}", f"its columns are {listed(header)}"
                raise InputError(what, why, suggest(name, header))
        label = self._options.label or next((name for name in LABELS if name in header), "")
        chosen = self._options.text or next((names for names in TEXTS if set(names) <= set(header)), ())
        if not chosen:
            text = [name for name in header if any(isinstance(cells.get(name), str) for cells in first)]
            chosen = tuple(name for name in text if name not in (label, SPLIT))
            if len(chosen) != 1:
                why = f"columns of text are {listed(chosen)}" if chosen else f"its columns are {listed(header)}"
                raise InputError(f"{file} does not say which column is the text", why, "name it: ?text=COLUMN")
        if len(chosen) > 2:
            raise InputError(f"{file}: {len(chosen)} columns of text", "a model takes one text, or a pair", "name two")
        return tuple(chosen), label

    def _splits(self) -> frozenset[str]:
        named = {split for split in self._files.values() if split}
        for file in self._files:
            if SPLIT in next((cells for _, cells in cells_of(file)), {}):
                named |= {SPLIT_NAMES.get(str(cells[SPLIT]).lower(), "") for _, cells in cells_of(file)} - {""}
        return frozenset(named)


def generated(inputs: Sequence[TensorSpec], ids: NDArray[Any]) -> str:
    """The text of token ids, by the tokenizer of a model with these inputs; their numbers if it has none."""
    path = next(filter(None, map(_tokenizer_of, inputs)), "")
    if not path:
        return " ".join(map(str, ids))
    return str(tokens.decoded(_loaded(Path(path), 0), ids))


def _loaded(path: Path, length: int) -> Any:
    """Raises InputError for no tokenizer, Missing without its library."""
    try:
        with os_errors("read", path):
            return tokens.load(path, length)
    except ImportError as error:
        raise Missing.install("text", "tokenizers", "text") from error
    except ValueError as error:
        raise InputError(f"{path} is not a tokenizer", str(error), "import the model again") from error


def are_at(path: Path) -> bool:
    """Can the path hold texts: a table, lines, or a folder of GLUE's?"""
    if path.is_dir():
        return any((path / name).is_file() for name in TRAIN)
    return path.name.lower().endswith((*TABLES, LINES))


def files_of(path: Path) -> dict[Path, str]:
    """The files with the texts, and the split that each is; GLUE's test files hold no labels: `dev.tsv` is its test."""
    if not path.is_dir():
        with os_errors("read", path), path.open("rb"):
            return {path: ""}
    train, test = ([path / name for name in names if (path / name).is_file()][:1] for names in (TRAIN, TEST))
    if not train or not test:
        why, next = "it needs train.tsv and dev.tsv", "add them, or name a table"
        raise InputError(f"{path} is not in one of GLUE's layouts", why, next)
    return {train[0]: "train", test[0]: "test"}


def cells_of(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(where, cells by column) of each row of a table; CoLA, which has no header, has the columns COLA.

    GLUE's TSV files have no quoting, so their lines are split at tabs only.
    """
    suffix = path.suffix.lower()
    if suffix in (".tsv", LINES):
        raw = _lines(path)
        first = next(raw, ("", []))
        header = COLA if is_cola(tuple(first[1])) else first[1]
        if header is COLA:
            yield first[0], dict(zip(COLA, first[1], strict=False))
        yield from ((where, dict(zip(header, cells, strict=False))) for where, cells in raw)
        return
    if suffix not in TABLES:
        raise InputError(f"{path} is not a table of texts", next=f"name a {', '.join(TABLES)}, or a folder")
    for row in table_rows(path):
        yield row.where, row.cells


#: the columns of CoLA
COLA = ("", "label", "mark", "sentence")


def is_cola(header: tuple[str, ...]) -> bool:
    return len(header) == 4 and header[1] in ("0", "1")


def _is_lines(path: Path) -> bool:
    return path.suffix.lower() == LINES and path.name not in (*TRAIN, *TEST)


def _cells(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """As `cells_of`, of a file whose lines are texts those."""
    if not _is_lines(path):
        yield from cells_of(path)
        return
    for where, parts in _lines(path):
        if "".join(parts).strip():
            yield where, {"text": "\t".join(parts)}


def _lines(path: Path) -> Iterator[tuple[str, list[str]]]:
    with os_errors("read", path), path.open(encoding="utf-8-sig", newline="") as file:
        try:
            for number, line in enumerate(file, 1):
                if stripped := line.rstrip("\r\n"):
                    yield f"line {number}", stripped.split("\t")
        except UnicodeDecodeError as error:
            raise InputError(f"{path} is not UTF-8 text", f"byte {error.start}", "save it as UTF-8") from error


def _text(cells: Mapping[str, Any], columns: Sequence[str]) -> Text:
    """The text in these columns; "" where a cell is missing."""
    parts = ["" if cells.get(name) is None else str(cells[name]).strip() for name in columns]
    return (parts[0], parts[1]) if len(parts) == 2 else parts[0]


def raw_label(cell: Any) -> Raw | None:
    """A label as it is; numbers that are text, and LABEL_0, are indices."""
    if not isinstance(cell, str):
        return cell if isinstance(cell, int | float) else None
    if found := re.fullmatch(r"(?:LABEL_)?(\d{1,9})", cell.strip()):
        return int(found[1])
    try:
        return float(cell)
    except ValueError:
        return cell.strip() or None
