"""The page's section of confusion matrices: which classes each model takes for which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edgekit.report.style import safe

#: a share of a true class that goes to a wrong one is marked from here on
NOTABLE = 0.05


@dataclass(frozen=True)
class Confusion:
    """`counts`: samples, a row per true class, a column per predicted one, in the order of `classes`."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


def section(models: Sequence[tuple[str, Confusion]]) -> str:
    """A folded matrix for each (name, confusion); "" without any."""
    folds = "".join(
        f"<details><summary><b>{safe(name)}</b> {safe(_worst(confusion))}</summary>{_table(name, confusion)}</details>"
        for name, confusion in models
    )
    if not folds:
        return ""
    about = "Samples of the test set: a row per true class, a column per predicted one."
    return f'<section id="confusion"><h2>Confusion matrix</h2><p>{about}</p><div class="folds">{folds}</div></section>'


def _worst(confusion: Confusion) -> str:
    """The most frequent error in words, relative to its true class."""
    errors = [
        (count / sum(row), -true, -predicted, count, sum(row))
        for true, row in enumerate(confusion.counts)
        for predicted, count in enumerate(row)
        if count > 0 and predicted != true
    ]
    if not errors:
        return "no errors"
    _, true, predicted, count, total = max(errors)
    return f"{count:,} of {total:,} {_name(confusion, -true)} taken for {_name(confusion, -predicted)}"


def _name(confusion: Confusion, index: int) -> str:
    return confusion.classes[index] if index < len(confusion.classes) else str(index)


def _table(name: str, confusion: Confusion) -> str:
    heads = "".join(f'<th scope="col" class="n">{safe(each)}</th>' for each in confusion.classes)
    body = "".join(
        f'<tr><th scope="row">{safe(_name(confusion, true))}</th>{"".join(_cells(true, row))}</tr>'
        for true, row in enumerate(confusion.counts)
    )
    return (
        f'<div class="scroll" role="region" aria-label="Confusion matrix of {safe(name)}" tabindex="0">'
        f'<table class="confusion"><caption>Confusion matrix of {safe(name)}</caption>'
        f'<thead><tr><th scope="col">true, predicted →</th>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _cells(true: int, row: Sequence[int]) -> Iterator[str]:
    for predicted, count in enumerate(row):
        share = count / sum(row) if count > 0 else 0
        tone = " good" if predicted == true else " bad" if share >= NOTABLE else ""
        text = f"<b>{count:,}</b>" if tone else f"{count:,}"
        yield f'<td class="n{tone}">{text}</td>'
