"""Names from data: which are plain, and which lead out of their folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.errors import InputError
from edgekit.core.relative_paths import inside, is_beside, problem, refuse_links_out
from edgekit.ondevice import agent, predict, releases

PLAIN = ["model.onnx", "weights/0.bin", "a b.txt", "…", "größe.bin", ".hidden", "a..b", "...", "-x", "x" * 255]
BAD = ["", ".", "..", "/", "/etc/passwd", "../x", "a/../b", "a/..", "./a", "a/", "a//b", "a\\b", "..\\x", "C:x"]
BAD += ["C:/x", "a\0b", "a\nb", "\x1b[2J", "\u202egpj.exe", "x" * 256, "a/" * 600 + "a", "ä" * 128, "\udcff"]


@pytest.mark.parametrize("name", PLAIN)
def test_plain_names(tmp_path: Path, name: str) -> None:
    assert problem(name) == ""
    assert inside(tmp_path, name) == tmp_path / name
    assert all(check(name) for check in (predict.is_plain, releases.is_plain, agent.is_plain))


@pytest.mark.parametrize("name", [*BAD, None, 3, b"x", ["a"]])
def test_other_names(tmp_path: Path, name: str) -> None:
    assert problem(name)
    with pytest.raises(InputError, match="names a file outside itself"):
        inside(tmp_path, name)
    assert not any(check(name) for check in (predict.is_plain, releases.is_plain, agent.is_plain))


@given(st.text(st.sampled_from("ab./\\\0:-"), max_size=8))
def test_a_plain_name_is_below_the_folder(name: str) -> None:
    folder = Path("/nowhere/folder")
    if not problem(name):
        path = Path("/nowhere/folder", name)
        assert folder in path.parents and ".." not in path.parts and path.relative_to(folder).as_posix() == name
    assert bool(problem(name)) != predict.is_plain(name) == releases.is_plain(name) == agent.is_plain(name)


def test_links(tmp_path: Path) -> None:
    folder, secret = tmp_path / "folder", tmp_path / "secret"
    (folder / "sub").mkdir(parents=True)
    secret.write_text("secret")
    (folder / "in").symlink_to("sub")
    assert inside(folder, "in/x") == folder / "in/x"
    refuse_links_out(folder)
    for name, target in (("file", secret), ("up", tmp_path), ("dangling", tmp_path / "none"), ("loop", folder / "..")):
        (folder / "sub" / name).symlink_to(target)
        for path in (f"sub/{name}", f"in/{name}", f"sub/{name}/secret"):
            with pytest.raises(InputError, match="link that leads out"):
                inside(folder, path)
        with pytest.raises(InputError, match=f"sub/{name}"):
            refuse_links_out(folder)
        (folder / "sub" / name).unlink()
    (folder / "itself").symlink_to("itself")
    refuse_links_out(folder)
    (tmp_path / "latest").symlink_to(folder)
    assert inside(tmp_path / "latest", "sub/x") == tmp_path / "latest/sub/x", "the folder itself may be a link"


def test_weights_beside_a_model(tmp_path: Path) -> None:
    """A cache of downloads keeps its files elsewhere, and links to both."""
    for folder in ("model", "blobs", "other"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "1").touch()
        (tmp_path / folder / "2").touch()
    model, weights = tmp_path / "model" / "m.xml", tmp_path / "model" / "m.bin"
    model.symlink_to(tmp_path / "blobs" / "1")
    weights.symlink_to(tmp_path / "blobs" / "2")
    assert is_beside(model, weights)
    weights.unlink()
    weights.symlink_to(tmp_path / "other" / "2")
    assert not is_beside(model, weights)
