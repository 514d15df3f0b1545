"""The side file that states tensors for a format whose own file does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.formats import SPECS, read_specs, write_specs


def test_what_is_written_is_read(tmp_path: Path) -> None:
    inputs = (TensorSpec("x", "float32", (None, 3)), TensorSpec("n", "int8", (), (0.5, -3)))
    outputs = (TensorSpec("y", "float16", (1, None)),)
    write_specs(tmp_path, inputs, outputs)
    assert read_specs(tmp_path) == (inputs, outputs)


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "3", '{"inputs": [{}], "outputs": []}', '{"inputs": [1], "outputs": []}']
)
def test_what_is_damaged_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / SPECS).write_text(text)
    with pytest.raises(InputError, match="is damaged"):
        read_specs(tmp_path)
    (tmp_path / SPECS).unlink()
    with pytest.raises(InputError, match="no such file"):
        read_specs(tmp_path)
