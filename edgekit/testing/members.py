"""What the suites share: each test runs once per member, and the small network is made once per class."""

from __future__ import annotations

from typing import ClassVar

import pytest

from edgekit.testing.network import Models


class Contract:
    """`members`: the names of those to test. A test that takes `name` runs once for each."""

    members: ClassVar[tuple[str, ...]] = ()

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "name" in metafunc.fixturenames:
            metafunc.parametrize("name", self.members)

    @pytest.fixture(scope="class")
    @classmethod
    def models(cls, tmp_path_factory: pytest.TempPathFactory) -> Models:
        return Models(tmp_path_factory.mktemp("models") / "run")
