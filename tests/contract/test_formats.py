"""Every shipped format keeps the contract; TFLite and OpenVINO files are read in tests of their own."""

from __future__ import annotations

from pathlib import Path

from edgekit.core import registry
from edgekit.testing import FormatContract

WRITTEN = ("torch", "onnx")


class TestFormats(FormatContract):
    members = registry.names("formats")
    written = WRITTEN


def test_formats_agree_on_the_weights(bars_made: Path) -> None:
    read = {name: registry.load("formats", name) for name in WRITTEN}
    sizes = {name: cls.describe(bars_made / name / cls.file).sizes for name, cls in read.items()}
    assert sizes["torch"].weights == sizes["onnx"].weights
