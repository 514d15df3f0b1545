"""Every shipped device that is here keeps the contract."""

from __future__ import annotations

import pytest
from devices.sshd import _board, board  # noqa: F401 - fixtures

from edgekit.core import registry
from edgekit.core.target import Target
from edgekit.measure import targets
from edgekit.testing import DeviceContract

#: a system has to be made for these: tests/devices/test_lab.py and test_adb.py, in the slow tier
MADE = {"qemu", "adb"}
HERE = ("local", "null", "ssh")


class TestDevices(DeviceContract):
    members = HERE

    @pytest.fixture
    def target(self, name: str, request: pytest.FixtureRequest) -> Target:
        if name == "ssh":
            target: Target = request.getfixturevalue("board").target()
            return target
        return targets.load({"local": "host"}.get(name, name))


def test_every_device_is_tried_here() -> None:
    assert set(HERE) | MADE == set(registry.names("devices"))


def test_only_a_real_machine_measures() -> None:
    classes = {name: registry.load("devices", name) for name in registry.names("devices")}
    assert {name for name, cls in classes.items() if cls.provenance == "measured"} == {"local", "ssh", "adb"}
    assert {name for name, cls in classes.items() if cls.here} == {"local", "null"}
    assert {name for name, cls in classes.items() if not cls.timed} == {"null", "qemu"}


@pytest.mark.parametrize("name", sorted(MADE))
def test_every_device_says_what_it_is(name: str) -> None:
    cls = registry.load("devices", name)
    assert cls.__name__ == registry.class_name(name)
    assert cls.provenance in ("measured", "emulated", "simulated-instructions", "estimated")
