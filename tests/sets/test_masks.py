"""Images with masks: layouts, masks placed as their images, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit import sets
from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature, Resize
from edgekit.runs import named_sets
from edgekit.sets.class_order import in_order_of
from edgekit.sets.masks import IGNORED
from edgekit.sets.options import parse_set_spec

HEIGHT, WIDTH = 24, 40


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose blue is 10 times the class of its mask."""
    mask = np.random.default_rng(seed).integers(0, 4, (HEIGHT // 8, WIDTH // 8)).repeat(8, 0).repeat(8, 1)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 2] = mask * 10
    return image, mask.astype(np.uint8)


def write(images: Path, masks: Path, count: int = 4, *, palette: bool = False, ending: str = "") -> None:
    images.mkdir(parents=True, exist_ok=True)
    masks.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image, mask = picture(index)
        Image.fromarray(image).save(images / f"{index}.png")
        saved = Image.fromarray(mask)
        if palette:
            saved.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0, 0, 0, 200])
        saved.save(masks / f"{index}{ending}.png")


def model(signature: InputSignature | None = None, shape: tuple[int | None, ...] = (None, 3, None, None)) -> TensorSpec:
    return TensorSpec("pixels", "float32", shape, signature=signature)


def read(text: str, spec: TensorSpec | None = None) -> SampleSet:
    return sets.read(text, parse_set_spec(text), (spec or model(),))


def labels(data: SampleSet) -> np.ndarray:
    assert data.labels is not None
    return np.asarray(data.labels)


@pytest.mark.parametrize(
    ("images", "masks", "splits"),
    [
        ("images", "masks", 0),
        ("images", "annotations", 0),
        ("images", "labels", 0),
        ("JPEGImages", "SegmentationClass", 0),
        ("images/{}", "masks/{}", 2),
        ("images/{}", "annotations/{}", 2),
        ("{}/images", "{}/masks", 2),
    ],
)
def test_layouts(tmp_path: Path, images: str, masks: str, splits: int) -> None:
    for split in ("training", "val")[:splits] or ("",):
        write(tmp_path / images.format(split), tmp_path / masks.format(split), palette=True)
    data = read(f"{tmp_path}:val" if splits else str(tmp_path))
    assert len(data) == 4 and named_sets.has_labels(str(tmp_path))
    assert labels(data).dtype == np.uint8 and labels(data).shape == (4, HEIGHT, WIDTH)
    np.testing.assert_array_equal(labels(data), data.inputs["pixels"][:, 2] // 10)


def test_a_mask_may_have_an_ending(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks", ending="_mask")
    assert len(read(str(tmp_path))) == 4


def test_pascal_voc_has_images_without_masks_and_lists(tmp_path: Path) -> None:
    write(tmp_path / "JPEGImages", tmp_path / "SegmentationClass", 6)
    for index in (4, 5):
        (tmp_path / f"SegmentationClass/{index}.png").unlink()
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n2\n")
    (lists / "val.txt").write_text("3\n")
    assert len(read(str(tmp_path))) == 4 and len(read(f"{tmp_path}:val")) == 1


GEOMETRY = {
    "stretched": InputSignature("image", resize=Resize("stretch", (12, 20)), interpolation="nearest"),
    "letterboxed": InputSignature("image", resize=Resize("letterbox", 32, 114.0), interpolation="nearest"),
    "cropped": InputSignature("image", resize=Resize("shortest", 12), crop=10, interpolation="nearest"),
    "padded": InputSignature("image", crop=(30, 44), scale=1.0),
}


@pytest.mark.parametrize("how", GEOMETRY)
def test_a_mask_lies_where_its_image_does(tmp_path: Path, how: str) -> None:
    """By the image itself, whose pixels tell the class; around it is nothing to predict."""
    write(tmp_path / "images", tmp_path / "masks")
    data = read(str(tmp_path), model(GEOMETRY[how]))
    images, masks = data.inputs["pixels"], labels(data)
    assert masks.shape[1:] == images.shape[2:]
    inside = masks != IGNORED
    np.testing.assert_array_equal(masks[inside], images[:, 2][inside] // 10)
    outside = {"letterboxed": 114, "padded": 0}.get(how)
    assert inside.all() == (outside is None)
    assert outside is None or (images[:, 0][~inside] == outside).all()


def test_an_ignored_pixel_stays_ignored(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks")
    mask = picture(0)[1]
    mask[:, :8] = IGNORED
    Image.fromarray(mask).save(tmp_path / "masks/0.png")
    data = read(str(tmp_path), model(GEOMETRY["stretched"]))
    assert (labels(data)[0, :, :4] == IGNORED).all() and (labels(data)[0, :, 4:] < 4).all()


def test_values_of_masks_become_classes(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks")
    plain = labels(read(str(tmp_path)))
    shifted = labels(read(f"{tmp_path}?mask_values=1-3"))
    np.testing.assert_array_equal(shifted, np.where(plain == 0, IGNORED, plain - 1))
    for index in range(4):
        Image.fromarray(np.where(picture(index)[1] > 1, 255, 0).astype(np.uint8)).save(tmp_path / f"masks/{index}.png")
    np.testing.assert_array_equal(labels(read(f"{tmp_path}?mask_values=0,255")), plain > 1)


@pytest.mark.parametrize("values", ["x", "1-", "3-1", "0,256", "1,1-3"])
def test_wrong_values_are_refused(values: str) -> None:
    with pytest.raises(InputError, match="invalid option"):
        parse_set_spec(f"masks?mask_values={values}")


def test_black_and_white_masks_are_two_classes(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks", 1)
    Image.fromarray(picture(0)[1] > 1).save(tmp_path / "masks/0.png")
    assert set(np.unique(labels(read(str(tmp_path))))) == {0, 1}


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks", 1)
    Image.fromarray(np.zeros((WIDTH, HEIGHT), np.uint8)).save(tmp_path / "masks/0.png")
    with pytest.raises(InputError, match="cannot be read") as caught:
        read(str(tmp_path))
    assert "0.png is 40x24, and the image 24x40" in caught.value.why


def test_a_missing_mask_is_named(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks", 40)
    (tmp_path / "masks/7.png").unlink()
    data = read(str(tmp_path))
    assert len(data) == 39 and "it has no mask 7.png" in data.skipped[0]


def test_a_mask_in_colour_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks")
    Image.fromarray(picture(0)[0]).save(tmp_path / "masks/0.png")
    with pytest.raises(InputError, match=r"0\.png is not a mask") as caught:
        read(str(tmp_path))
    assert "one channel" in caught.value.next


def test_masks_that_lost_values_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks")
    for path in (tmp_path / "masks").iterdir():
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    with pytest.raises(InputError, match="holds no masks") as caught:
        read(str(tmp_path))
    assert "PNG" in caught.value.next


def test_a_damaged_mask_and_one_of_many_bits_are_named(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks", 80)
    (tmp_path / "masks/1.png").write_bytes((tmp_path / "masks/1.png").read_bytes()[:60])
    Image.fromarray(picture(2)[1].astype(np.uint16) * 1000).save(tmp_path / "masks/2.png")
    data = read(str(tmp_path))
    assert len(data) == 78
    assert any("its mask 1.png" in line for line in data.skipped)
    assert any("values up to 3000" in line for line in data.skipped)


def test_a_class_that_classes_txt_does_not_name(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks")
    (tmp_path / "classes.txt").write_text("background\nroad\n\nsky\n")
    with pytest.raises(InputError, match="cannot be read") as caught:
        read(str(tmp_path))
    assert "the class 3, and classes.txt names 3" in caught.value.why


def test_classes_get_the_model_s_order(tmp_path: Path) -> None:
    write(tmp_path / "images", tmp_path / "masks")
    (tmp_path / "classes.txt").write_text("background\nroad\nsky\ntree\n")
    data = read(str(tmp_path))
    ordered = in_order_of(data, ("__background__", "tree", "road", "sky"))
    np.testing.assert_array_equal(labels(ordered), np.array([0, 2, 3, 1])[labels(data)])
    assert in_order_of(data, ("background", "road", "sky", "tree", "car")) is data
    with pytest.raises(InputError, match="'tree'"):
        in_order_of(data, ("background", "road", "sky"))


def test_folders_of_other_kinds_are_read_as_before(tmp_path: Path) -> None:
    """By class; and YOLO's labels are text."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(picture(0)[0]).save(tmp_path / "photos" / name / "0.png")
    assert labels(read(str(tmp_path / "photos"))).tolist() == [0, 1]
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    Image.fromarray(picture(0)[0]).save(tmp_path / "images/0.png")
    (tmp_path / "labels/0.txt").write_text("0 0.5 0.5 1 1\n")
    assert not named_sets.has_labels(f"{tmp_path}/images")


def test_large_masks_are_memory_mapped(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for index in range(5):
        Image.new("RGB", (2048, 2048)).save(tmp_path / f"images/{index}.bmp")
        Image.new("L", (2048, 2048), 1).save(tmp_path / f"masks/{index}.png")
    data = sets.read(str(tmp_path), parse_set_spec(str(tmp_path)), (model(),))
    assert isinstance(data.labels, np.memmap) and len(data.labels) == 5
