"""Every shipped step keeps the contract."""

from __future__ import annotations

from edgekit.core import registry
from edgekit.core.artifact import Kind
from edgekit.testing import ExporterContract, StepContract

STEPS = registry.names("steps")


class TestSteps(StepContract):
    members = STEPS
    follow = frozenset({"litert-converter"})


class TestExporters(ExporterContract):
    members = tuple(
        name for name in STEPS if name.startswith("to_") and Kind("torch") in registry.load("steps", name).accepts
    )
