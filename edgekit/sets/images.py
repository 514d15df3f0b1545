"""Images: a folder of them by class, or one file, as the model takes them. Decoded by Pillow, resized bicubically.

They stay uint8 in raw units (0 to 255) unless scale, mean or std say otherwise. Resizing stretches: what was to be
cropped must be cropped before. The rotation that a camera notes in EXIF is not applied.
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


def read(path: Path, options: Options, like: Sequence[TensorSpec]) -> Folder:
    """A folder of images. Raises InputError, Missing."""
    picture = Picture(str(path), options, like)
    return Folder(path, SUFFIXES, lambda file: {picture.input: picture(file, str(file))})


class Picture:
    """Decodes image files to arrays of one shape: (C, H, W), (H, W, C), or (H, W) where the model takes no channels.

    What neither the options nor the model's input fixes, the first image does. `input` is that input's name. Raises
    InputError where no input takes images, Missing.
    """

    def __init__(self, name: str, options: Options, like: Sequence[TensorSpec]) -> None:
        try:
            import PIL.Image  # noqa: F401
        except ImportError as error:
            raise Missing.install("reading images", "pillow", "images") from error
        spec = _taking(like, name)
        self._name, self._options = name, options
        self.input = spec.name if spec else "input"
        self._layout = options.layout or _layout(spec)
        channels, height, width = _sizes(spec, self._layout)
        self._channels = options.channels or channels
        self._convert = bool(self._channels)
        self._height, self._width = options.height_width if options.size else (height, width)
        self._resize = bool(self._height and self._width)
        self._first = ""

    def __call__(self, file: Path | IO[bytes], name: str) -> NDArray[Any]:
        """One image; `name` is for people. Raises Corrupt, or InputError where images differ and may not."""
        from PIL import Image

        try:
            with Image.open(file) as image:
                if image.mode.startswith(("I", "F")):
                    raise UnreadableSample(f"it has more than 8 bits ({image.mode}): save it as .npz")
                gray = image.mode in ("1", "L", "LA")
                self._settle(name, 1 if gray else 3, image.size)
                picture = image.convert("L" if self._channels == 1 else "RGB")
                if self._resize:
                    picture = picture.resize((self._width, self._height))
                array = np.asarray(picture)
        except (OSError, SyntaxError, ValueError, EOFError, ArithmeticError, Image.DecompressionBombError) as error:
            raise UnreadableSample(str(error).partition("\n")[0] or "it is damaged") from error
        if self._layout == "nhw":
            return normalized(array, self._options, None)
        array = array[..., None] if array.ndim == 2 else array
        array = array if self._layout == "nhwc" else array.transpose(2, 0, 1)
        return normalized(array, self._options, -1 if self._layout == "nhwc" else 0)

    def _settle(self, name: str, channels: int, size: tuple[int, int]) -> None:
        """Let the first image fix what is open, and hold the others to it."""
        width, height = size
        if not self._first:
            self._first = name
            self._channels = self._channels or channels
            if not self._resize:
                self._height, self._width = height, width
        if not self._resize and (height, width) != (self._height, self._width):
            sizes = f"{self._first} is {self._height}x{self._width}, {name} is {height}x{width} (height x width)"
            what = f"the images of {self._name} differ in size"
            raise InputError(what, sizes, f"say which: '{self._name}?size={self._height}x{self._width}'")
        if channels > self._channels and not self._convert:
            what = f"the images of {self._name} are gray and in colour"
            why = f"{self._first} is gray, {name} is not"
            raise InputError(what, why, f"say which: '{self._name}?channels=1', or channels=3")


def shape_for(spec: TensorSpec, options: Options) -> dict[str, Any] | None:
    """What one image becomes for this input: layout, channels, height and width; None where it takes no images, or
    where something is left open."""
    try:
        layout = options.layout or _layout(spec)
        channels, height, width = _sizes(spec, layout)
    except InputError:
        return None
    height, width = options.height_width if options.size else (height, width)
    channels = options.channels or channels
    found = {"layout": layout, "channels": channels, "height": height, "width": width}
    return found if channels and height and width else None


def normalized(array: NDArray[Any], options: Options, axis: int | None) -> NDArray[Any]:
    """(x / scale - mean) / std as float32, `axis` being the channels'; the array as it is where none is given."""
    if not options.normalizes:
        return array

    def along(values: Sequence[float], otherwise: float) -> NDArray[np.float32]:
        found = np.array(values or [otherwise], np.float32)
        channels = 1 if axis is None else array.shape[axis]
        if len(found) not in (1, channels):
            raise InputError(f"mean and std hold {len(found)} values", f"the samples have {channels} channels")
        shape = [1] * array.ndim
        if axis is not None:
            shape[axis] = len(found)
        return found.reshape(shape)

    scaled = array.astype(np.float32) / np.float32(options.scale)
    return (scaled - along(options.mean, 0.0)) / along(options.std, 1.0)


def _taking(like: Sequence[TensorSpec], name: str) -> TensorSpec | None:
    """The model's input that takes images; None where nothing is known of the model."""
    if not like:
        return None
    if len(like) == 1 and len(like[0].shape) in (3, 4):
        return like[0]
    taken = ", ".join(map(str, like))
    raise InputError(f"{name} holds images", f"the model takes {taken}", "give it an .npz with one array per input")


def _layout(spec: TensorSpec | None) -> str:
    """nhw where there is no axis of channels; of nchw and nhwc the one whose channels are 1 or 3, nchw in doubt."""
    if spec is None:
        return "nchw"
    if len(spec.shape) == 3:
        return "nhw"
    return "nhwc" if spec.shape[3] in (1, 3) and spec.shape[1] not in (1, 3) else "nchw"


def _sizes(spec: TensorSpec | None, layout: str) -> tuple[int, int, int]:
    """(channels, height, width) that the model insists on, 0 where it leaves them open."""
    if spec is None:
        return 0, 0, 0
    if layout == "nhw":
        return 1, spec.shape[1] or 0, spec.shape[2] or 0
    channels, height, width = (spec.shape[axis] or 0 for axis in ((1, 2, 3) if layout == "nchw" else (3, 1, 2)))
    if channels not in (0, 1, 3):
        raise InputError(f"the model takes {spec}", "an image has 1 or 3 channels", "give it an .npz")
    return channels, height, width
