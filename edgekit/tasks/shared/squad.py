"""Reads SQuAD's JSON format (https://arxiv.org/abs/1606.05250): questions whose answers are spans of a paragraph.

{"data": [{"paragraphs": [{"context": …, "qas": [{"question": …, "answers": [{"text": …, "answer_start": 7}]}]}]}]}
Offsets are in characters. Questions that version 2.0 marks as impossible have no span, and are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.core.errors import InputError, os_errors
from edgekit.core.json import parse
from edgekit.tasks.shared import text as texts

#: the fraction of questions that may be invalid
MAX_BROKEN = 0.05


@dataclass(frozen=True)
class Question:
    """`answers`: each answer's text and its start character in the context; `where` locates it in messages."""

    question: str
    context: str
    answers: tuple[tuple[str, int], ...]
    where: str


class Questions(list[Question]):
    """Questions, messages about the invalid ones, and notes."""

    def __init__(self, questions: Sequence[Question], skipped: Sequence[str] = (), notes: Sequence[str] = ()) -> None:
        super().__init__(questions)
        self.skipped, self.notes = tuple(skipped), tuple(notes)


def read(path: Path) -> Mapping[str, Questions]:
    """Split → questions, of one file or of a folder with train*.json and dev*.json. Raises InputError.

    SQuAD's test file is not public: the dev file is the test split, and validation is drawn from train.
    """
    if not path.is_dir():
        return random_split(_read_file(path), ("train", "val", "test"))
    train, test = (next(iter(sorted(path.glob(f"{name}*.json"))), None) for name in ("train", "dev"))
    if train is None or test is None:
        raise InputError(
            f"{path} is not in SQuAD's layout", "it needs train*.json and dev*.json", "add them, or name one file"
        )
    return {**random_split(_read_file(train), ("train", "val")), "test": _read_file(test)}


def random_split(questions: Questions, splits: Sequence[str]) -> dict[str, Questions]:
    """A random split by paragraph: no paragraph is in two splits."""
    parts = texts.random_split(questions, lambda question: question.context, splits, "question")
    return {name: Questions(part, questions.skipped, questions.notes) for name, part in parts.items()}


def _read_file(path: Path) -> Questions:
    with os_errors("read", path):
        raw = path.read_bytes()
    try:
        articles = parse(raw)["data"]
        entries = list(_entries(articles))
    except (ValueError, TypeError, KeyError) as error:
        why = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise InputError(
            f"{path} is not in SQuAD's layout", why, "see https://rajpurkar.github.io/SQuAD-explorer"
        ) from error
    questions, skipped, impossible = [], [], 0
    for number, (context, entry) in enumerate(entries, 1):
        where = f"question {number} of {path}"
        if entry.get("is_impossible"):
            impossible += 1
        elif problem := _problem(context, entry):
            skipped.append(f"{where}: {problem}")
        else:
            answers = tuple((str(question["text"]), int(question["answer_start"])) for question in entry["answers"])
            questions.append(Question(str(entry["question"]).strip(), context, answers, where))
    if not questions or len(skipped) > MAX_BROKEN * (len(questions) + len(skipped)):
        why = skipped[0] if skipped else "none of its questions has an answer"
        raise InputError(
            f"{len(skipped)} of {len(entries)} questions of {path} cannot be read", why, "fix these questions"
        )
    return Questions(questions, skipped, [f"questions without an answer, skipped: {impossible}"] * bool(impossible))


def _entries(articles: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Context and question entries of the file. Raises KeyError, TypeError."""
    for article in articles:
        for paragraph in article["paragraphs"]:
            for entry in paragraph["qas"]:
                if not isinstance(entry, dict):
                    raise TypeError("a question is not a JSON object")
                yield str(paragraph["context"]), entry


def _problem(context: str, entry: Mapping[str, Any]) -> str:
    """What is wrong with the entry, "" for nothing."""
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
