"""The ranges format: activation statistics from one calibration pass, which the int8 steps choose their ranges from."""

from __future__ import annotations

from pathlib import Path

from edgekit.errors import os_errors
from edgekit.types import ModelFacts, Sizes


class Ranges:
    file = "ranges.npz"
    suffixes: tuple[str, ...] = ()

    @staticmethod
    def describe(path: Path) -> ModelFacts:
        """How many tensors, over how many samples; it is no model. Raises InputError for what is damaged."""
        from edgekit.quantization.histograms import Statistics

        statistics = Statistics.load(path)
        with os_errors("read", path):
            total = path.stat().st_size
        details = {"tensors": len(statistics), "samples": statistics.samples}
        return ModelFacts((), (), Sizes(total, 0, 0, total), details=details)
