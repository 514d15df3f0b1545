"""What tasks with images and more than a class per image share: reading them, and their normalisation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, Missing, os_errors
from edgekit.sets.images import SUFFIXES
from edgekit.tasks.shared.images import shuffled

#: of photographs, in raw units, by channel: ImageNet's
MEAN = (123.7, 116.3, 103.5)
STD = (58.4, 57.1, 57.4)


def parts(root: Path, folder: str, split: str) -> list[Path]:
    """The images of a split: `ROOT/SPLIT/FOLDER/*`, else a share of `ROOT/FOLDER/*`, 80/10/10 by a fixed draw.

    Raises InputError where there are none, or too few to share.
    """
    own = any((root / name / folder).is_dir() for name in ("train", "val", "test"))
    place = root / split / folder if own else root / folder
    with os_errors("read", place):
        files = sorted(path for path in place.iterdir() if path.suffix.lower() in SUFFIXES)
    if not own:
        if files and len(files) < 10:
            raise InputError(f"{place} holds {len(files)} images", "ten are needed to share them out", "add some")
        order = [files[i] for i in shuffled(len(files))]
        tenth = len(files) // 10
        shares = {"test": order[:tenth], "val": order[tenth : 2 * tenth], "train": order[2 * tenth :]}
        files = shares[split]
    if not files:
        raise InputError(f"{place} holds no images", f"no {', '.join(SUFFIXES)} file lies in it", "check the path")
    return files


def image_of(path: Path, size: int) -> NDArray[np.uint8]:
    """(3, size, size) pixels. Raises InputError for a file that cannot be read."""
    try:
        from PIL import Image
    except ImportError as error:
        raise Missing.install("reading images", "pillow", "images") from error
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGB").resize((size, size)), np.uint8).transpose(2, 0, 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read {path}", str(error).partition("\n")[0], "mend or remove it") from error


def changed(images: Any, generator: Any) -> tuple[Any, Any]:
    """(N, 3, H, W) torch, half of them mirrored, each channel by up to three tenths stronger or weaker; which were."""
    import torch

    flip = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    gain = 0.7 + 0.6 * torch.rand(len(images), 3, 1, 1, generator=generator).to(images.device)
    mirrored = torch.where(flip[:, None, None, None], images.flip(3), images)
    return (mirrored * gain).clamp(0, 255), flip
