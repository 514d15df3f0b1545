"""Images: a folder of them by class, or one file, as the model takes them (`preprocessing`).

They stay uint8 in raw units (0 to 255) unless the model's signature, or scale, mean or std, normalize them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError, Missing
from edgekit.core.signature import InputSignature, Resize
from edgekit.core.signature_check import CHANNELS
from edgekit.ondevice import preprocess
from edgekit.sets.folder import Folder
from edgekit.sets.options import Options
from edgekit.sets.preprocessing import image_record, image_signature
from edgekit.sets.reading import UnreadableSample

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm", ".webp", ".tif", ".tiff")

#: the tag of EXIF data that says how the camera was held; 1 is upright (EXIF 2.32, 4.6.4)
ORIENTATION = 0x0112

#: the keys of a record that say where an image lies in its sample
_GEOMETRY = ("resize", "crop", "crop_offset", "height", "width")


def read(path: Path, options: Options, model_inputs: Sequence[TensorSpec]) -> Folder:
    """A folder of images. Raises InputError, Missing."""
    decoder = ImageDecoder(str(path), options, model_inputs)
    return Folder(path, SUFFIXES, lambda file: {decoder.input: decoder(file, str(file))}, decoder)


class ImageDecoder:
    """Decodes image files to arrays of one shape: (C, H, W), (H, W, C), or (H, W) if the model's input has no channels.

    If neither the signature, the options nor the model's input fix size and channels, the first image does. `input` is
    the input's name. Raises InputError if no input takes images, Missing.
    """

    def __init__(self, name: str, options: Options, model_inputs: Sequence[TensorSpec]) -> None:
        try:
            import PIL.Image  # noqa: F401
        except ImportError as error:
            raise Missing.install("reading images", "pillow", "images") from error
        spec = _image_input(model_inputs, name)
        self._name = name
        self.input = spec.name if spec else "input"
        self._signature = image_signature(spec, options, name)
        self._record = image_record(self._signature, spec, options.channels)
        self._check_channels(spec)
        self._convert = "channels" in self._record
        self._sized = self._signature.height_width is not None
        self._first_name, self._first_size = "", (0, 0)
        self.turned = 0

    def __call__(self, file: Path | IO[bytes], name: str) -> NDArray[Any]:
        """One image; `name` is for messages. Raises UnreadableSample, or InputError if size or channels differ."""
        from PIL import Image

        try:
            with Image.open(file) as image:
                gray = image.mode in ("1", "L", "LA")
                self._check_image(name, 1 if gray else 3, image.size)
                self.turned += image.getexif().get(ORIENTATION, 1) != 1
            if not isinstance(file, Path):
                file.seek(0)
            pixels: NDArray[Any] = preprocess.image(file, self._record)
            return pixels
        except (OSError, SyntaxError, ValueError, EOFError, ArithmeticError, Image.DecompressionBombError) as error:
            raise UnreadableSample(str(error).partition("\n")[0] or "it is damaged") from error

    def size_of(self, file: Path) -> tuple[int, int]:
        """(height, width) of an image file in pixels, as it is decoded. Raises UnreadableSample."""
        from PIL import Image

        try:
            with Image.open(file) as image:
                width, height = image.size
                turned = self._signature.exif and image.getexif().get(ORIENTATION, 1) > 4
        except (OSError, SyntaxError, ValueError, EOFError, ArithmeticError, Image.DecompressionBombError) as error:
            raise UnreadableSample(str(error).partition("\n")[0] or "it is damaged") from error
        return (width, height) if turned else (height, width)

    def placement(self, height: int, width: int) -> tuple[float, float, int, int]:
        """Where an image of this size lies in the sample: see `preprocess.placement`."""
        scale_y, scale_x, top, left = preprocess.placement(self._record, height, width)
        return scale_y, scale_x, top, left

    def placed(self, mask: NDArray[np.uint8], outside: int) -> NDArray[np.uint8]:
        """(H, W) values of an image's pixels, at the place of its sample; each keeps its value, or is `outside` of it.

        Raises UnreadableSample.
        """
        record = {key: self._record[key] for key in _GEOMETRY if key in self._record}
        if record.get("resize"):
            record["resize"] = {**record["resize"], "fill": 0}
        shifted = mask - np.uint8(outside)  # what is added around an image is 0
        try:
            moved = preprocess.image(shifted, {**record, "layout": "NHW", "interpolation": "nearest"})
        except ValueError as error:
            raise UnreadableSample(str(error)) from error
        return np.asarray(moved + np.uint8(outside), np.uint8)

    def decoded(self) -> Mapping[str, InputSignature]:
        """By input name, how the images were decoded so far."""
        signature = self._signature
        if not self._sized and self._first_name:
            height, width = self._first_size
            signature = replace(signature, resize=Resize("stretch", (height, width)))
        return {self.input: signature} if self._first_name else {}

    def notes(self) -> tuple[str, ...]:
        """What the user should know about the images that were decoded."""
        if not self.turned or self._signature.exif:
            return ()
        images = "1 image is" if self.turned == 1 else f"{self.turned} images are"
        return (f"{images} turned by EXIF data, which is not applied (exif = true in the signature applies it)",)

    def _check_channels(self, spec: TensorSpec | None) -> None:
        if self._record.get("channels", 1) not in CHANNELS:
            raise InputError(f"the model takes {spec}", "an image has 1 or 3 channels", "use an .npz")

    def _check_image(self, name: str, channels: int, size: tuple[int, int]) -> None:
        """The first image sets what is not specified; the others must match it."""
        width, height = size
        if not self._first_name:
            self._first_name, self._first_size = name, (height, width)
            self._record.setdefault("channels", channels)
        if not self._sized and (height, width) != self._first_size:
            first = "x".join(map(str, self._first_size))
            sizes = f"{self._first_name} is {first}, {name} is {height}x{width} (height x width)"
            what = f"the images of {self._name} differ in size"
            raise InputError(what, sizes, f"set a size: '{self._name}?size={first}'")
        if channels > self._record["channels"] and not self._convert:
            what = f"{self._name} holds both gray and colour images"
            why = f"{self._first_name} is gray, {name} is not"
            raise InputError(what, why, f"choose one: '{self._name}?channels=1', or channels=3")


def _image_input(model_inputs: Sequence[TensorSpec], name: str) -> TensorSpec | None:
    """The model's input that takes images; None without a model."""
    if not model_inputs:
        return None
    if len(model_inputs) == 1 and len(model_inputs[0].shape) in (3, 4):
        return model_inputs[0]
    accepted = ", ".join(map(str, model_inputs))
    raise InputError(f"{name} holds images", f"the model takes {accepted}", "use an .npz with one array per input")
