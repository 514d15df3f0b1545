"""What every format's reader owes: specs, sizes that add up, and refusals of what is damaged."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import ClassVar

import pytest

from edgekit.core import extension_points, registry
from edgekit.core.artifact import ModelFacts
from edgekit.core.errors import EdgekitError
from edgekit.core.format import Format
from edgekit.testing.members import Contract
from edgekit.testing.network import CLASSES, SHAPE, Models


class FormatContract(Contract):
    """`written`: the members that a model is made in; None: all that something exports to."""

    written: ClassVar[tuple[str, ...] | None] = None

    @pytest.fixture
    def cls(self, name: str) -> type[Format]:
        format: type[Format] = registry.load("formats", name)
        return format

    @pytest.fixture
    def folder(self, name: str, models: Models) -> Path:
        """A model of this format."""
        if name != "torch" and f"to_{name}" not in registry.names("steps"):
            pytest.skip(f"nothing exports to {name}")
        if self.written is not None and name not in self.written:
            pytest.skip(f"{name} is read in tests of its own")
        return models.in_format(name).path

    def test_what_it_says_of_itself(self, name: str, cls: type[Format]) -> None:
        assert extension_points.problems("formats", name, cls) == []
        assert cls.file.startswith("model.") or name == "ranges", "only statistics are no model"
        assert isinstance(cls.suffixes, tuple) and all(s.startswith(".") for s in cls.suffixes)
        taken = [s for _, other in registry.members("formats") for s in other.suffixes]
        assert len(taken) == len(set(taken)), "two formats claim the same file ending"
        if cls.observer:
            assert cls.observed_in in registry.names("runtimes"), "in which runtime?"

    def test_describe(self, name: str, cls: type[Format], folder: Path, models: Models) -> None:
        facts = cls.describe(folder / cls.file)
        ((given,), (answered,)) = facts.inputs, facts.outputs
        assert (given.dtype, given.shape[1:]) == (answered.dtype, SHAPE) == ("float32", SHAPE)
        assert answered.shape[1:] == (CLASSES,)
        assert given.shape[0] in (None, 1) and answered.shape[0] in (None, 1)
        sizes = facts.sizes
        record = "outputs.safetensors"  # tells later whether changed code is still this network; not of the model
        files = sum((folder / file).stat().st_size for file in models.in_format(name).files if file != record)
        assert sizes.total == files == sizes.weights + sizes.graph + sizes.metadata
        assert 0 < sizes.weights < sizes.total
        assert 0 < facts.parameters <= sum(operator.parameters for operator in facts.operators)
        assert facts == cls.describe(folder / cls.file), "the second reading differs"

    def test_anything_damaged_is_described_or_refused(self, cls: type[Format], folder: Path, tmp_path: Path) -> None:
        rng = random.Random(1)
        shutil.copytree(folder, tmp_path / "m")
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

    def test_nothing_there(self, cls: type[Format], tmp_path: Path) -> None:
        with pytest.raises(EdgekitError) as error:
            cls.describe(tmp_path / cls.file)
        assert error.value.code in (2, 3)
