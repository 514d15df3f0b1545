"""The contract suites: what every member of a kind owes, as tests for pytest.

A package that adds members inherits them in a test file of its own, and names its members:

    from edgekit.testing import StepContract

    class TestSteps(StepContract):
        members = ("to_ncnn", "ncnn_int8")

The members are found as edgekit finds them, through the entry points of the installed package.
"""

import pytest

pytest.register_assert_rewrite(*(f"{__name__}.{name}" for name in ("devices", "formats", "runtimes", "steps", "tasks")))

from edgekit.testing.devices import DeviceContract  # noqa: E402
from edgekit.testing.formats import FormatContract  # noqa: E402
from edgekit.testing.runtimes import RuntimeContract  # noqa: E402
from edgekit.testing.steps import ExporterContract, StepContract  # noqa: E402
from edgekit.testing.tasks import TaskContract  # noqa: E402

__all__ = [
    "DeviceContract",
    "ExporterContract",
    "FormatContract",
    "RuntimeContract",
    "StepContract",
    "TaskContract",
]
