"""Fashion-MNIST (https://arxiv.org/abs/1708.07747): 60,000 + 10,000 images of clothes, 28 x 28, ten classes."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import urllib.request
import zlib
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgekit.core.errors import InputError, os_errors
from edgekit.core.files import replacing
from edgekit.tasks.shared.images import ImageClassification

#: name → sha256 of the uncompressed contents (the .gz files differ between distributors)
FILES = {
    "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")
URL = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"


class FashionMnist(ImageClassification):
    name = "fashion-mnist"
    models = ("cnn", "ds-cnn", "resnet", "resnet8", "mobilenet-v1", "mobilenet-v2", "mobilenet-v3", "vit")
    classes = (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    )
    licences = ("Fashion-MNIST (MIT)",)
    shape = (1, 28, 28)
    mean = (72.9,)
    std = (90.0,)
    mirrored: ClassVar = True
    #: the last 5,000 of the 60,000 training images are the validation split; the test images follow them
    splits: ClassVar = {"train": (0, 55000), "val": (55000, 60000), "test": (60000, 70000)}

    def samples(self) -> tuple[NDArray[np.uint8], NDArray[Any]]:
        folder = find()
        images = [_idx(folder / name).reshape(-1, *self.shape) for name in FILES if "images" in name]
        labels = [_idx(folder / name) for name in FILES if "labels" in name]
        return np.concatenate(images), np.concatenate(labels).astype(np.int64)


def find() -> Path:
    """The folder with the four files: EDGEKIT_DATA, Debian's package, the cache, or a new download if enabled.

    Raises InputError that says how to get them.
    """
    from platformdirs import user_cache_path

    cache = user_cache_path("edgekit") / "fashion-mnist"
    from_environment = [Path(os.environ["EDGEKIT_DATA"])] if os.environ.get("EDGEKIT_DATA") else []
    for folder in [*from_environment, *(path / "fashion-mnist" for path in from_environment), DEBIAN, cache]:
        if all((folder / name).is_file() for name in FILES):
            return folder
    if os.environ.get("EDGEKIT_DOWNLOAD") == "1":
        return _download(cache)
    raise InputError(
        "the Fashion-MNIST images were not found",
        f"looked in {', '.join(map(str, [*from_environment, DEBIAN, cache]))}",
        "apt-get install dataset-fashion-mnist, or set EDGEKIT_DATA to a folder with its four .gz files, "
        "or set EDGEKIT_DOWNLOAD=1 to download them (31 MB)",
    )


def _download(folder: Path) -> Path:
    with os_errors("write", folder):
        folder.mkdir(parents=True, exist_ok=True)
    base = os.environ.get("EDGEKIT_FASHION_MNIST_URL", URL)
    for name, sha256 in FILES.items():
        with replacing(folder / name) as part:
            try:
                with urllib.request.urlopen(base + name, timeout=60) as response, part.open("wb") as file:  # noqa: S310
                    shutil.copyfileobj(response, file)
            except (OSError, ValueError) as error:
                next = "apt-get install dataset-fashion-mnist, or EDGEKIT_DATA"
                raise InputError(f"cannot download {base + name}", str(error), next) from error
            if hashlib.sha256(_unpack(part)).hexdigest() != sha256:
                raise InputError(
                    f"{base + name} is not the expected file",
                    "its sha256 differs",
                    "check EDGEKIT_FASHION_MNIST_URL, or use apt-get install dataset-fashion-mnist",
                )
    return folder


def _idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes (http://yann.lecun.com/exdb/mnist): magic 0x08, rank, sizes, data."""
    raw = _unpack(path)
    try:
        if raw[:3] != b"\0\0\x08":
            raise ValueError("not an IDX file of bytes")
        shape = np.frombuffer(raw, ">u4", raw[3], 4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)
    except (IndexError, ValueError) as error:
        raise _damaged(path, error) from error


def _unpack(path: Path) -> bytes:
    try:
        with os_errors("read", path):
            return gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"cannot read {path}", f"damaged: {error}", "download it again")
