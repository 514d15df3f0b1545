"""Dense prediction tasks (segmentation, detection): reading images, their normalisation and augmentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, Missing, os_errors
from edgekit.sets.images import SUFFIXES
from edgekit.tasks.shared.images import shuffled

#: ImageNet's mean and standard deviation per channel, in raw units
MEAN = (123.7, 116.3, 103.5)
STD = (58.4, 57.1, 57.4)


def split_files(root: Path, folder: str, split: str) -> list[Path]:
    """The images of a split: `ROOT/SPLIT/FOLDER/*`, else a fixed random 80/10/10 split of `ROOT/FOLDER/*`.

    Raises InputError if there are none, or too few to split.
    """
    has_splits = any((root / name / folder).is_dir() for name in ("train", "val", "test"))
    directory = root / split / folder if has_splits else root / folder
    with os_errors("read", directory):
        files = sorted(path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES)
    if not has_splits:
        if files and len(files) < 10:
            raise InputError(f"{directory} holds {len(files)} images", "a split needs at least ten", "add images")
        order = [files[i] for i in shuffled(len(files))]
        tenth = len(files) // 10
        shares = {"test": order[:tenth], "val": order[tenth : 2 * tenth], "train": order[2 * tenth :]}
        files = shares[split]
    if not files:
        raise InputError(f"{directory} holds no images", f"it has no {', '.join(SUFFIXES)} file", "check the path")
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
        raise InputError(f"cannot read {path}", str(error).partition("\n")[0], "fix or remove it") from error


def random_flip_and_gain(images: Any, generator: Any) -> tuple[Any, Any]:
    """Images (N, 3, H, W), half of them flipped, each channel scaled by 0.7 to 1.3; and which were flipped."""
    import torch

    flip = (torch.rand(len(images), generator=generator) < 0.5).to(images.device)
    gain = 0.7 + 0.6 * torch.rand(len(images), 3, 1, 1, generator=generator).to(images.device)
    mirrored = torch.where(flip[:, None, None, None], images.flip(3), images)
    return (mirrored * gain).clamp(0, 255), flip
