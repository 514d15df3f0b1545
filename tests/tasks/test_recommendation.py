"""Ratings: RMSE, HR and NDCG against other sources, splits that do not leak, bad tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit import tasks
from edgekit.core.errors import InputError
from edgekit.tasks.recommendation import Recommendation


def table(folder: Path, extra: str = "") -> Path:
    rng = np.random.default_rng(0)
    pairs = {(int(u), int(i)) for u, i in rng.integers((30, 200), size=(900, 2))}
    lines = [f"u{u},i{i},{1 + (u + i) % 5}" for u, i in sorted(pairs)]
    path = folder / "ratings.csv"
    path.write_text("\n".join(["user,item,rating", *lines, *([extra] if extra else [])]) + "\n")
    return path


def test_rmse_against_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("torchmetrics.functional.regression")
    rng = np.random.default_rng(0)
    guess, labels = rng.uniform(1, 5, (200, 1)), rng.integers(1, 6, (200, 1)).astype(np.float32)
    found = Recommendation().score({"o": guess}, labels)
    wanted = metrics.mean_squared_error(torch.from_numpy(guess), torch.from_numpy(labels).double(), squared=False)
    assert found.value == pytest.approx(float(wanted)) and not found.higher_is_better


def test_a_guess_beyond_the_range_is_cut_to_it() -> None:
    assert Recommendation().score({"o": np.array([[9.0]])}, np.array([[5.0]])).value == 0


def test_ranking_against_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    values = np.random.default_rng(0).normal(size=(400, 100))
    values[:, 0] += 1.5
    labels = np.zeros_like(values)
    labels[:, 0] = 1
    options = Recommendation.Options
    hr = Recommendation(options(goal="ranking")).score({"o": values}, labels)
    ndcg = Recommendation(options(goal="ranking", metric="ndcg")).score({"o": values}, labels)
    assert hr.value == pytest.approx(metrics.top_k_accuracy_score(np.zeros(400), values, k=10, labels=np.arange(100)))
    assert ndcg.value == pytest.approx(metrics.ndcg_score(labels, values, k=10))


def test_all_the_same_ranks_last() -> None:
    """A network that says the same of everything has not put the item first."""
    labels = np.zeros((2, 100))
    labels[:, 0] = 1
    task = Recommendation(Recommendation.Options(goal="ranking"))
    assert task.score({"o": np.zeros((2, 100))}, labels).value == 0


def test_splits_share_no_rating(tmp_path: Path) -> None:
    for goal in ("rating", "ranking"):
        task = tasks.load(f"recommendation?data={table(tmp_path)}&goal={goal}")
        seen: set[tuple[int, int]] = set()
        for split in ("train", "val", "test"):
            data = task.load(split)
            pairs = set(zip(data.inputs["user"][:, 0].tolist(), data.inputs["item"][:, 0].tolist(), strict=True))
            assert len(pairs) == len(data) and not pairs & seen
            seen |= pairs


def test_rivals_were_never_taken(tmp_path: Path) -> None:
    task = tasks.load(f"recommendation?data={table(tmp_path)}&goal=ranking")
    taken = {
        (int(u), int(i[0]))
        for split in ("train", "val", "test")
        for u, i in zip(*task.load(split).inputs.values(), strict=True)
        for u in u
    }
    data = task.load("test")
    assert data.inputs["item"].shape[1] == 100
    rivals = {(int(u[0]), int(i)) for u, row in zip(*data.inputs.values(), strict=True) for i in row[1:]}
    assert not rivals & taken


@pytest.mark.parametrize(
    ("line", "what"), [("u1,i1,7", "out of range"), ("u1,i1,0.5", "out of range"), ("u1,i1,", "no rating")]
)
def test_a_bad_rating_is_named_with_its_line(tmp_path: Path, line: str, what: str) -> None:
    path = table(tmp_path, line)
    number = len(path.read_text().splitlines())
    with pytest.raises(InputError, match=f"line {number}.*{what}"):
        tasks.load(f"recommendation?data={path}").load("train")


def test_another_range(tmp_path: Path) -> None:
    path = table(tmp_path, "u1,i1,7")
    assert len(tasks.load(f"recommendation?data={path}&low=0&high=10").load("train"))


def test_a_missing_column(tmp_path: Path) -> None:
    path = tmp_path / "r.csv"
    path.write_text("user,film,rating\n1,2,3\n")
    with pytest.raises(InputError, match="no column 'item'"):
        tasks.load(f"recommendation?data={path}").load("train")


def test_an_option_that_is_none() -> None:
    with pytest.raises(InputError, match="goal"):
        tasks.load("recommendation?goal=best")


@pytest.mark.parametrize("model", Recommendation.models)
def test_networks_take_any_number_of_items(model: str) -> None:
    torch = pytest.importorskip("torch")
    from edgekit.networks import named

    network = named.build(model, {"users": 5, "items": 9, "base": 3.0}).eval()
    user, item = torch.tensor([[1], [4]]), torch.arange(6).reshape(2, 3)
    together = network(user, item)
    apart = torch.cat([network(user, item[:, i : i + 1]) for i in range(3)], dim=1)
    assert together.shape == (2, 3) and torch.allclose(together, apart, atol=1e-6)
