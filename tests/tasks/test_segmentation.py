"""Masks: mIoU against torchmetrics, pictures that are the same everywhere, folders of one's own, bad masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit import tasks
from edgekit.core import statistics
from edgekit.core.errors import InputError
from edgekit.tasks.segmentation import IGNORED, Segmentation


def made(folder: Path, count: int = 20, value: int = 1) -> Path:
    """Images that are dark on the left and bright on the right, masks that say so."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    (folder / "classes.txt").write_text("dark\nbright\n")
    for index in range(count):
        edge = 4 + index % 24
        image, mask = np.zeros((32, 32, 3), np.uint8), np.zeros((32, 32), np.uint8)
        image[:, edge:], mask[:, edge:] = 200, value
        Image.fromarray(image).save(folder / "images" / f"{index}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{index}.png")
    return folder


def test_miou_against_torchmetrics() -> None:
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("torchmetrics.functional.classification")
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(12, 4, 16, 16)).astype(np.float32)
    labels = rng.integers(4, size=(12, 16, 16))
    labels[:, :3] = IGNORED
    found = Segmentation().score({"o": logits}, labels)
    wanted = metrics.multiclass_jaccard_index(
        torch.from_numpy(logits).argmax(1), torch.from_numpy(labels), 4, ignore_index=IGNORED
    )
    assert found.value == pytest.approx(float(wanted), abs=1e-6)
    measured = statistics.metric(found, "s", found, "torch")
    assert measured.samples == 12 and measured.drop_pp == 0
    assert measured.ci95[0] < measured.value < measured.ci95[1]


def test_a_folder_of_ones_own_is_learnt_from(tmp_path: Path) -> None:
    task = tasks.load(f"segmentation?data={made(tmp_path)}&size=32")
    assert task.classes == ("dark", "bright")
    train, test = task.load("train"), task.load("test")
    assert len(train) == 16 and len(test) == 2
    image, mask = train.inputs["input"][0], train.labels[0]  # type: ignore[index]
    assert image.shape == (3, 32, 32) and mask.shape == (32, 32)
    assert ((image[0] > 100) == (mask == 1)).all()


def test_an_unknown_class_is_named_with_its_file(tmp_path: Path) -> None:
    task = tasks.load(f"segmentation?data={made(tmp_path, value=7)}&size=32")
    with pytest.raises(InputError, match="unknown classes") as error:
        task.load("train")
    assert "it holds 7" in error.value.why and ".png" in str(error.value)


def test_an_ignored_pixel_is_no_unknown_class(tmp_path: Path) -> None:
    task = tasks.load(f"segmentation?data={made(tmp_path, value=IGNORED)}&size=32")
    assert task.load("train").labels.max() == IGNORED  # type: ignore[union-attr]


def test_a_mask_in_colour_is_refused(tmp_path: Path) -> None:
    made(tmp_path)
    for path in (tmp_path / "masks").iterdir():
        Image.new("RGB", (32, 32)).save(path)
    with pytest.raises(InputError, match="is not a mask"):
        tasks.load(f"segmentation?data={tmp_path}&size=32").load("train")


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    made(tmp_path)
    (tmp_path / "masks" / "3.png").unlink()
    with pytest.raises(InputError, match=r"3\.png"):
        for split in ("train", "val", "test"):
            tasks.load(f"segmentation?data={tmp_path}&size=32").load(split)


@pytest.mark.parametrize("model", Segmentation.models)
def test_networks_give_a_class_per_pixel(model: str) -> None:
    torch = pytest.importorskip("torch")
    from edgekit.networks import named

    task = Segmentation()
    network = named.build(model, task.arguments(model)).train()
    outputs = network(torch.rand(3, 3, 64, 64) * 255)
    assert outputs.shape == (3, 4, 64, 64)
    labels = torch.randint(4, (3, 64, 64))
    labels[0, 0] = IGNORED
    task.loss(outputs, labels).backward()
    assert not [name for name, tensor in network.named_parameters() if tensor.grad is None]


def test_augmentation_mirrors_both() -> None:
    torch = pytest.importorskip("torch")
    images, masks = torch.zeros(40, 3, 4, 4), torch.zeros(40, 4, 4, dtype=torch.int64)
    images[..., 0], masks[..., 0] = 100, 1
    inputs, labels = Segmentation().augment({"input": images}, masks, torch.Generator().manual_seed(0))
    assert ((inputs["input"][:, 0] > 50) == (labels == 1)).all()
    assert 0 < int(labels[:, 0, 3].sum()) < 40
