"""The rows of the tasks' table: a recipe each, the page it is shown on, and the baseline on the same split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import baselines


@dataclass(frozen=True)
class Row:
    """`recipe`: a shipped one. `page`: docs/tasks/PAGE.md. `baseline`: gives its name and value on the test split.

    `picture`: of the plain float model's predictions: confusion, boxes, masks, features, examples (of texts), or none.
    `quick`: a setting that learns within seconds. `also`: the task with another metric, which gets a column too.
    """

    recipe: str
    page: str
    baseline: Callable[[], tuple[str, float]] | None = None
    picture: str = ""
    quick: tuple[str, ...] = ()
    also: str = ""


ROWS = (
    Row("image-classification", "image-classification", baselines.forest, "confusion", ("train.epochs=1",)),
    Row("fine-tuning-images", "fine-tuning", None, "", ("pretrain.epochs=1",)),
    Row("fine-tuning-text", "fine-tuning", None, "", ("pretrain.epochs=1",)),
    Row("object-detection", "object-detection", None, "boxes", ("train.epochs=1",)),
    Row("segmentation", "segmentation", baselines.background, "masks", ("train.epochs=1",)),
    Row("recommendation", "recommendation", baselines.biases, "", ("train.epochs=1",)),
    Row(
        "recommendation-ranking",
        "recommendation",
        baselines.popularity,
        "",
        ("train.epochs=1",),
        "recommendation?goal=ranking&metric=ndcg",
    ),
    Row("anomaly-detection", "anomaly-detection", baselines.isolation_forest, "", ("train.epochs=2",)),
    Row("sensor-series", "sensor-series", baselines.logistic, "confusion", ("train.epochs=10",)),
    Row("keyword-spotting", "keyword-spotting", None, "features", ("train.epochs=1",)),
    Row(
        "text-classification",
        "text-classification",
        baselines.tf_idf,
        "confusion",
        ("train.epochs=1",),
        "text-classification?metric=f1",
    ),
    Row("translation", "translation", baselines.copied, "examples", ("train.epochs=1",), "translation?metric=bleu"),
    Row(
        "question-answering",
        "question-answering",
        baselines.shared_words,
        "examples",
        ("train.epochs=1",),
        "question-answering?metric=em",
    ),
    Row("regression", "regression", baselines.least_squares, "", ("train.epochs=20",)),
)
