"""What every task owes: fixed splits, labels in range, networks that build, and scores."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core import registry
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.tasks.fashion_mnist import DEBIAN, find
from edgekit.testing import TaskContract

#: split → samples, and the sha256 of the set as recorded
SPLITS = {
    "mnist": {
        "train": (3000, "32d179ff2189670e72caad539e1fb68493078b45950b67879b01ff17ad697531"),
        "val": (1000, "c92a1f0ab4fcb0365ed6659084dd88667a29e279563b1cfe9f9f6014d2203a19"),
        "test": (1000, "1f014887c909f9f759ff61cf1d4f3458c126360b6aa19cfede62383af05bd02c"),
    },
    "fashion-mnist": {
        "train": (55000, "4c92e54384ca778b2672e7432a54e89a5a9cf051b478daf3edefef664d1c981b"),
        "val": (5000, "23a9f94210b79a94193d6aa53e1c03168bef8c2f36dd5a3ead1874ba17b74e65"),
        "test": (10000, "0555238e9545a5ff870458540e66c546e7dc61c1c807ef4ee63f80459ddd5577"),
    },
}
CASES = [(task, split) for task, splits in SPLITS.items() for split in splits]


@pytest.fixture
def task(request: pytest.FixtureRequest) -> Any:
    name = request.param
    if name == "fashion-mnist":
        try:
            find()
        except InputError as error:
            if "CI" in os.environ:
                pytest.fail(str(error))
            pytest.skip(f"{error}; {DEBIAN} is what apt-get install dataset-fashion-mnist brings")
    return registry.load("tasks", name)()


def test_every_task_is_tested() -> None:
    """Image classification here, the others in a file of their own."""
    files = {path.stem.removeprefix("test_") for path in (Path(__file__).parents[1] / "tasks").glob("test_*.py")}
    others = {name.replace("-", "_") for name in set(registry.names("tasks")) - set(SPLITS)}
    assert others <= files, f"untested: {others - files}"


@pytest.mark.parametrize(("task", "split"), CASES, indirect=["task"])
def test_splits_are_as_recorded(task: Any, split: str) -> None:
    data: SampleSet = task.load(split)
    count, sha256 = SPLITS[task.name][split]
    assert len(data) == count
    assert data.sha256 == sha256
    assert data.name == f"{task.name}:{split}"
    (images,) = data.inputs.values()
    assert images.shape == (count, 1, 28, 28) and images.dtype == np.uint8
    assert data.labels is not None and data.labels.dtype == np.int64
    assert set(np.unique(data.labels)) == set(range(len(task.classes)))
    share = np.bincount(data.labels) / count
    assert share.min() > 0.07 and share.max() < 0.13, "a class is hardly there"


@pytest.mark.parametrize("task", SPLITS, indirect=True)
def test_no_sample_is_in_two_splits(task: Any) -> None:
    if task.name == "fashion-mnist":
        bounds = sorted(task.splits.values())
        assert [a[1] for a in bounds[:-1]] == [b[0] for b in bounds[1:]], "the splits overlap or leave a gap"
        return
    seen: dict[bytes, str] = {}
    for split in task.splits:
        for image in task.load(split).inputs["input"]:
            assert seen.setdefault(image.tobytes(), split) == split


@pytest.mark.parametrize("task", SPLITS, indirect=True)
def test_the_recorded_mean_and_spread(task: Any) -> None:
    images = task.load("train").inputs["input"]
    assert images.mean() == pytest.approx(task.mean[0], abs=0.6)
    assert images.std() == pytest.approx(task.std[0], abs=0.6)


class TestTasks(TaskContract):
    members = ("mnist", "bars")

    @pytest.fixture(autouse=True)
    def _members(self, members: None) -> None: ...


@pytest.mark.parametrize("task", SPLITS, indirect=True)
def test_an_unknown_split(task: Any) -> None:
    with pytest.raises(InputError) as error:
        task.load("tset")
    assert "train, val, test" in error.value.next


@pytest.mark.parametrize("name", SPLITS)
def test_networks_build_and_have_a_loss(name: str) -> None:
    torch = pytest.importorskip("torch")
    from edgekit.networks import named

    task = registry.load("tasks", name)()
    assert task.name == name and task.licences
    for model in task.models:
        network = named.build(model, task.arguments(model)).eval()
        outputs = network(torch.zeros(2, *task.shape))
        assert outputs.shape == (2, len(task.classes))
        assert task.loss(outputs, torch.tensor([0, 1])).shape == ()
        scores = task.score({"output": outputs.detach().numpy()}, np.array([0, 1]))
        assert scores.name == "accuracy" and scores.per_sample.shape == (2,)
