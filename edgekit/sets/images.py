"""Images: a folder of them by class, or one file, as the model takes them, decoded by Pillow with bicubic resizing.

They stay uint8 in raw units (0 to 255) unless scale, mean or std are given. Resizing does not keep the aspect ratio:
crop images before. EXIF rotation is not applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError, Missing
from edgekit.sets.folder import Folder
from edgekit.sets.options import Options
from edgekit.sets.reading import UnreadableSample

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp", ".tif", ".tiff")


def read(path: Path, options: Options, model_inputs: Sequence[TensorSpec]) -> Folder:
    """A folder of images. Raises InputError, Missing."""
    decoder = ImageDecoder(str(path), options, model_inputs)
    return Folder(path, SUFFIXES, lambda file: {decoder.input: decoder(file, str(file))})


class ImageDecoder:
    """Decodes image files to arrays of one shape: (C, H, W), (H, W, C), or (H, W) if the model's input has no channels.

    If neither the options nor the model's input fix size and channels, the first image does. `input` is the input's
    name. Raises InputError if no input takes images, Missing.
    """

    def __init__(self, name: str, options: Options, model_inputs: Sequence[TensorSpec]) -> None:
        try:
            import PIL.Image  # noqa: F401
        except ImportError as error:
            raise Missing.install("reading images", "pillow", "images") from error
        spec = _image_input(model_inputs, name)
        self._name, self._options = name, options
        self.input = spec.name if spec else "input"
        self._layout = options.layout or _layout(spec)
        channels, height, width = _sizes(spec, self._layout)
        self._channels = options.channels or channels
        self._convert = bool(self._channels)
        self._height, self._width = options.height_width if options.size else (height, width)
        self._resize = bool(self._height and self._width)
        self._first_name = ""

    def __call__(self, file: Path | IO[bytes], name: str) -> NDArray[Any]:
        """One image; `name` is for messages. Raises UnreadableSample, or InputError if size or channels differ."""
        from PIL import Image

        try:
            with Image.open(file) as image:
                if image.mode.startswith(("I", "F")):
                    raise UnreadableSample(f"it has more than 8 bits ({image.mode}): save it as .npz")
                gray = image.mode in ("1", "L", "LA")
                self._check_size(name, 1 if gray else 3, image.size)
                converted = image.convert("L" if self._channels == 1 else "RGB")
                if self._resize:
                    converted = converted.resize((self._width, self._height))
                array = np.asarray(converted)
        except (OSError, SyntaxError, ValueError, EOFError, ArithmeticError, Image.DecompressionBombError) as error:
            raise UnreadableSample(str(error).partition("\n")[0] or "it is damaged") from error
        if self._layout == "nhw":
            return normalize(array, self._options, None)
        array = array[..., None] if array.ndim == 2 else array
        array = array if self._layout == "nhwc" else array.transpose(2, 0, 1)
        return normalize(array, self._options, -1 if self._layout == "nhwc" else 0)

    def _check_size(self, name: str, channels: int, size: tuple[int, int]) -> None:
        """The first image sets what is not specified; the others must match it."""
        width, height = size
        if not self._first_name:
            self._first_name = name
            self._channels = self._channels or channels
            if not self._resize:
                self._height, self._width = height, width
        if not self._resize and (height, width) != (self._height, self._width):
            sizes = f"{self._first_name} is {self._height}x{self._width}, {name} is {height}x{width} (height x width)"
            what = f"the images of {self._name} differ in size"
            raise InputError(what, sizes, f"set a size: '{self._name}?size={self._height}x{self._width}'")
        if channels > self._channels and not self._convert:
            what = f"{self._name} holds both gray and colour images"
            why = f"{self._first_name} is gray, {name} is not"
            raise InputError(what, why, f"choose one: '{self._name}?channels=1', or channels=3")


def shape_for(spec: TensorSpec, options: Options) -> dict[str, Any] | None:
    """Layout, channels, height and width of an image for this input; None if it takes no images, or if one of them is
    not specified."""
    try:
        layout = options.layout or _layout(spec)
        channels, height, width = _sizes(spec, layout)
    except InputError:
        return None
    height, width = options.height_width if options.size else (height, width)
    channels = options.channels or channels
    shape = {"layout": layout, "channels": channels, "height": height, "width": width}
    return shape if channels and height and width else None


def normalize(array: NDArray[Any], options: Options, axis: int | None) -> NDArray[Any]:
    """(x / scale - mean) / std as float32, with the channels at `axis`; the unchanged array if none is given."""
    if not options.normalizes:
        return array

    def per_channel(values: Sequence[float], default: float) -> NDArray[np.float32]:
        constants = np.array(values or [default], np.float32)
        channels = 1 if axis is None else array.shape[axis]
        if len(constants) not in (1, channels):
            what = f"mean and std hold {len(constants)} values"
            raise InputError(what, f"the samples have {channels} channels", "give one value, or one per channel")
        shape = [1] * array.ndim
        if axis is not None:
            shape[axis] = len(constants)
        return constants.reshape(shape)

    scaled = array.astype(np.float32) / np.float32(options.scale)
    return (scaled - per_channel(options.mean, 0.0)) / per_channel(options.std, 1.0)


def _image_input(model_inputs: Sequence[TensorSpec], name: str) -> TensorSpec | None:
    """The model's input that takes images; None without a model."""
    if not model_inputs:
        return None
    if len(model_inputs) == 1 and len(model_inputs[0].shape) in (3, 4):
        return model_inputs[0]
    accepted = ", ".join(map(str, model_inputs))
    raise InputError(f"{name} holds images", f"the model takes {accepted}", "use an .npz with one array per input")


def _layout(spec: TensorSpec | None) -> str:
    """nhw without a channel axis; of nchw and nhwc the one with 1 or 3 channels, nchw if both or neither."""
    if spec is None:
        return "nchw"
    if len(spec.shape) == 3:
        return "nhw"
    return "nhwc" if spec.shape[3] in (1, 3) and spec.shape[1] not in (1, 3) else "nchw"


def _sizes(spec: TensorSpec | None, layout: str) -> tuple[int, int, int]:
    """(channels, height, width) of the model's input, 0 for dynamic axes."""
    if spec is None:
        return 0, 0, 0
    if layout == "nhw":
        return 1, spec.shape[1] or 0, spec.shape[2] or 0
    channels, height, width = (spec.shape[axis] or 0 for axis in ((1, 2, 3) if layout == "nchw" else (3, 1, 2)))
    if channels not in (0, 1, 3):
        raise InputError(f"the model takes {spec}", "an image has 1 or 3 channels", "use an .npz")
    return channels, height, width
