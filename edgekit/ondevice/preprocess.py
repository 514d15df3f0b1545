"""Turn an image or a sound file into a model's input: the one implementation, for the host and for devices.

Python 3.8 and numpy. Pillow, if it is installed, decodes the images; without it, 8-bit PGM and PPM files are read.
`front` is a dictionary: the model's input signature as plain values (edgekit/core/signature.py documents the keys; a
missing key has its default there). The model sees (x * scale - mean) / std. `native/preprocess.h` is the same in C.

Images are resized here and not by Pillow, so that the result does not depend on what is installed.
"""

import functools
import math
import re
import wave

import numpy as np

# Of the filters' coefficients, as in Pillow's Resample.c: 32 bits, less 8 of the result and 2 for overshoot.
PRECISION_BITS = 32 - 8 - 2
# Output pixels that are computed by one matrix product, and values that are converted to float64 at once.
BLOCK, STRIP = 16, 1 << 17


def image(source, front):
    """An image as one sample: (C, H, W), (H, W, C) or (H, W), as `layout` says (NCHW if it says nothing).

    `source`: a path, a binary file, or an uint8 array (H, W), gray, or (H, W, 3), red, green, blue. The sample is uint8
    if there is no scale, mean or std, else float32.

    Keys in addition to those of the signature: `channels`, 1 or 3 (gray is replicated, colour becomes gray by ITU-R
    BT.601 as Pillow does it), and `height` and `width` in pixels, as the model takes them. Without resize and crop the
    image is stretched to them; with one of these, another size is an error. `mean` and `std` are in the order of
    the model's channels: blue, green, red if `colour` is BGR.

    Order: decode, rotate by EXIF, convert the colours, resize, crop, reorder the channels, normalize. Raises OSError if
    the file cannot be opened, ValueError if it is no image, is damaged, or does not fit `front`.
    """
    layout, channels = front.get("layout") or "NCHW", _channels(front)
    if layout not in ("NCHW", "NHWC", "NHW"):
        raise ValueError("layout is NCHW, NHWC or NHW, not %r" % (layout,))
    if layout == "NHW" and channels == 3:
        raise ValueError("a layout without channels (NHW) is for gray images")
    gray = layout == "NHW" or channels == 1 or front.get("colour") == "gray"
    exif = bool(front.get("exif"))
    decoded = _checked(source) if isinstance(source, np.ndarray) else _decoded(source, exif, gray)
    pixels = _gray(decoded) if gray and decoded.ndim == 3 else decoded
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    pixels = _cropped(_resized(pixels, front), front)
    _check_size(pixels, front)
    if channels == 3 and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, axis=2)
    values = normalized(pixels[..., ::-1] if front.get("colour") == "BGR" else pixels, front)
    if layout == "NHW":
        return np.ascontiguousarray(values[..., 0])
    return np.ascontiguousarray(values if layout == "NHWC" else values.transpose(2, 0, 1))


def sound(source, front):
    """A WAV file of 8, 16 or 32 bits, mixed to mono, from -1 to 1, as float32 in the shape of one sample.

    `source` is a path or a binary file. Keys: `rate` in Hz (0: as it is; otherwise band-limited resampling: the
    spectrum is truncated or zero-padded); `length` in samples or `seconds`, to which it is cropped or zero-padded at
    its end (0: as it is); `shape`: that of a sample, with at most one axis that is not 1, the samples; `scale`, `mean`,
    `std`. Raises OSError if the file cannot be opened, ValueError if it is no such file.
    """
    values, rate = _wav(source)
    new_rate = front.get("rate") or rate
    if new_rate != rate:
        count = max(1, round(len(values) * new_rate / float(rate)))
        spectrum = np.fft.rfft(values)[: count // 2 + 1]
        values = (np.fft.irfft(spectrum, count) * (count / float(len(values)))).astype(np.float32)
    shape = front.get("shape") or [None]
    if sum(size != 1 for size in shape) > 1:
        raise ValueError("a sound has one axis, and the model's input is %s" % "x".join(map(str, shape)))
    fixed = max([size or 0 for size in shape if size != 1], default=1)
    length = front.get("length") or round((front.get("seconds") or 0) * new_rate) or max(fixed, 0) or len(values)
    values = np.pad(values[:length], (0, max(0, length - len(values))))
    if fixed > 0 and fixed != length:
        raise ValueError("the model takes %d samples, and the sound is set to %d" % (fixed, length))
    return normalized(values.reshape([1 if size == 1 else length for size in shape]), front)


def image_size(source, front):
    """(height, width) of an image file in pixels, turned as `image` turns it. Raises OSError, ValueError."""
    return _decoded(source, bool(front.get("exif")), False).shape[:2]


# --- files -----------------------------------------------------------------------------------------------------------


def _decoded(source, exif, gray):
    """(H, W) or (H, W, 3) uint8; Pillow makes `gray` from what the file holds, as its luma."""
    try:
        from PIL import Image, ImageOps, UnidentifiedImageError
    except ImportError:
        return _netpbm(source)
    try:
        with Image.open(source) as opened:
            if opened.mode.startswith(("I", "F")):
                raise ValueError("it has more than 8 bits (%s): save it as .npz" % opened.mode)
            upright = ImageOps.exif_transpose(opened) if exif else opened
            gray = gray or upright.mode in ("1", "L", "LA", "La")
            return np.array(upright.convert("L" if gray else "RGB"))
    except UnidentifiedImageError:
        raise ValueError("it is no image, or is damaged") from None
    except MemoryError:
        raise
    except Exception as error:  # Pillow's decoders raise what they please on damaged files
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise ValueError(" ".join(str(error).split())[:200] or "it is damaged") from error


def _netpbm(source):
    """An 8-bit binary PGM or PPM file (netpbm's pgm(5), ppm(5)): (H, W) or (H, W, 3)."""
    raw = _bytes(source)
    head = re.match(rb"(P[56])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+255\s", raw)
    if not head:
        raise ValueError("without Pillow only .pgm and .ppm images of 8 bits can be read")
    width, height, channels = int(head.group(2)), int(head.group(3)), 3 if head.group(1) == b"P6" else 1
    if not width or not height:
        raise ValueError("it is empty")
    if len(raw) - head.end() < width * height * channels:
        raise ValueError("it is truncated")
    values = np.frombuffer(raw, np.uint8, width * height * channels, head.end())
    return values.reshape((height, width, 3) if channels == 3 else (height, width))


def _bytes(source):
    if hasattr(source, "read"):
        return source.read()
    with open(source, "rb") as file:
        return file.read()


def _checked(array):
    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        raise ValueError("an image is uint8 (H, W) or (H, W, 3), not %s %s" % (array.dtype, array.shape))
    if not array.size:
        raise ValueError("it is empty")
    return array


def _wav(source):
    """Samples (N,) float32 in [-1, 1], and the rate in Hz."""
    file = source if hasattr(source, "read") else open(source, "rb")  # noqa: SIM115
    try:
        with wave.open(file, "rb") as opened:
            rate, width, channels = opened.getframerate(), opened.getsampwidth(), opened.getnchannels()
            raw = opened.readframes(opened.getnframes())
    except (wave.Error, EOFError) as error:
        raise ValueError("it is no WAV file of integers, or is damaged (%s)" % (error or "truncated")) from error
    finally:
        if file is not source:
            file.close()
    if width not in (1, 2, 4):
        raise ValueError("it has %d bits per sample: 8, 16 or 32 are supported" % (8 * width))
    frames = len(raw) // (width * channels)
    if not frames or rate < 1:
        raise ValueError("it holds no samples")
    values = np.frombuffer(raw[: frames * width * channels], {1: "u1", 2: "<i2", 4: "<i4"}[width]).astype(np.float32)
    values = (values - 128) / 128 if width == 1 else values / float(1 << (8 * width - 1))
    return values.reshape(-1, channels).mean(axis=1, dtype=np.float32), rate


# --- values ----------------------------------------------------------------------------------------------------------


def _channels(front):
    """1 or 3, or 0: as the image has them."""
    by_colour = {"": 0, "gray": 1, "RGB": 3, "BGR": 3}
    colour = front.get("colour") or ""
    if colour not in by_colour:
        raise ValueError("colour is RGB, BGR or gray, not %r" % (colour,))
    channels = front.get("channels") or by_colour[colour]
    if channels not in (0, 1, 3):
        raise ValueError("an image has 1 or 3 channels, not %s" % channels)
    return channels


def _gray(pixels):
    """(H, W, 3) to (H, W): luma of ITU-R BT.601 in fixed point, as Pillow's convert("L")."""
    luma = pixels[..., 0] * np.uint32(19595)
    luma += pixels[..., 1] * np.uint32(38470)
    luma += pixels[..., 2] * np.uint32(7471)
    return ((luma + 0x8000) >> 16).astype(np.uint8)


def normalized(array, front):
    """(x * scale - mean) / std as float32, channels last for an image; the array unchanged if none of these is set."""
    scale, mean, std = front.get("scale", 1.0), front.get("mean") or (), front.get("std") or ()
    if scale == 1.0 and not len(mean) and not len(std):
        return array
    for name, constants in (("mean", mean), ("std", std)):
        if len(constants) > 1 and len(constants) != array.shape[-1]:
            raise ValueError("%s has %d values, and the input %d channels" % (name, len(constants), array.shape[-1]))
    values = array.astype(np.float32)
    values *= np.float32(scale)
    if len(mean):
        values = values - np.array(mean, np.float32)
    return values / np.array(std, np.float32) if len(std) else values


# --- geometry --------------------------------------------------------------------------------------------------------


def _pair(size):
    """(height, width); one number is a square."""
    return (int(size), int(size)) if not isinstance(size, (list, tuple)) else (int(size[0]), int(size[1]))


def _resized(pixels, front):
    how, size = front.get("resize"), (front.get("height"), front.get("width"))
    if not how:
        whole = front.get("crop") is None and size[0] and size[1]
        return resample(pixels, *_pair(size), **_filter(front)) if whole else pixels
    if how["mode"] == "stretch":
        return resample(pixels, *_pair(how["size"]), **_filter(front))
    if how["mode"] == "shortest":
        return resample(pixels, *_shortest(pixels.shape, _pair(how["size"])[0]), **_filter(front))
    if how["mode"] in ("letterbox", "letterbox-corner"):
        return _letterboxed(pixels, how, _filter(front))
    raise ValueError("resize is stretch, shortest, letterbox or letterbox-corner, not %r" % (how["mode"],))


def placement(front, height, width):
    """Where an image of this size lies in the model's input: (scale_y, scale_x, top, left), in pixels.

    A point (y, x) of the image is at (y * scale_y + top, x * scale_x + left) of the input.
    """
    how, size = front.get("resize"), (front.get("height"), front.get("width"))
    inner, top, left = (height, width), 0, 0
    if not how:
        whole = front.get("crop") is None and size[0] and size[1]
        inner = _pair(size) if whole else inner
    elif how["mode"] == "stretch":
        inner = _pair(how["size"])
    elif how["mode"] == "shortest":
        inner = _shortest((height, width), _pair(how["size"])[0])
    else:
        inner, top, left = _letterbox(height, width, how)
    if front.get("crop") is not None:
        down = front.get("crop_offset", "even") == "down"
        (y, to_y, _), (x, to_x, _) = (_span(whole, part, down) for whole, part in zip(inner, _pair(front["crop"])))
        top, left = top + to_y - y, left + to_x - x
    return inner[0] / float(height), inner[1] / float(width), top, left


def _filter(front):
    return {"interpolation": front.get("interpolation", "bilinear"), "antialias": front.get("antialias", True)}


def _shortest(shape, size):
    """(height, width) with the shorter side `size`; the longer one is rounded down, as by torchvision's Resize."""
    height, width = shape[:2]
    if height <= width:
        return size, int(size * width / height)
    return int(size * height / width), size


def _letterboxed(pixels, how, interpolation):
    inner, top, left = _letterbox(pixels.shape[0], pixels.shape[1], how)
    result = np.full(_pair(how["size"]) + pixels.shape[2:], round(how.get("fill", 0.0)), np.uint8)
    result[top : top + inner[0], left : left + inner[1]] = resample(pixels, *inner, **interpolation)
    return result


def _letterbox(height, width, how):
    """(height, width), top and left of the image. `letterbox`, as Ultralytics' LetterBox: the sides are rounded half to
    even, half a pixel goes to the bottom and the right. `letterbox-corner`, as YOLOX' preproc: rounded down."""
    size = _pair(how["size"])
    ratio = min(size[0] / height, size[1] / width)
    if how["mode"] == "letterbox-corner":
        return (max(1, int(height * ratio)), max(1, int(width * ratio))), 0, 0
    inner = max(1, round(height * ratio)), max(1, round(width * ratio))
    top, left = (round((whole - part) / 2 - 0.1) for whole, part in zip(size, inner))
    return inner, top, left


def _cropped(pixels, front):
    """The centre, with zeros around an image that is smaller, as torchvision's CenterCrop or Hugging Face's."""
    crop, down = front.get("crop"), front.get("crop_offset", "even") == "down"
    if crop is None:
        return pixels
    size = _pair(crop)
    if min(size) < 1:
        raise ValueError("crop must be positive")
    result = np.zeros(size + pixels.shape[2:], np.uint8)
    spans = [_span(whole, part, down) for whole, part in zip(pixels.shape, size)]
    (y, top, height), (x, left, width) = spans
    result[top : top + height, left : left + width] = pixels[y : y + height, x : x + width]
    return result


def _span(whole, part, down):
    """Along one axis: the first pixel that is taken, where it goes, and how many."""
    if part <= whole:
        return ((whole - part) // 2 if down else round((whole - part) / 2.0)), 0, part
    return 0, (part - whole + 1 if down else part - whole) // 2, whole


def _check_size(pixels, front):
    for name, got in zip(("height", "width"), pixels.shape):
        if front.get(name) and front[name] != got:
            height, width = pixels.shape[:2]
            raise ValueError(
                "it becomes %dx%d (height x width), and %s must be %d" % (height, width, name, front[name])
            )


# --- resampling ------------------------------------------------------------------------------------------------------


def resample(pixels, height, width, interpolation="bilinear", antialias=True):
    """An image (H, W, C) of uint8, resized to (height, width, C).

    With `antialias` the result is that of Pillow 13's Image.resize to the bit (filters nearest, box, bilinear, hamming,
    bicubic, lanczos); Pillow before 13 made the horizontal pass first in every case (`_passes`). Without, bilinear,
    bicubic and nearest are those of torch.nn.functional.interpolate with align_corners=False in float32, rounded half
    to even. Raises ValueError.
    """
    if min(height, width) < 1:
        raise ValueError("an image of %dx%d cannot be resized to %dx%d" % (pixels.shape[:2] + (height, width)))
    known = tuple(_FILTERS) + ("nearest",) if antialias else ("nearest", "bilinear", "bicubic")
    if interpolation not in known:
        missing = "" if antialias else " without antialias"
        raise ValueError("interpolation%s is %s, not %r" % (missing, ", ".join(known), interpolation))
    if pixels.shape[:2] == (height, width):
        return pixels
    if interpolation == "nearest":
        nearest = _pillow_nearest if antialias else torch_nearest
        return pixels[nearest(pixels.shape[0], height)][:, nearest(pixels.shape[1], width)]
    if not antialias:
        return _interpolated(pixels, height, width, interpolation)
    for axis in _passes(pixels.shape, height, width):
        pixels = _filtered(pixels, (height, width)[axis], interpolation, axis)
    return pixels


def _passes(shape, height, width):
    """The order of the axes. The result of the first pass is rounded, so the order can be seen in the result."""
    return (0, 1) if shape[0] - height > max(0, 2 * (shape[1] - width)) else (1, 0)


def _filtered(pixels, count, interpolation, axis):
    """One pass of Pillow's: `axis` gets `count` pixels."""
    if pixels.shape[axis] == count:
        return pixels
    blocks = _blocks(pixels.shape[axis], count, interpolation)
    if axis == 0:
        flat = pixels.reshape(len(pixels), -1)
        result = np.empty((count, flat.shape[1]), np.uint8)
        _multiply(flat, blocks, result)
        return result.reshape((count,) + pixels.shape[1:])
    result = np.empty((pixels.shape[0], count, pixels.shape[2]), np.uint8)
    for channel in range(pixels.shape[2]):
        _multiply(pixels[..., channel].T, blocks, result[..., channel].T)
    return result


def _multiply(columns, blocks, result):
    """Weighted sums of rows. Integers below 2**53 in float64: exact, whatever the order of BLAS.

    In strips of columns, through one buffer that stays in the cache.
    """
    width = max(16, STRIP // len(columns))
    values = np.empty_like(columns[:, :width], np.float64)  # in the memory order of the columns
    sums = np.empty((len(result), values.shape[1]))
    for left in range(0, columns.shape[1], width):
        strip = columns[:, left : left + width]
        count = strip.shape[1]
        values[:, :count] = strip
        for start, first, weights in blocks:
            rows = values[first : first + weights.shape[1], :count]
            np.matmul(weights, rows, out=sums[start : start + len(weights), :count])
        sums += 1 << (PRECISION_BITS - 1)
        sums *= 2.0**-PRECISION_BITS
        result[:, left : left + count] = np.clip(sums, 0, 255, out=sums)[:, :count]


@functools.lru_cache(maxsize=4)
def _blocks(size, count, interpolation):
    """The resampling as a banded matrix, in dense blocks: (first output, first input, weights (outputs, inputs))."""
    first, weights = _coefficients(size, count, interpolation)
    taps, blocks = weights.shape[1], []
    for start in range(0, count, BLOCK):
        firsts = first[start : start + BLOCK]
        base = firsts[0]
        dense = np.zeros((len(firsts), firsts[-1] - base + taps))
        columns = firsts[:, None] - base + np.arange(taps)
        dense[np.arange(len(firsts))[:, None], columns] = weights[start : start + BLOCK]
        blocks.append((start, int(base), dense[:, : size - base]))
    return blocks


def _coefficients(size, count, interpolation):
    """First input pixel (count,) and fixed-point weights (count, taps) for each output pixel.

    The operations and their order are those of Pillow's Resample.c (precompute_coeffs and normalize_coeffs_8bpc): the
    weights are equal to the bit.
    """
    function, support = _FILTERS[interpolation]
    scale = size / count
    widened = max(scale, 1.0)
    support *= widened
    centre = (np.arange(count) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    end = np.minimum((centre + support + 0.5).astype(np.int64), size)
    taps = np.arange((end - first).max())
    weights = function((taps + first[:, None] - centre[:, None] + 0.5) * (1.0 / widened))
    weights[taps >= (end - first)[:, None]] = 0.0
    total = np.cumsum(weights, axis=1)[:, -1:]  # sum() would add in pairs
    weights /= np.where(total == 0.0, 1.0, total)
    return first, np.trunc(weights * (1 << PRECISION_BITS) + np.where(weights < 0, -0.5, 0.5))


def _box(x):
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _bilinear(x):
    return np.maximum(1.0 - np.abs(x), 0.0)


def _hamming(x):
    x = np.abs(x)
    angle = np.where(x == 0.0, 1.0, x) * math.pi
    window = float(np.float32(0.54)) + float(np.float32(0.46)) * _each(math.cos, angle)
    return np.where(x == 0.0, 1.0, np.where(x >= 1.0, 0.0, _each(math.sin, angle) / angle * window))


def _bicubic(x):
    x = np.abs(x)
    near = ((-0.5 + 2.0) * x - (-0.5 + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * -0.5
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _lanczos(x):
    return np.where((x >= -3.0) & (x < 3.0), _sinc(x) * _sinc(x / 3), 0.0)


def _sinc(x):
    angle = np.where(x == 0.0, 1.0, x) * math.pi
    return np.where(x == 0.0, 1.0, _each(math.sin, angle) / angle)


def _each(function, values):
    """By the C library, as Pillow does: numpy's own sine may differ in the last bit."""
    return np.array([function(value) for value in values.ravel()]).reshape(values.shape)


# name → the filter and its support in pixels
_FILTERS = {
    "box": (_box, 0.5),
    "bilinear": (_bilinear, 1.0),
    "hamming": (_hamming, 1.0),
    "bicubic": (_bicubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}


def _pillow_nearest(size, count):
    """The pixel under each centre; the positions are summed up, as in ImagingScaleAffine of Pillow's Geometry.c."""
    steps = np.full(count, size / count)
    steps[0] *= 0.5
    return np.minimum(np.cumsum(steps).astype(np.int64), size - 1)


def torch_nearest(size, count):
    """The pixel under each upper left corner, in float32 as torch's `nearest`."""
    scale = np.float32(size) / np.float32(count)
    return np.minimum((np.arange(count, dtype=np.float32) * scale).astype(np.int64), size - 1)


def _interpolated(pixels, height, width, interpolation):
    indexes, weights = torch_taps(pixels.shape[1], width, interpolation)
    values = sum(pixels[:, index] * weight[:, None] for index, weight in zip(indexes, weights))
    indexes, weights = torch_taps(pixels.shape[0], height, interpolation)
    values = sum(values[index] * weight[:, None, None] for index, weight in zip(indexes, weights))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def torch_taps(size, count, interpolation):
    """Indexes and float32 weights (taps, count), as in ATen/native/UpSample.h."""
    if size == count:
        return [np.arange(count)], [np.ones(count, np.float32)]
    scale, half, one = np.float32(size) / np.float32(count), np.float32(0.5), np.float32(1)
    place = scale * (np.arange(count, dtype=np.float32) + half) - half
    if interpolation == "bilinear":
        place = np.maximum(place, np.float32(0))
        low = np.minimum(place.astype(np.int64), size - 1)
        share = place - low.astype(np.float32)
        return [low, np.minimum(low + 1, size - 1)], [one - share, share]
    low = np.floor(place)
    share = place - low
    weights = [_cubic_far(share + one), _cubic_near(share), _cubic_near(one - share), _cubic_far(one - share + one)]
    return [np.clip(low.astype(np.int64) + tap, 0, size - 1) for tap in (-1, 0, 1, 2)], weights


def _cubic_near(x):
    """Cubic convolution with a = -0.75, to 1 pixel; every constant is exact in float32."""
    return (np.float32(1.25) * x - np.float32(2.25)) * x * x + np.float32(1)


def _cubic_far(x):
    """From 1 to 2 pixels."""
    return ((np.float32(-0.75) * x - np.float32(-3.75)) * x + np.float32(-6)) * x - np.float32(-3)
