"""What every format's reader owes: specs, sizes that add up, and refusals of what is damaged."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import pytest

from edgekit.core import registry
from edgekit.core.artifact import ModelFacts
from edgekit.core.errors import EdgekitError

FORMATS = registry.names("formats")
HERE = ("torch", "onnx")


@pytest.mark.parametrize("name", FORMATS)
def test_what_it_says_of_itself(name: str) -> None:
    cls = registry.load("formats", name)
    assert cls.file.startswith("model.") or name == "ranges", "only statistics are no model"
    assert isinstance(cls.suffixes, tuple) and all(s.startswith(".") for s in cls.suffixes)
    taken = [s for other in FORMATS for s in registry.load("formats", other).suffixes]
    assert len(taken) == len(set(taken)), "two formats claim the same file ending"


@pytest.mark.parametrize("name", HERE)
def test_describe(name: str, bars_made: Path) -> None:
    cls = registry.load("formats", name)
    facts: ModelFacts = cls.describe(bars_made / name / cls.file)
    assert [(s.dtype, s.shape) for s in facts.inputs] == [("float32", (None, 1, 20, 20))]
    assert [(s.dtype, s.shape) for s in facts.outputs] == [("float32", (None, 4))]
    sizes = facts.sizes
    record = json.loads((bars_made / name / "artifact.json").read_text())
    files = sum((bars_made / name / file).stat().st_size for file in record["files"])
    assert sizes.total == files == sizes.weights + sizes.graph + sizes.metadata
    assert 0 < sizes.weights < sizes.total
    assert 0 < facts.parameters <= sum(operator.parameters for operator in facts.operators)
    assert facts == cls.describe(bars_made / name / cls.file), "the second reading differs"


def test_formats_agree_on_the_weights(bars_made: Path) -> None:
    found = {n: registry.load("formats", n).describe(bars_made / n / registry.load("formats", n).file) for n in HERE}
    assert found["torch"].sizes.weights == found["onnx"].sizes.weights


@pytest.mark.parametrize("name", HERE)
def test_anything_damaged_is_described_or_refused(name: str, bars_made: Path, tmp_path: Path) -> None:
    cls = registry.load("formats", name)
    rng = random.Random(1)
    shutil.copytree(bars_made / name, tmp_path / "m")
    for file in [p for p in (tmp_path / "m").iterdir() if p.name.startswith("model.")]:
        whole = file.read_bytes()
        for attempt in range(60):
            raw = bytearray(whole)
            if attempt % 3:
                for _ in range(3):
                    raw[rng.randrange(min(len(raw), 2000))] ^= rng.randrange(1, 256)
            else:
                del raw[rng.randrange(len(raw)) :]
            file.write_bytes(raw)
            try:
                assert isinstance(cls.describe(tmp_path / "m" / cls.file), ModelFacts)
            except EdgekitError as error:
                assert error.code == 2
        file.write_bytes(whole)


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_there(name: str, tmp_path: Path) -> None:
    cls = registry.load("formats", name)
    with pytest.raises(EdgekitError) as error:
        cls.describe(tmp_path / cls.file)
    assert error.value.code in (2, 3)
