"""Every shipped runtime keeps the contract."""

from __future__ import annotations

from edgekit.core import registry
from edgekit.testing import RuntimeContract


class TestRuntimes(RuntimeContract):
    members = registry.names("runtimes")


def test_only_the_null_runtime_computes_nothing() -> None:
    assert [r.name for r in registry.runtimes() if not r.computes] == ["null"]
    assert all(r.extra for r in registry.runtimes() if r.computes), "which extra brings it?"
