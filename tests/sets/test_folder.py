"""What of a folder is used, and what is left out and said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.core.errors import InputError
from edgekit.sets.folder import Folder


def folder(root: Path) -> Folder:
    return Folder(root, (".png",), lambda path: {"x": np.zeros(1)})


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        (tmp_path / "photos" / name / "1.png").touch()
    return tmp_path / "photos"


def test_nothing_is_left_out(photos: Path) -> None:
    assert folder(photos).count == 2 and folder(photos).notes() == ()


def test_files_of_other_types_are_counted(photos: Path) -> None:
    for name in ("cat/2.txt", "dog/3.txt", "README"):
        (photos / name).touch()
    (photos / ".hidden").touch()
    assert folder(photos).notes() == ("files that are not used: 2 .txt, 1 README",)


def test_links_to_classes_are_followed_and_others_are_not(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "emus").mkdir()
    (tmp_path / "emus" / "1.png").touch()
    (photos / "emu").symlink_to(tmp_path / "emus", target_is_directory=True)
    assert folder(photos).count == 3 and folder(photos).notes() == ()
    (photos / "cat" / "more").symlink_to(tmp_path / "emus", target_is_directory=True)
    assert folder(photos).count == 3
    assert folder(photos).notes() == ("links to folders are not followed: cat/more",)


def test_no_samples(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no samples"):
        folder(tmp_path)
