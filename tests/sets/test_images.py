"""Folders of images: as the model takes them, the broken ones named, never all in memory."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.runs import named_sets

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def spec(*shape: int | None, name: str = "input") -> tuple[TensorSpec]:
    return (TensorSpec(name, "float32", (None, *shape)),)


def picture(path: Path, colour: Any = 7, size: tuple[int, int] = (6, 4)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L" if isinstance(colour, int) else "RGB", size, colour).save(path)
    return path


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Thirty images, 4 high and 6 wide, of cats (10 + i), dogs (100 + i) and emus (200 + i)."""
    monkeypatch.chdir(tmp_path)
    for i in range(10):
        for name, first in (("cat", 10), ("dog", 100), ("emu", 200)):
            picture(tmp_path / "photos" / name / f"{i}.png", first + i)
    return tmp_path / "photos"


def test_a_folder_by_class(photos: Path) -> None:
    data = named_sets.load("photos")
    assert data.inputs["input"].shape == (30, 1, 4, 6) and data.inputs["input"].dtype == np.uint8
    assert data.labels is not None and data.labels.tolist() == [0] * 10 + [1] * 10 + [2] * 10
    assert data.inputs["input"][:, 0, 0, 0].tolist() == [f + i for f in (10, 100, 200) for i in range(10)]
    assert named_sets.load("photos/cat").labels is None, "files alone have no classes"
    assert named_sets.has_labels("photos:val") and not named_sets.has_labels("photos/cat")


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [
        ((1, 8, 5), (1, 8, 5)),
        ((3, 8, 5), (3, 8, 5)),
        ((8, 5, 1), (8, 5, 1)),
        ((8, 5, 3), (8, 5, 3)),
        ((8, 5), (8, 5)),
        ((None, None, 3), (4, 6, 3)),
        ((3, None, None), (3, 4, 6)),
    ],
)
def test_as_the_model_takes_it(photos: Path, shape: tuple[int | None, ...], wanted: tuple[int, ...]) -> None:
    data = named_sets.load("photos", spec(*shape, name="picture"))
    assert data.inputs["picture"].shape == (30, *wanted)


def test_axes_are_not_swapped(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert np.array_equal(named_sets.load(f"{tmp_path}?layout=nhwc").inputs["input"][0], pixels)
    assert np.array_equal(named_sets.load(f"{tmp_path}?layout=nchw").inputs["input"][0], pixels.transpose(2, 0, 1))
    scaled = named_sets.load(f"{tmp_path}?scale=255&mean=0.1,0.2,0.3&std=2,3,4").inputs["input"][0]
    assert scaled.dtype == np.float32
    expected = (pixels / 255 - np.array([0.1, 0.2, 0.3])) / np.array([2, 3, 4])
    assert np.allclose(scaled, expected.transpose(2, 0, 1), atol=1e-6)
    nhwc = named_sets.load(f"{tmp_path}?scale=255&mean=0.1,0.2,0.3&std=2,3,4&layout=nhwc").inputs["input"][0]
    assert np.allclose(nhwc, expected, atol=1e-6)


def test_folders_called_by_numbers_are_those_classes(tmp_path: Path) -> None:
    for name in (0, 1, 2, 10):
        picture(tmp_path / str(name) / "a.png", name)
    data = named_sets.load(str(tmp_path))
    assert data.labels is not None
    assert data.labels.tolist() == data.inputs["input"][:, 0, 0, 0].tolist()


def test_splits_in_folders(photos: Path, tmp_path: Path) -> None:
    for split, count in (("train", 40), ("valid", 3)):
        for i in range(count):
            picture(tmp_path / "split" / split / "ab"[i % 2] / f"{i}.png", i)
    assert len(named_sets.load("split")) == 43
    assert len(named_sets.load("split:val")) == 3
    train, test = (named_sets.load(f"split:{name}").inputs["input"][:, 0, 0, 0] for name in ("train", "test"))
    assert len(train) + len(test) == 40 and len(test), "the split that is not there is drawn from train"


def test_images_that_differ(photos: Path) -> None:
    picture(photos / "cat" / "big.png", 3, (9, 9))
    with pytest.raises(InputError, match="differ in size") as error:
        named_sets.load("photos")
    assert "big.png is 9x9" in error.value.why and "photos?size=4x6" in error.value.next
    assert named_sets.load("photos?size=5x7").inputs["input"].shape == (31, 1, 5, 7)
    picture(photos / "cat" / "big.png", (1, 2, 3))
    with pytest.raises(InputError, match="both gray and colour images"):
        named_sets.load("photos")
    assert named_sets.load("photos?channels=3").inputs["input"].shape == (31, 3, 4, 6)


def test_a_broken_image_is_left_out_and_named(photos: Path, caplog: pytest.LogCaptureFixture) -> None:
    for i in range(10):
        picture(photos / "cat" / f"more{i}.png", i)
    whole = (photos / "dog" / "3.png").read_bytes()
    (photos / "dog" / "3.png").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING, "edgekit"):
        data = named_sets.load("photos")
    assert len(data) == 39 and data.labels is not None and (data.labels == 1).sum() == 9
    (name,) = data.skipped
    assert name.startswith("photos/dog/3.png: ")
    assert "1 of 40 samples skipped: photos/dog/3.png" in caplog.text
    for name in ("4", "5"):
        (photos / "dog" / f"{name}.png").write_bytes(b"text")
    with pytest.raises(InputError, match="3 of 40 samples") as error:
        named_sets.load("photos")
    assert "photos/dog/3.png" in error.value.why


def test_more_than_eight_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(InputError, match="1 of 1 samples") as error:
        named_sets.load(str(tmp_path))
    assert "8 bits" in error.value.why


@pytest.mark.parametrize(
    ("like", "said"),
    [
        (spec(10), "holds images"),
        ((*spec(1, 4, 6), *spec(1, 4, 6, name="other")), "holds images"),
        (spec(4, 6, 6), "1 or 3 channels"),
    ],
)
def test_a_model_that_takes_no_images(photos: Path, like: tuple[TensorSpec, ...], said: str) -> None:
    with pytest.raises(InputError) as error:
        named_sets.load("photos", like)
    assert said in str(error.value)


def test_folders_with_problems(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / "a.csv").write_text("a\n1\n")
    picture(photos / "stray.png")
    for word, said in (
        ("empty", "holds no files"),
        ("tables", "it holds .csv"),
        ("photos", "stray.png is in no class"),
    ):
        with pytest.raises(InputError) as error:
            named_sets.load(word)
        assert said in str(error.value)


def test_one_class_only(photos: Path) -> None:
    for name in ("dog", "emu"):
        for path in (photos / name).iterdir():
            path.unlink()
        (photos / name).rmdir()
    data = named_sets.load("photos")
    assert len(data) == 10
    assert data.notes == ("it holds one class only: 'cat', 10 times",)
    with pytest.raises(InputError, match="one class only"):
        named_sets.load("photos:train")


def test_a_draw(photos: Path) -> None:
    one, same, other = (named_sets.load(f"photos?count=9&seed={seed}") for seed in (1, 1, 2))
    assert len(one) == 9 and one.sha256 == same.sha256 != other.sha256
    assert one.labels is not None and len(set(one.labels.tolist())) > 1


def test_a_manifest_of_a_folder(photos: Path) -> None:
    Path("m.toml").write_text('source = "photos"\nsize = "8x8"\nscale = 255\nids = [0, 29]\n')
    data = named_sets.load("m.toml")
    assert data.inputs["input"].shape == (2, 1, 8, 8)
    assert data.labels is not None and data.labels.tolist() == [0, 2]
    Path("m.toml").write_text('source = "photos"\ncount = 5\nseed = 3\n')
    assert named_sets.load("m.toml").sha256 == named_sets.load("photos?count=5&seed=3").sha256
    for text in ('source = "photos"\ntask = "mnist"\n', 'siez = "8"\nsource = "photos"\n', 'task = "mnist"\n'):
        Path("m.toml").write_text(text)
        with pytest.raises(InputError):
            named_sets.load("m.toml")


def test_a_set_in_use_is_not_decoded_again(photos: Path) -> None:
    data = named_sets.load("photos:train")
    assert named_sets.load("photos:train") is data
    assert named_sets.load("photos?size=2:train") is not data


GROWTH = """
import resource, sys
from edgekit import sets
from edgekit.runs import named_sets
named_sets.load(sys.argv[1] + "?count=20")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = named_sets.load(sys.argv[1])
few = sets.take(data, len(data) - 1)
print(len(data), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_set(tmp_path: Path) -> None:
    grown = {}
    rng = np.random.default_rng(0)
    for count in (2000, 10000):
        for i in range(count):
            place = tmp_path / str(count) / f"class{i % 3}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (96, 96, 3), dtype=np.uint8)).save(place / f"{i}.bmp")
        command = [sys.executable, "-c", GROWTH, str(tmp_path / str(count))]
        loaded, kilobytes = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert int(loaded) == count
        grown[count] = int(kilobytes) / 1024
    assert grown[10000] - grown[2000] < 10, f"MiB by images: {grown}; they are {27648 * 8000 / 2**20:.0f} MiB more"
