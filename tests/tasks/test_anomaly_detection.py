"""Anomalies: AUC against torchmetrics, what may be learnt from, folders of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit import tasks
from edgekit.core.errors import InputError
from edgekit.tasks.anomaly_detection import AnomalyDetection, auc


def folder(root: Path, kinds: tuple[str, ...] = ("normal", "abnormal"), size: int = 8) -> str:
    rng = np.random.default_rng(0)
    for kind in kinds:
        (root / kind).mkdir()
        for index in range(20 if kind == "normal" else 6):
            pixels = rng.integers(0, 255 if kind == "abnormal" else 60, (size, size), np.uint8)
            Image.fromarray(pixels).save(root / kind / f"{index}.png")
    return f"anomaly-detection?data={root}"


def test_auc_against_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    pytest.importorskip("sklearn")
    rng = np.random.default_rng(0)
    labels = np.concatenate([(rng.random((300, 1)) < 0.2).astype(np.float32), rng.normal(size=(300, 4))], 1)
    outputs = labels[:, 1:] + rng.normal(size=(300, 4)) * (0.5 + labels[:, :1])
    found = AnomalyDetection().score({"o": outputs}, labels)
    error = torch.from_numpy(((outputs - labels[:, 1:]) ** 2).mean(1))
    wanted = metrics.binary_auroc(error / error.max(), torch.from_numpy(labels[:, 0]).long())
    assert found.value == pytest.approx(float(wanted), abs=1e-6) and 0.6 < found.value < 1


def test_auc_of_one_kind_is_no_number() -> None:
    pytest.importorskip("sklearn")
    assert np.isnan(auc(np.array([[0.1, 0], [0.2, 0]])))


def test_only_normal_samples_are_learnt_from(tmp_path: Path) -> None:
    task = tasks.load(folder(tmp_path))
    flags = {split: task.load(split).labels[:, 0] for split in ("train", "val", "test")}  # type: ignore[index]
    assert not flags["train"].any()
    assert flags["val"].sum() == 2 and flags["test"].sum() == 4
    assert {split: len(f) for split, f in flags.items()} == {"train": 10, "val": 7, "test": 9}


def test_anomalies_do_not_count_in_the_loss() -> None:
    torch = pytest.importorskip("torch")
    labels = torch.tensor([[0.0, 1.0, 1.0], [1.0, 9.0, 9.0]])
    assert float(AnomalyDetection().loss(torch.ones(2, 2), labels)) == 0


def test_a_class_without_samples(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs the classes normal and abnormal") as error:
        tasks.load(folder(tmp_path, ("normal",))).load("train")
    assert "abnormal/" in error.value.next


def test_too_many_values(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="10,000 values"):
        tasks.load(folder(tmp_path, size=100)).load("train")
