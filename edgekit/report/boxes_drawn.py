"""Images with a detector's boxes drawn on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.core.errors import Missing, os_errors

#: of the classes in turn (Okabe and Ito's palette, which colour-blind people can tell apart)
COLOURS = ("#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7")


def draw(image: Path, boxes: Sequence[Mapping[str, Any]], folder: Path, exif: bool = False) -> Path:
    """Write `folder/NAME.png`, the image with `boxes` (`ondevice.detections.entries`); `exif`: turned as its EXIF data
    says. An existing file is not replaced: the name gets a number. Raises InputError, Missing."""
    try:
        from PIL import Image, ImageDraw, ImageOps
    except ImportError as error:
        raise Missing.install("drawing boxes", "pillow", "images") from error
    with os_errors("read", image), Image.open(image) as opened:
        picture = (ImageOps.exif_transpose(opened) if exif else opened).convert("RGB")
    pen = ImageDraw.Draw(picture)
    width = max(1, round(max(picture.size) / 300))
    names = sorted({box["class"] for box in boxes})
    for box in reversed(boxes):  # the surest on top
        x, y, wide, high = box["box"]
        colour = COLOURS[names.index(box["class"]) % len(COLOURS)]
        pen.rectangle((x, y, x + wide, y + high), outline=colour, width=width)
        label = f"{box['class']} {box['score']:.0%}"
        left, top, right, bottom = pen.textbbox((x, y), label, font_size=max(10, 6 * width))
        shift = -(bottom - top) - 2 if top > bottom - top + 2 else 0
        pen.rectangle((left, top + shift - 1, right + 1, bottom + shift + 1), fill=colour)
        pen.text((x, y + shift), label, fill="black", font_size=max(10, 6 * width))
    with os_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{image.stem}.png"
        for number in range(2, 10000):
            if not path.exists():
                break
            path = folder / f"{image.stem}-{number}.png"
        picture.save(path)
    return path
