"""Recommendation: MovieLens-100K, or any table of ratings; rating prediction, or ranking.

MovieLens-100K (https://doi.org/10.1145/2827872): 100,000 ratings of 1,682 films by 943 people, from the wheel of
`recbole`.
"""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, os_errors
from edgekit.core.samples import SampleSet
from edgekit.core.task import Scores, Task
from edgekit.sets import reading
from edgekit.sets.options import SPLITS
from edgekit.tasks.shared import downloads
from edgekit.tasks.shared.images import shuffled

CARRIER = ("recbole", "1.2.1")
FILE = "recbole/dataset_example/ml-100k/ml-100k.inter"
#: negative items per positive item
NEGATIVES = 99


class Recommendation(Task):
    """user (N, 1) and item (N, K) indices → scores (N, K).

    goal=rating: K is 1, labels (N, 1) are ratings; RMSE. goal=ranking: the first of K items is the positive one, the
    others are negatives (labels (N, K), 1 and 0); HR@10 or, with metric=ndcg, NDCG@10, among 100 items.
    """

    name = "recommendation"
    models = ("ncf", "dlrm")

    @dataclass(frozen=True)
    class Options:
        """`data`: a CSV file with the columns user, item and rating; ratings are from `low` to `high`."""

        data: str = ""
        goal: Literal["rating", "ranking"] = "rating"
        metric: Literal["hr", "ndcg"] = "hr"
        low: float = 1.0
        high: float = 5.0

        def problems(self) -> Iterator[str]:
            if not self.low < self.high:
                yield "low must be less than high"

    def __init__(self, options: Options | None = None) -> None:
        self._options = options or self.Options()

    @property
    def licences(self) -> tuple[str, ...]:  # type: ignore[override]
        return () if self._options.data else ("MovieLens-100K, GroupLens (research use, no redistribution)",)

    def arguments(self, model: str) -> Mapping[str, Any]:
        users, items, ratings = self._table
        base = float(ratings[self._rows["train"]].mean()) if self._options.goal == "rating" else 0.0
        return {"users": int(users.max()) + 1, "items": int(items.max()) + 1, "base": round(base, 4)}

    def load(self, split: str) -> SampleSet:
        """Raises InputError: no such split, no data, a rating out of range."""
        if split not in SPLITS:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SPLITS)}")
        rows = self._rows[split]
        users, items, ratings = self._table[0][rows], self._table[1][rows], self._table[2][rows]
        if self._options.goal == "rating":
            labels = ratings[:, None].astype(np.float32)
            inputs = {"user": users[:, None].astype(np.int32), "item": items[:, None].astype(np.int32)}
            return reading.sample_set(f"{self.name}:{split}", inputs, labels)
        negatives = self._negatives(users, NEGATIVES)
        inputs = {"user": users[:, None].astype(np.int32), "item": np.concatenate([items[:, None], negatives], 1)}
        labels = np.zeros(inputs["item"].shape, np.float32)
        labels[:, 0] = 1
        return reading.sample_set(f"{self.name}:{split}", {**inputs, "item": inputs["item"].astype(np.int32)}, labels)

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Indices of users and items, in the order of their first appearance, and ratings."""
        rows = list(self._read())
        users, items = _to_indices([row[0] for row in rows]), _to_indices([row[1] for row in rows])
        return users, items, np.array([row[2] for row in rows])

    @cached_property
    def _rows(self) -> dict[str, NDArray[np.int64]]:
        """Split → rows. Rating: a fixed random 80/10/10 split. Ranking: leave one out; in the same order, each user's
        last row is for the test and the one before for validation.
        """
        users = self._table[0]
        order = shuffled(len(users))
        if self._options.goal == "rating":
            tenth = len(order) // 10
            return {"test": order[:tenth], "val": order[tenth : 2 * tenth], "train": order[2 * tenth :]}
        last: dict[int, list[int]] = {}
        for row in order:
            last.setdefault(int(users[row]), []).append(int(row))
        eligible = [rows for rows in last.values() if len(rows) >= 3]
        held_out = {"test": np.array([rows[-1] for rows in eligible]), "val": np.array([rows[-2] for rows in eligible])}
        out = np.concatenate(list(held_out.values()))
        return {**held_out, "train": order[~np.isin(order, out)]}

    def _negatives(self, users: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """(N, count) items that the user did not rate, drawn with a fixed seed."""
        all_users, all_items = self._table[0], self._table[1]
        taken = np.zeros((int(all_users.max()) + 1, int(all_items.max()) + 1), bool)
        taken[all_users, all_items] = True
        rng = np.random.default_rng(len(users))
        negatives = rng.integers(taken.shape[1], size=(len(users), count))
        for _ in range(50):
            collides = taken[users[:, None], negatives]
            if not collides.any():
                break
            negatives[collides] = rng.integers(taken.shape[1], size=int(collides.sum()))
        return negatives

    def _read(self) -> Iterator[tuple[str, str, float]]:
        if not self._options.data:
            with zipfile.ZipFile(downloads.wheel(*CARRIER)) as archive:
                for line in io.TextIOWrapper(archive.open(FILE), "utf-8").readlines()[1:]:
                    user, item, rating, _ = line.split("\t")
                    yield user, item, float(rating)
            return
        path = Path(self._options.data)
        with os_errors("read", path), path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file)
            missing = {"user", "item", "rating"} - set(table.fieldnames or ())
            if missing:
                raise InputError(
                    f"{path} has no column {sorted(missing)[0]!r}", next="its first line names the columns"
                )
            rows = [self._row(row, f"{path}, line {number}") for number, row in enumerate(table, 2)]
        if len(rows) < 100:
            raise InputError(f"{path} holds {len(rows)} ratings", "training needs at least 100", "add ratings")
        yield from rows

    def _row(self, row: Mapping[str, Any], where: str) -> tuple[str, str, float]:
        low, high = self._options.low, self._options.high
        try:
            rating = float(row["rating"])
        except (TypeError, ValueError) as error:
            raise InputError(f"{where} has no rating", repr(row["rating"]), "write a number") from error
        if not low <= rating <= high:
            advice = f"fix it, or set the range: {self.name}?data=…&low=0&high=10"
            why = f"the range is {low:g} to {high:g}"
            raise InputError(f"{where}: the rating {rating:g} is out of range", why, advice)
        return str(row["user"]), str(row["item"]), rating

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Rating: mean squared error. Ranking: cross-entropy over the items (sampled softmax)."""
        from torch.nn.functional import cross_entropy, mse_loss

        if self._options.goal == "rating":
            return mse_loss(outputs, labels)
        return cross_entropy(outputs, labels)

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        """RMSE of ratings clipped to their range; or HR@10 or NDCG@10 of the positive item."""
        values = next(iter(outputs.values()))
        if self._options.goal == "rating":
            error = np.clip(values, self._options.low, self._options.high) - labels
            return Scores("RMSE", "", False, (error.astype(np.float64) ** 2).reshape(len(error), -1), rmse)
        rank = (values[:, 1:] >= values[:, :1]).sum(axis=1)
        hit = rank < 10
        if self._options.metric == "hr":
            return Scores("HR@10", "fraction", True, hit.astype(np.float64))
        return Scores("NDCG@10", "fraction", True, np.where(hit, 1 / np.log2(rank + 2.0), 0.0))


def _to_indices(words: list[str]) -> NDArray[np.int64]:
    indices: dict[str, int] = {}
    return np.array([indices.setdefault(word, len(indices)) for word in words], np.int64)


def rmse(squares: NDArray[Any]) -> float:
    """Squared errors → the root of their mean."""
    return float(np.sqrt(np.asarray(squares, np.float64).mean()))
