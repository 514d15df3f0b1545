"""Preprocessing, in Python and in C: its results are those of Pillow, torchvision, torch and Hugging Face."""

from __future__ import annotations

import ast
import io
import re
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from outside import torchvision
from PIL import Image, ImageOps
from PIL import __version__ as pillow_version

from edgekit.core.signature import InputSignature, Resize, plain
from edgekit.ondevice import preprocess
from edgekit.tasks.shared.cutouts import PACKAGE, STAMPS

Pixels = NDArray[np.uint8]

FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
IMAGENET = {"scale": 1 / 255, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
NATIVE = Path(preprocess.__file__).parent / "native"
MODES = ("keep", "stretch", "shortest", "letterbox", "letterbox-corner")

sizes = st.one_of(st.integers(1, 12), st.integers(1, 90), st.integers(1, 600))
shapes = st.tuples(sizes, sizes)


def resampling(name: str) -> Image.Resampling:
    return Image.Resampling[name.upper()]


def noise(seed: int, shape: tuple[int, int], channels: int) -> Pixels:
    """Half of them black and white only: the filters overshoot."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, channels), np.uint8)
    return np.where(pixels > 127, 255, 0).astype(np.uint8) if seed % 2 else pixels


def as_pillow(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def encoded(image: Image.Image, format: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, format, **options)
    file.seek(0)
    return file


def input_of(source: object, **front: Any) -> NDArray[Any]:
    return cast(NDArray[Any], preprocess.image(source, {"layout": "NHWC", **front}))


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    """Stamps with alpha, a palette, and one tall and one wide strip of them."""
    paths = [path for folder in ("animals", "food", "town") for path in sorted((STAMPS / folder).rglob("*.png"))[:4]]
    if not paths:
        pytest.skip(f"needs photographs: sudo apt install {PACKAGE}")
    images = [Image.open(path).copy() for path in paths]
    widest = images[0].convert("RGB")
    return [*images, images[1].convert("RGB").quantize(40), widest.resize((900, 7)), widest.resize((5, 800))]


# --- Pillow ----------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(shapes, shapes, st.sampled_from(FILTERS), st.sampled_from([1, 3]), st.integers(0, 1 << 30))
def test_resampling_is_pillows_to_the_bit(
    shape: tuple[int, int], size: tuple[int, int], name: str, channels: int, seed: int
) -> None:
    vertical_first = preprocess._passes(shape, *size) == (0, 1)
    assume(not vertical_first or int(pillow_version.partition(".")[0]) >= 13)
    pixels = noise(seed, shape, channels)
    expected = np.asarray(as_pillow(pixels).resize(size[::-1], resampling(name))).reshape(*size, channels)
    np.testing.assert_array_equal(preprocess.resample(pixels, *size, name), expected)


@pytest.mark.parametrize("name", FILTERS)
def test_photos_are_resized_as_by_pillow(photos: list[Image.Image], name: str) -> None:
    for photo in photos:
        for mode, colour in (("RGB", "RGB"), ("L", "gray")):
            expected = np.asarray(photo.convert(mode).resize((64, 48), resampling(name))).reshape(48, 64, -1)
            file = encoded(photo, "png")
            resize = {"mode": "stretch", "size": [48, 64]}
            np.testing.assert_array_equal(input_of(file, colour=colour, resize=resize, interpolation=name), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_modes_are_converted_as_by_pillow(mode: str) -> None:
    colour = Image.fromarray(noise(2, (9, 14), 4), "RGBA").convert("RGB")
    image = colour.convert("P").convert(mode) if mode == "PA" else colour.convert(mode)
    format = "png" if mode in ("1", "L", "LA", "P", "RGB", "RGBA") else "tiff" if mode in ("CMYK", "YCbCr") else ""
    if not format:
        image = image.convert("RGB")
    file = encoded(image, format or "png")
    opened = Image.open(io.BytesIO(file.getvalue()))
    np.testing.assert_array_equal(input_of(file, channels=3), np.asarray(opened.convert("RGB")))
    file.seek(0)
    np.testing.assert_array_equal(input_of(file, channels=1)[..., 0], np.asarray(opened.convert("L")))


def test_a_palette_with_transparency_and_a_cmyk_jpeg() -> None:
    colour = Image.fromarray(noise(4, (31, 22), 3))
    for file in (
        encoded(colour.quantize(17), "png", transparency=3),
        encoded(colour.quantize(17), "gif", transparency=3),
        encoded(colour.convert("CMYK"), "jpeg"),
        encoded(colour.convert("L"), "jpeg"),
    ):
        opened = Image.open(io.BytesIO(file.getvalue()))
        np.testing.assert_array_equal(input_of(file, colour="RGB"), np.asarray(opened.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_if_the_signature_says_so(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = encoded(Image.fromarray(noise(6, (8, 16), 3)), "jpeg", exif=exif)
    opened = Image.open(io.BytesIO(file.getvalue()))
    np.testing.assert_array_equal(input_of(file), np.asarray(opened))
    file.seek(0)
    np.testing.assert_array_equal(input_of(file, exif=True), np.asarray(ImageOps.exif_transpose(opened)))


def test_the_image_decides_the_channels_if_nothing_else_does() -> None:
    gray, colour = noise(8, (4, 6), 1)[..., 0], noise(8, (4, 6), 3)
    assert input_of(gray).shape == (4, 6, 1) and input_of(colour).shape == (4, 6, 3)
    replicated = input_of(gray, channels=3)
    assert all(np.array_equal(replicated[..., channel], gray) for channel in range(3))
    luma = np.asarray(Image.fromarray(colour).convert("L"))
    np.testing.assert_array_equal(input_of(colour, colour="gray")[..., 0], luma)
    np.testing.assert_array_equal(input_of(colour, colour="gray", channels=3), np.repeat(luma[..., None], 3, 2))


def test_layouts_and_the_order_of_the_channels() -> None:
    colour = noise(10, (4, 6), 3)
    assert preprocess.image(colour, {}).shape == (3, 4, 6)
    np.testing.assert_array_equal(preprocess.image(colour, {"layout": "NCHW"}), colour.transpose(2, 0, 1))
    np.testing.assert_array_equal(input_of(colour, colour="BGR"), colour[..., ::-1])
    np.testing.assert_array_equal(preprocess.image(colour[..., 0], {"layout": "NHW"}), colour[..., 0])
    bgr = input_of(colour, colour="BGR", **IMAGENET)  # mean and std are in the model's order
    np.testing.assert_array_equal(bgr, input_of(colour[..., ::-1], colour="RGB", **IMAGENET))
    assert preprocess.image(colour, {"colour": "BGR"}).flags.c_contiguous


def test_a_signature_as_plain_values() -> None:
    resize = Resize("shortest", 20)
    signature = InputSignature("image", layout="NHWC", colour="RGB", resize=resize, crop=16, scale=1 / 255)
    values = input_of(noise(12, (40, 60), 3), **plain(signature))
    assert values.shape == (16, 16, 3) and values.dtype == np.float32 and 0 <= values.min() <= values.max() <= 1


def test_without_resize_the_image_is_stretched_to_the_models_size() -> None:
    pixels = noise(14, (40, 60), 3)
    expected = preprocess.resample(pixels, 10, 12, "bilinear")
    np.testing.assert_array_equal(input_of(pixels, height=10, width=12), expected)
    assert input_of(pixels, height=40, width=None).shape == (40, 60, 3)
    with pytest.raises(ValueError, match=r"becomes 40x60 .* height must be 10"):
        input_of(pixels, height=10)
    with pytest.raises(ValueError, match=r"becomes 20x30 .* height must be 24"):
        input_of(pixels, height=24, width=24, resize={"mode": "shortest", "size": 20})


# --- torchvision, torch, Hugging Face, Ultralytics -------------------------------------------------------------------


@pytest.mark.parametrize("version", ["transforms", "transforms.v2"])
@settings(max_examples=40, deadline=None)
@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), st.integers(1, 40), st.integers(1, 60), st.integers(0, 99))
def test_torchvision_of_a_pillow_image(version: str, shape: tuple[int, int], size: int, crop: int, seed: int) -> None:
    vision = torchvision()
    transforms = vision.transforms.v2 if version.endswith("v2") else vision.transforms
    pixels = noise(seed, shape, 3)
    for name in ("nearest", "bilinear", "bicubic", "lanczos"):
        mode = vision.transforms.InterpolationMode[name.upper()]
        steps = [transforms.Resize(size, mode), transforms.CenterCrop((crop, size))]
        expected = transforms.Compose(steps)(Image.fromarray(pixels))
        front = {"resize": {"mode": "shortest", "size": size}, "crop": [crop, size], "interpolation": name}
        np.testing.assert_array_equal(input_of(pixels, **front), np.asarray(expected))
    normalized = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGENET["mean"], IMAGENET["std"])])
    front = {**front, **IMAGENET, "layout": "NCHW"}
    np.testing.assert_allclose(input_of(pixels, **front), normalized(expected).numpy(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("version", ["transforms", "transforms.v2"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic"])
def test_torchvision_of_a_tensor_within_one_grey_level(version: str, antialias: bool, name: str) -> None:
    import torch

    vision = torchvision()
    transforms = vision.transforms.v2 if version.endswith("v2") else vision.transforms
    mode = vision.transforms.InterpolationMode[name.upper()]
    for shape, size in (((64, 48), 20), ((33, 71), 24), ((9, 9), 50), ((100, 30), 31), ((5, 80), 3)):
        # grey levels that bicubic does not lead out of 0 to 255: v1 cuts the sums once, v2 and Pillow after each pass
        pixels = noise(16, shape, 3) // 2 + 64
        resized = transforms.Resize(size, mode, antialias=antialias)(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
        # torch has one nearest, which is the one without antialias
        front = {"resize": {"mode": "shortest", "size": size}, "interpolation": name}
        ours = input_of(pixels, layout="NCHW", antialias=antialias and name != "nearest", **front)
        assert np.abs(ours.astype(int) - resized.numpy().astype(int)).max() <= (name != "nearest")


@settings(max_examples=60, deadline=None)
@given(shapes, shapes, st.sampled_from(["nearest", "bilinear", "bicubic"]), st.integers(0, 1 << 30))
def test_without_antialias_as_torch_interpolates(
    shape: tuple[int, int], size: tuple[int, int], name: str, seed: int
) -> None:
    import torch
    from torch.nn.functional import interpolate

    pixels = noise(seed, shape, 1)
    values = torch.from_numpy(pixels[None, None, ..., 0].astype(np.float32))
    aligned = {} if name == "nearest" else {"align_corners": False}
    expected = interpolate(values, size, mode=name, **aligned).clamp(0, 255)[0, 0].numpy()
    ours = preprocess.resample(pixels, *size, name, antialias=False)[..., 0]
    # the last bits of torch's sums depend on the processor; a half may then be rounded the other way
    assert np.abs(ours - expected).max() <= (0 if name == "nearest" else 0.5 + 1e-3)


def test_hugging_face_processors() -> None:
    try:
        from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil
    except ImportError as error:
        pytest.skip(f"needs transformers with Pillow processors: {error}")
    for shape in ((50, 71), (71, 50), (33, 33), (40, 200)):
        pixels = noise(18, shape, 3)
        for size, crop in (({"shortest_edge": 30}, 25), ({"shortest_edge": 21}, 32), ({"height": 20, "width": 35}, 20)):
            crop_size = {"height": crop, "width": crop}
            settings = {"size": size, "do_center_crop": True, "crop_size": crop_size}
            expected = ViTImageProcessorPil(**settings)(Image.fromarray(pixels), return_tensors="np")["pixel_values"][0]
            shortest = {"mode": "shortest", "size": size.get("shortest_edge")}
            stretch = {"mode": "stretch", "size": [size.get("height"), size.get("width")]}
            front = {"resize": shortest if "shortest_edge" in size else stretch, "crop": crop, "crop_offset": "down"}
            front |= {"scale": 1 / 255, "mean": [0.5], "std": [0.5], "layout": "NCHW"}
            np.testing.assert_allclose(input_of(pixels, **front), expected, rtol=0, atol=1e-6)


@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), st.tuples(st.integers(1, 64), st.integers(1, 64)))
@settings(max_examples=60, deadline=None)
def test_letterbox(shape: tuple[int, int], size: tuple[int, int]) -> None:
    """The whole image is there, centred to half a pixel, and the rest is the fill colour."""
    pixels = noise(20, shape, 3)
    boxed = input_of(pixels, resize={"mode": "letterbox", "size": list(size), "fill": 114})
    ratio = min(size[0] / shape[0], size[1] / shape[1])
    inner = max(1, round(shape[0] * ratio)), max(1, round(shape[1] * ratio))
    assert boxed.shape == (*size, 3) and (inner[0] == size[0] or inner[1] == size[1])
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    expected = np.full((*size, 3), 114, np.uint8)
    expected[top : top + inner[0], left : left + inner[1]] = preprocess.resample(pixels, *inner)
    np.testing.assert_array_equal(boxed, expected)


@given(st.tuples(st.integers(1, 90), st.integers(1, 90)), st.tuples(st.integers(1, 64), st.integers(1, 64)))
@settings(max_examples=60, deadline=None)
def test_letterbox_in_the_corner(shape: tuple[int, int], size: tuple[int, int]) -> None:
    """YOLOX' preproc: r = min(h / H, w / W), int(H * r) rows and int(W * r) columns from the upper left corner."""
    pixels = noise(20, shape, 3)
    boxed = input_of(pixels, resize={"mode": "letterbox-corner", "size": list(size), "fill": 114})
    ratio = min(size[0] / shape[0], size[1] / shape[1])
    inner = max(1, int(shape[0] * ratio)), max(1, int(shape[1] * ratio))
    expected = np.full((*size, 3), 114, np.uint8)
    expected[: inner[0], : inner[1]] = preprocess.resample(pixels, *inner)
    np.testing.assert_array_equal(boxed, expected)


# --- files that are not as they should be ----------------------------------------------------------------------------


def test_damaged_files_are_refused_in_one_line(tmp_path: Path) -> None:
    image = Image.fromarray(noise(22, (30, 40), 3))
    for format in ("png", "jpeg", "gif", "bmp", "webp", "tiff", "ppm"):
        whole = encoded(image, format).getvalue()
        for length in sorted({0, 1, 2, 5, 11, 20, 33, 50, 100, 300, len(whole) // 2}):
            with pytest.raises(ValueError) as refusal:
                preprocess.image(io.BytesIO(whole[:length]), {"resize": {"mode": "stretch", "size": 8}})
            assert str(refusal.value) and "\n" not in str(refusal.value)
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match="it is no image, or is damaged"):
        preprocess.image(tmp_path / "empty.png", {})
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(OSError, match=path.name):
            preprocess.image(path, {})


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["png", "jpeg", "gif", "webp", "tiff"]), st.integers(0, 1 << 30), st.integers(0, 255))
def test_a_changed_byte_gives_an_image_or_a_refusal(format: str, place: int, value: int) -> None:
    raw = bytearray(encoded(Image.fromarray(noise(24, (20, 30), 3)), format).getvalue())
    raw[place % len(raw)] = value
    try:
        preprocess.image(io.BytesIO(bytes(raw)), {"exif": True, "resize": {"mode": "stretch", "size": 4}})
    except ValueError as error:
        assert "\n" not in str(error)


def test_sixteen_bits_are_refused() -> None:
    for image in (Image.fromarray(np.zeros((3, 4), np.uint16)), Image.fromarray(np.zeros((3, 4), np.float32))):
        with pytest.raises(ValueError, match=r"more than 8 bits .*: save it as \.npz"):
            preprocess.image(encoded(image, "tiff"), {})


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ({"layout": "CHWN"}, "layout is NCHW, NHWC or NHW, not 'CHWN'"),
        ({"layout": "NHW", "colour": "RGB"}, "for gray images"),
        ({"colour": "CMYK"}, "colour is RGB, BGR or gray"),
        ({"channels": 4}, "1 or 3 channels, not 4"),
        ({"interpolation": "area", "height": 2, "width": 2}, "interpolation is box, .*, not 'area'"),
        ({"interpolation": "box", "antialias": False, "height": 2, "width": 2}, "without antialias is nearest"),
        (
            {"resize": {"mode": "fit", "size": 3}},
            "resize is stretch, shortest, .*corner, not 'fit'",
        ),
        ({"resize": {"mode": "stretch", "size": 0}}, "cannot be resized to 0x0"),
        ({"crop": 0}, "crop must be positive"),
        ({"mean": [1, 2]}, "mean has 2 values, and the input 3 channels"),
    ],
)
def test_a_signature_that_does_not_fit_is_refused(front: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        preprocess.image(noise(26, (4, 6), 3), front)


def test_arrays_that_are_no_images_are_refused() -> None:
    for array in (np.zeros((3, 4), np.float32), np.zeros((3, 4, 2), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(ValueError, match=r"an image is uint8|it is empty"):
            preprocess.image(array, {})


def test_without_pillow_netpbm_images_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    colour, gray = noise(28, (5, 7), 3), noise(28, (5, 7), 1)[..., 0]
    files = [(encoded(Image.fromarray(pixels), "ppm").getvalue(), pixels) for pixels in (colour, gray)]
    files.append((b"P5 # made by hand\n7#width\n5\n255\n" + gray.tobytes(), gray))
    (tmp_path / "a.ppm").write_bytes(files[0][0])
    monkeypatch.setitem(sys.modules, "PIL", None)
    for raw, pixels in files:
        np.testing.assert_array_equal(input_of(io.BytesIO(raw)), pixels.reshape(5, 7, -1))
    np.testing.assert_array_equal(input_of(tmp_path / "a.ppm"), colour)
    for raw, message in (
        (files[0][0][:-1], "truncated"),
        (b"P6\n0 5\n255\n", "empty"),
        (b"P5\n1 1\n65535\n\0\0", "8 bits"),
        (b"\x89PNG", "without Pillow only"),
        (b"", "without Pillow only"),
    ):
        with pytest.raises(ValueError, match=message):
            preprocess.image(io.BytesIO(raw), {})


def test_it_is_python_3_8_and_stands_alone() -> None:
    tree = ast.parse(Path(preprocess.__file__).read_text(), feature_version=(3, 8))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in imports if isinstance(node, ast.ImportFrom)}
    assert names - sys.stdlib_module_names == {"numpy", "PIL"}


# --- sounds ----------------------------------------------------------------------------------------------------------


def wav(values: NDArray[Any], rate: int, channels: int = 1) -> io.BytesIO:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(values.itemsize)
        writer.setframerate(rate)
        writer.writeframes(values.tobytes())
    file.seek(0)
    return file


def test_a_sound_is_mixed_cut_padded_and_normalized(tmp_path: Path) -> None:
    values = np.array([0, 16384, -32768, 32767], "<i2")
    np.testing.assert_array_equal(preprocess.sound(wav(values, 8000), {}), values / np.float32(32768))
    np.testing.assert_array_equal(preprocess.sound(wav(values, 8000, 2), {}), [0.25, np.float32(-1 / 65536)])
    (tmp_path / "a.wav").write_bytes(wav(values, 8000).getvalue())
    front = {"length": 6, "shape": [1, None], "scale": 2.0, "mean": [1.0], "std": [0.5]}
    ours = preprocess.sound(tmp_path / "a.wav", front)
    expected = (np.array([[0, 0.5, -1, 32767 / 32768, 0, 0]]) * 2 - 1) / 0.5
    np.testing.assert_allclose(ours, expected, atol=1e-6)
    assert ours.dtype == np.float32
    assert preprocess.sound(wav(values, 8000), {"seconds": 3 / 8000}).shape == (3,)
    assert preprocess.sound(wav(values, 8000), {"shape": [1, 1, 9]}).shape == (1, 1, 9)
    eight = np.array([0, 128, 255], np.uint8)
    np.testing.assert_allclose(preprocess.sound(wav(eight, 8000), {}), [-1, 0, 127 / 128])


def test_a_sound_gets_the_models_rate() -> None:
    seconds = np.arange(8000) / 8000
    tone = (np.sin(2 * np.pi * 440 * seconds) * 20000).astype("<i2")
    ours = preprocess.sound(wav(tone, 8000), {"rate": 16000, "seconds": 1.0})
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000) * 20000 / 32768
    np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_sounds_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    whole = wav(np.zeros(100, "<i2"), 8000).getvalue()
    for length in (0, 3, 11, 20, 43):
        with pytest.raises(ValueError):
            preprocess.sound(io.BytesIO(whole[:length]), {})
    for file, front, message in (
        (wav(np.zeros(0, "<i2"), 8000), {}, "no samples"),
        (io.BytesIO(b"P6 1 1 255 abc" * 9), {}, "no WAV file"),
        (io.BytesIO(whole), {"shape": [2, 50]}, "one axis"),
        (io.BytesIO(whole), {"shape": [1, 50], "length": 60}, "takes 50 samples"),
    ):
        with pytest.raises(ValueError, match=message):
            preprocess.sound(file, front)
    with pytest.raises(FileNotFoundError):
        preprocess.sound(tmp_path / "none.wav", {})


# --- in C ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("needs a C compiler: sudo apt install gcc libc6-dev")
    built = tmp_path_factory.mktemp("preprocess") / "preprocess"
    warnings = ("-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
    checks = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
    source = Path(__file__).with_name("preprocess.c")
    command = ["gcc", "-std=c99", "-O2", *warnings, *checks, f"-I{NATIVE}", str(source), "-o", str(built), "-lm"]
    subprocess.run(command, check=True)
    return built


def in_c(program: Path, folder: Path, pixels: Pixels, front: dict[str, Any]) -> NDArray[Any]:
    """What the program makes of the image, in the model's layout."""
    as_pillow(pixels).save(folder / "in.ppm")
    resize = front.get("resize") or {"mode": "keep", "size": 0}
    pairs = [value if isinstance(value, list) else [value, value] for value in (resize["size"], front.get("crop", 0))]
    colour, layout = front.get("colour", ""), front.get("layout", "NCHW")
    channels = front.get("channels") or {"gray": 1, "RGB": 3, "BGR": 3, "": 0}[colour]
    mean, std = front.get("mean", []), front.get("std", [])
    words: list[Any] = [channels, colour == "gray", colour == "BGR", layout == "NHWC", MODES.index(resize["mode"])]
    words += [*pairs[0], resize.get("fill", 0), *pairs[1], front.get("crop_offset") == "down"]
    words += [FILTERS.index(front["interpolation"]), front.get("antialias", True), front.get("scale", 1.0)]
    words += [len(mean), *mean, len(std), *std]
    numbers = [repr(float(word)) for word in words]
    run = subprocess.run([program, folder / "in.ppm", folder / "out", *numbers], capture_output=True, text=True)
    if run.returncode:
        raise ValueError(run.stderr.strip())
    height, width, channels = map(int, run.stdout.split())
    shape = (channels, height, width) if layout == "NCHW" else (height, width, channels)
    dtype = np.float32 if front.get("scale", 1.0) != 1.0 or mean or std else np.uint8
    return np.fromfile(folder / "out", dtype).reshape(shape)


small = st.integers(1, 70)
pairs = st.tuples(small, small).map(list)
resizes = st.one_of(
    st.none(),
    st.fixed_dictionaries({"mode": st.just("stretch"), "size": pairs}),
    st.fixed_dictionaries({"mode": st.just("shortest"), "size": small}),
    st.fixed_dictionaries(
        {"mode": st.sampled_from(["letterbox", "letterbox-corner"]), "size": pairs, "fill": st.integers(0, 255)}
    ),
)
fronts = st.fixed_dictionaries(
    {
        "resize": resizes,
        "interpolation": st.sampled_from(FILTERS),
        "layout": st.sampled_from(["NCHW", "NHWC"]),
        "colour": st.sampled_from(["", "RGB", "BGR", "gray"]),
    },
    optional={
        "crop": pairs,
        "crop_offset": st.sampled_from(["even", "down"]),
        "channels": st.sampled_from([1, 3]),
        "antialias": st.booleans(),
        "scale": st.sampled_from([1 / 255, 2.0, 0.0078125]),
    },
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.tuples(small, small), channels=st.sampled_from([1, 3]), front=fronts, many=st.booleans())
def test_c_gives_the_same_bits(
    program: Path, tmp_path: Path, shape: tuple[int, int], channels: int, front: dict[str, Any], many: bool
) -> None:
    if front.get("antialias") is False:
        assume(front["interpolation"] in ("nearest", "bilinear", "bicubic"))
    pixels = noise(sum(shape), shape, channels)
    plain = {key: value for key, value in front.items() if key != "scale"}
    expected = preprocess.image(pixels[..., 0] if channels == 1 else pixels, plain)
    np.testing.assert_array_equal(in_c(program, tmp_path, pixels, plain), expected)
    if "scale" in front:
        count = expected.shape[0 if front["layout"] == "NCHW" else 2] if many else 1
        front = {**front, "mean": IMAGENET["mean"][:count], "std": IMAGENET["std"][:count]}
        values = preprocess.image(pixels[..., 0] if channels == 1 else pixels, front)
        np.testing.assert_allclose(in_c(program, tmp_path, pixels, front), values, rtol=1e-6, atol=1e-6)


def test_c_refuses_what_is_no_image(program: Path, tmp_path: Path) -> None:
    def run(raw: bytes) -> subprocess.CompletedProcess[str]:
        (tmp_path / "in.ppm").write_bytes(raw)
        words = [program, tmp_path / "in.ppm", tmp_path / "out", *("0" * 14), "1", "0", "0"]
        environment = {"ASAN_OPTIONS": "allocator_may_return_null=1"}
        return subprocess.run(words, capture_output=True, text=True, env=environment)

    assert run(b"P5 # a comment\n2#width\n2\n255\nabcd").returncode == 0
    for raw, message in (
        (b"", "only .pgm and .ppm"),
        (b"P6 2 2 255 abc", "truncated"),
        (b"P6 0 2 255 ", "empty"),
        (b"P6 99999999999 2 255 ", "size"),
        (b"P6 1048576 1048576 255 ", "memory|truncated"),
        (b"P5 2 2 65535 abcdefgh", "8 bits"),
        (b"P5 2", "only .pgm"),
    ):
        ended = run(raw)
        assert ended.returncode == 1 and re.search(message, ended.stderr)
