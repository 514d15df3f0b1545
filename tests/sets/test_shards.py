"""WebDataset shards: grouped by name, never unpickled, and said where one is cut off."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import EdgekitError, InputError
from edgekit.runs import named_sets

relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


def npy(array: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def shard(path: str, samples: dict[str, dict[str, bytes]]) -> Path:
    with tarfile.open(path, "w:gz" if path.endswith("gz") else "w") as tar:
        for key, members in samples.items():
            for ending, raw in members.items():
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(raw)
                tar.addfile(member, io.BytesIO(raw))
    return Path(path)


def arrays(first: int, count: int) -> dict[str, dict[str, bytes]]:
    return {
        f"{i:05}": {"npy": npy(np.full((2, 3), i, np.float32)), "cls": str(i % 3).encode()}
        for i in range(first, first + count)
    }


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("word", ["s-{000..002}.tar", "s-*.tar"])
def test_shards_in_order(word: str) -> None:
    for i in range(3):
        shard(f"s-{i:03}.tar", arrays(10 * i, 10))
    data = named_sets.load(word)
    assert data.inputs["input"][:, 0, 0].tolist() == list(range(30))
    assert data.labels is not None and data.labels.tolist() == [i % 3 for i in range(30)]
    parts = [named_sets.load(f"{word}:{split}").inputs["input"][:, 0, 0].tolist() for split in ("train", "test")]
    assert parts[0] and parts[1] and not set(parts[0]) & set(parts[1])
    assert len(named_sets.load(f"{word}?count=7")) == 7


def test_packed_and_of_two_inputs() -> None:
    both = {
        f"d/{i}": {"left.npy": npy(np.ones(2)), "right.npy": npy(np.zeros(3)), "txt": b"ab"[i % 2 :][:1]}
        for i in range(4)
    }
    data = named_sets.load(str(shard("a.tar.gz", both)))
    assert {name: array.shape for name, array in data.inputs.items()} == {"left": (4, 2), "right": (4, 3)}
    assert data.labels is not None and data.labels.tolist() == [0, 1, 0, 1]


def test_images_and_labels_in_json() -> None:
    image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    samples = {}
    for i in range(6):
        file = io.BytesIO()
        image.new("RGB", (5, 4), (i, 0, 0)).save(file, "PNG")
        samples[f"{i}"] = {"png": file.getvalue(), "json": json.dumps({"label": "xy"[i % 2], "price": i / 4}).encode()}
    shard("a.tar", samples)
    like = (TensorSpec("picture", "float32", (None, 8, 8, 3)),)
    assert named_sets.load("a.tar", like).inputs["picture"].shape == (6, 8, 8, 3)
    prices = named_sets.load("a.tar?label=price").labels
    assert prices is not None and prices.tolist() == [i / 4 for i in range(6)]


def test_sounds() -> None:
    soundfile = pytest.importorskip("soundfile", reason="soundfile is not installed")
    file = io.BytesIO()
    soundfile.write(file, np.zeros(80), 8000, format="WAV")
    shard("a.tar", {f"{i}": {"wav": file.getvalue(), "cls": b"%d" % (i % 2)} for i in range(4)})
    assert named_sets.load("a.tar").inputs["input"].shape == (4, 80)


@pytest.mark.parametrize("cut", ["in a sample", "between samples", "the end"])
def test_a_shard_that_is_cut_off(cut: str) -> None:
    raw = shard("s-0.tar", arrays(0, 60)).read_bytes()
    at = {"in a sample": 30 * 2048 + 600, "between samples": 30 * 2048, "the end": 60 * 2048}[cut]
    Path("s-0.tar").write_bytes(raw[:at])
    data = named_sets.load("s-0.tar")
    assert len(data) in (29, 30, 59, 60) and len(data) >= at // 2048 - 1
    assert len(data.skipped) == 1 and "s-0.tar" in data.skipped[0]


def test_a_broken_sample() -> None:
    samples = arrays(0, 60)
    samples["00007"]["npy"] = npy(np.array([{}]), allow_pickle=True)
    samples["00009"]["cls"] = b"seven"
    samples["00011"] = {"npy": samples["00011"]["npy"]}
    data = named_sets.load(str(shard("a.tar", samples)))
    assert len(data) == 57
    said = dict(name.split(" in a.tar: ") for name in data.skipped)
    assert "not a plain .npy" in said["00007"] and ".cls" in said["00009"] and said["00011"] == "it has no label"


@pytest.mark.parametrize("label", ["{}", "NaN", "[]", '[1, "x"]', "1e999", "9" * 30, "[[1]]"])
def test_what_is_no_label(label: str) -> None:
    samples = {f"{i:02}": {"npy": npy(np.ones(2)), "json": json.dumps({"label": i % 2}).encode()} for i in range(30)}
    samples["07"]["json"] = f'{{"label": {label}}}'.encode()
    data = named_sets.load(str(shard("a.tar", samples)))
    (said,) = data.skipped
    assert said.startswith(("07 in a.tar: its label is", "07 in a.tar: its .json cannot be read: ")) and len(data) == 29


class Bomb:
    """Leaves a file behind where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("exploded"),)


@pytest.mark.parametrize("ending", ["pyd", "pickle", "pth", "npy", "npz"])
def test_nothing_is_unpickled(ending: str) -> None:
    raw = npy(np.array([Bomb()]), allow_pickle=True) if ending == "npy" else pickle.dumps(Bomb())
    shard("a.tar", {f"{i}": {ending: raw, "cls": b"0"} for i in range(3)})
    with pytest.raises(InputError, match="3 of 3 samples"):
        named_sets.load("a.tar")
    assert not Path("exploded").exists()


def test_shards_that_are_not_there() -> None:
    shard("s-0.tar", arrays(0, 3))
    for word, said in (("s-{0..1}.tar", "s-1.tar"), ("t-*.tar", "no file"), ("t.tar", "no such file")):
        with pytest.raises(InputError) as error:
            named_sets.load(word)
        assert said in str(error.value)
    with tarfile.open("empty.tar", "w"):
        pass
    with pytest.raises(InputError, match="no samples"):
        named_sets.load("empty.tar")


@given(st.data())
@relaxed
def test_a_damaged_shard_loads_or_is_refused(data: st.DataObject) -> None:
    path = shard("d.tar", arrays(0, 5)) if data.draw(st.booleans()) else shard("d.tar.gz", arrays(0, 5))
    raw = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, min(len(raw) - 1, 4000)))] = data.draw(st.integers(0, 255))
    path.write_bytes(raw[: data.draw(st.integers(0, len(raw)))] if data.draw(st.booleans()) else raw)
    try:
        named_sets.load(str(path))
    except EdgekitError as error:
        assert error.code == 2
