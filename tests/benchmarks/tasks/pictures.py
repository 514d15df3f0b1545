"""The picture on a task's page, of the first samples of the test split."""

from __future__ import annotations

from typing import Any

from edgekit.ondevice.boxes import decode
from edgekit.report import samples

SHOWN = 8


def picture(kind: str, task: Any, test: Any, outputs: Any) -> str:
    values = list(outputs.values())
    if kind == "confusion":
        return samples.confusion(test.labels, values[0].argmax(axis=1), task.classes)
    first = next(iter(test.inputs.values()))[:SHOWN]
    labels = test.labels[:SHOWN]
    if kind == "masks":
        return samples.masks(first[:5], labels[:5], values[0][:5].argmax(axis=1), task.classes)
    if kind == "boxes":
        found = [decode(c, s, min_score=0.3) for c, s in zip(values[0][:SHOWN], values[1][:SHOWN], strict=True)]
        return samples.boxes(first, [label[label[:, 0] >= 0] for label in labels], found, task.classes)
    said = [
        f"{task.classes[w]}: {task.classes[f]}" for w, f in zip(labels, values[0][:SHOWN].argmax(axis=1), strict=True)
    ]
    return samples.features(first, said)


def examples(task: Any, test: Any, outputs: Any) -> list[str]:
    """A table of texts: what was given, what came out, what it should have been."""
    first, values = next(iter(test.inputs.values()))[:SHOWN], next(iter(outputs.values()))[:SHOWN]
    if task.name == "translation":
        rows = [task.texts(first), task.texts(values), task.texts(test.labels[:SHOWN])]
        heads = "| source | said | the translator's |"
    else:
        wanted = [task.asked(label) for label in test.labels[:SHOWN]]
        said = task.answers(values, test.labels[:SHOWN])
        rows = [[one.question for one in wanted], said, [one.answers[0][0] for one in wanted]]
        heads = "| question | said | true |"
    return ["", heads, "|---|---|---|", *(f"| {' | '.join(row)} |" for row in zip(*rows, strict=True))]
