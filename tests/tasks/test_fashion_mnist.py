"""Where the Fashion-MNIST images are looked for, and that what is downloaded is what was recorded."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.tasks import fashion_mnist
from edgekit.tasks.fashion_mnist import FILES, FashionMnist, find


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No package, no cache, no variables; returns a folder to work in."""
    monkeypatch.setattr(fashion_mnist, "DEBIAN", tmp_path / "debian")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("EDGEKIT_DATA", "EDGEKIT_DOWNLOAD", "EDGEKIT_FASHION_MNIST_URL"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


def contents(name: str) -> bytes:
    count = 60 if name.startswith("train") else 10
    shape = (count, 28, 28) if "images" in name else (count,)
    return idx(np.arange(np.prod(shape)).reshape(shape) % 10)


def write(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in FILES:
        (folder / name).write_bytes(gzip.compress(contents(name)))
    return folder


def test_without_data_it_says_all_three_ways(nowhere: Path) -> None:
    with pytest.raises(InputError) as error:
        find()
    for way in ("apt-get install dataset-fashion-mnist", "EDGEKIT_DATA", "EDGEKIT_DOWNLOAD=1"):
        assert way in error.value.next


def test_the_order_in_which_it_looks(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = write(nowhere / "cache" / "edgekit" / "fashion-mnist")
    assert find() == cache
    debian = write(nowhere / "debian")
    assert find() == debian
    named = write(nowhere / "named" / "fashion-mnist")
    monkeypatch.setenv("EDGEKIT_DATA", str(nowhere / "named"))
    assert find() == named
    monkeypatch.setenv("EDGEKIT_DATA", str(named))
    assert find() == named


def test_files_are_read_in_their_order(nowhere: Path) -> None:
    write(nowhere / "debian")
    images, labels = FashionMnist().samples()
    assert images.shape == (70, 1, 28, 28) and labels.shape == (70,)
    assert labels.tolist() == [i % 10 for i in range(60)] + [i % 10 for i in range(10)]


@pytest.mark.parametrize(
    "raw",
    [b"", b"not gzip", gzip.compress(b"not idx"), gzip.compress(b"\0\0\x08\x09"), b"\x1f\x8b"],
    ids=["empty", "not gzip", "not idx", "another type", "cut off"],
)
def test_damaged_files(nowhere: Path, raw: bytes) -> None:
    folder = write(nowhere / "debian")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(raw)
    with pytest.raises(InputError) as error:
        FashionMnist().samples()
    assert "train-images" in str(error.value)


def test_a_download_is_checked(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(nowhere / "server")
    monkeypatch.setenv("EDGEKIT_DOWNLOAD", "1")
    monkeypatch.setenv("EDGEKIT_FASHION_MNIST_URL", source.as_uri() + "/")
    with pytest.raises(InputError, match="not the expected file"):
        find()
    cache = nowhere / "cache" / "edgekit" / "fashion-mnist"
    assert not list(cache.iterdir()), "something unchecked was kept"
    recorded = {name: hashlib.sha256(contents(name)).hexdigest() for name in FILES}
    monkeypatch.setattr(fashion_mnist, "FILES", recorded)
    assert find() == cache
    assert sorted(path.name for path in cache.iterdir()) == sorted(FILES)


def test_a_download_that_fails(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DOWNLOAD", "1")
    monkeypatch.setenv("EDGEKIT_FASHION_MNIST_URL", (nowhere / "absent").as_uri() + "/")
    with pytest.raises(InputError, match="cannot download"):
        find()
    assert not list((nowhere / "cache" / "edgekit" / "fashion-mnist").iterdir())


def test_nothing_is_fetched_unless_asked(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("the network was used"))
    with pytest.raises(InputError):
        FashionMnist().load("test")
