"""Memory-mapped arrays: the same bytes in memory and in a file, and the file is deleted."""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from edgekit import sets
from edgekit.core.errors import NoSpace
from edgekit.sets import memmap, reading
from edgekit.sets.memmap import MemmapWriter

relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hardly anything fits into memory; returns the folder of temporary files."""
    monkeypatch.setattr(memmap, "IN_MEMORY", 100)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def written(values: np.ndarray) -> np.ndarray:
    writer = MemmapWriter()
    for i in range(len(values)):
        writer.append(values[i, ...])
    return writer.array()


@given(
    scalar_dtypes()
    .filter(lambda d: d.kind in "biuf")
    .flatmap(lambda d: arrays(d, array_shapes(max_dims=3, max_side=12)))
)
@relaxed
def test_what_goes_in_comes_out(small: Path, values: np.ndarray) -> None:
    found = written(values)
    assert isinstance(found, np.memmap) == (values.nbytes > 100)
    assert found.shape == values.shape and found.tobytes() == values.tobytes()
    plain = reading.sample_set("x", {"a": values}, None)
    assert reading.sample_set("x", {"a": found}, None).sha256 == plain.sha256


def test_a_large_one_is_a_file_that_goes_with_it(small: Path) -> None:
    values = np.arange(1000.0).reshape(100, 10)
    data = reading.sample_set("x", {"a": written(values)}, np.arange(100))
    assert not data.inputs["a"].flags.writeable
    (folder,) = small.iterdir()
    assert np.array_equal(np.load(folder / "files" / "samples.npy"), values)
    few = sets.take(data, 7)
    assert isinstance(few.inputs["a"], np.memmap)
    assert few.sha256 == reading.sample_set("y", {"a": values[:7]}, np.arange(7)).sha256
    del data
    gc.collect()
    assert few.inputs["a"][6, 9] == 69 and folder.exists(), "the file went while it was in use"
    del few
    gc.collect()
    assert not any(small.iterdir())


@pytest.mark.parametrize("end", ["pass", "raise KeyboardInterrupt", "sys.exit(3)"])
def test_nothing_is_left_when_the_process_ends(tmp_path: Path, end: str) -> None:
    code = f"""
import sys, tempfile
import numpy as np
from edgekit.sets import memmap as module
module.IN_MEMORY, tempfile.tempdir = 100, {str(tmp_path)!r}
done, going = module.MemmapWriter(), module.MemmapWriter()
for writer in (done, going):
    for i in range(9):
        writer.append(np.full(20, i))
array = done.array()
assert len(list(module.Path({str(tmp_path)!r}).iterdir())) == 2
{end}
"""
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=end == "pass")
    assert not any(tmp_path.iterdir())


def test_a_full_disk(small: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    writer = MemmapWriter()
    with Path("/dev/full").open("wb", buffering=0) as full:
        writer._file = full
        with pytest.raises(NoSpace):
            writer.append(np.ones(50))
