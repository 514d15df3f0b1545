"""SQuAD's layout (https://arxiv.org/abs/1606.05250): questions whose answers are spans of a paragraph, as JSON.

{"data": [{"paragraphs": [{"context": …, "qas": [{"question": …, "answers": [{"text": …, "answer_start": 7}]}]}]}]}
Offsets are in characters. A question that version 2.0 marks as impossible has no span, and is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.core.errors import InputError, os_errors
from edgekit.tasks.shared import text as texts

#: the share of questions that may be broken
TOO_MANY = 0.05


@dataclass(frozen=True)
class Question:
    """`answers`: each as it stands in the context, and the character it begins at; `where` is for people."""

    question: str
    context: str
    answers: tuple[tuple[str, int], ...]
    where: str


class Questions(list[Question]):
    """Questions, what could not be read of them, and what else there is to say."""

    def __init__(self, found: Sequence[Question], skipped: Sequence[str] = (), notes: Sequence[str] = ()) -> None:
        super().__init__(found)
        self.skipped, self.notes = tuple(skipped), tuple(notes)


def read(place: Path) -> Mapping[str, Questions]:
    """Split → questions, of one file or of a folder with train*.json and dev*.json. Raises InputError.

    SQuAD keeps its test file to itself: the dev file is the test split then, and validation is drawn from train.
    """
    if not place.is_dir():
        return drawn(_file(place), ("train", "val", "test"))
    train, test = (next(iter(sorted(place.glob(f"{name}*.json"))), None) for name in ("train", "dev"))
    if train is None or test is None:
        raise InputError(f"{place} is not in SQuAD's layout", "it needs train*.json and dev*.json", "name one file")
    return {**drawn(_file(train), ("train", "val")), "test": _file(test)}


def drawn(found: Questions, splits: Sequence[str]) -> dict[str, Questions]:
    """Drawn by paragraph: no text that is trained on is asked about in another split."""
    parts = texts.drawn(found, lambda one: one.context, splits, "question")
    return {name: Questions(part, found.skipped, found.notes) for name, part in parts.items()}


def _file(path: Path) -> Questions:
    with os_errors("read", path):
        raw = path.read_bytes()
    try:
        articles = json.loads(raw)["data"]
        entries = list(_entries(articles))
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        why = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path} is not in SQuAD's layout", why, "see https://rajpurkar.github.io/SQuAD-explorer"
        ) from error
    found, skipped, impossible = [], [], 0
    for number, (context, entry) in enumerate(entries, 1):
        where = f"question {number} of {path}"
        if entry.get("is_impossible"):
            impossible += 1
        elif problem := _problem(context, entry):
            skipped.append(f"{where}: {problem}")
        else:
            answers = tuple((str(one["text"]), int(one["answer_start"])) for one in entry["answers"])
            found.append(Question(str(entry["question"]).strip(), context, answers, where))
    if not found or len(skipped) > TOO_MANY * (len(found) + len(skipped)):
        why = skipped[0] if skipped else "none of its questions has an answer"
        raise InputError(f"{len(skipped)} of {len(entries)} questions of {path} cannot be read", why, "mend them")
    return Questions(found, skipped, [f"questions without an answer, left out: {impossible}"] * bool(impossible))


def _entries(articles: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Context and question, as the file has them. Raises KeyError, TypeError."""
    for article in articles:
        for paragraph in article["paragraphs"]:
            for entry in paragraph["qas"]:
                if not isinstance(entry, dict):
                    raise TypeError("a question is no object")
                yield str(paragraph["context"]), entry


def _problem(context: str, entry: Mapping[str, Any]) -> str:
    """What is wrong with it, "" for nothing."""
    if not str(entry.get("question", "")).strip():
        return "it is empty"
    answers = entry.get("answers")
    if not isinstance(answers, list) or not answers:
        return "it has no answers"
    for answer in answers:
        text, start = (answer.get(name) if isinstance(answer, dict) else None for name in ("text", "answer_start"))
        if not isinstance(text, str) or not isinstance(start, int) or not text.strip():
            return "an answer has no text and answer_start"
        if start < 0 or context[start : start + len(text)] != text:
            return f"its answer {text!r} is not at character {start} of the paragraph"
    return ""
