"""The bill of materials of a bundle: valid CycloneDX, complete, and the same for the same bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from helpers import Ended

from edgekit.workflows.deploy.sbom import FILE


@pytest.fixture(autouse=True)
def _members(members: None) -> None:
    """The task `bars`."""


def test_a_bundle_says_what_it_is_made_of(cli: Callable[..., Ended], bars_made: Path, tmp_path: Path) -> None:
    cyclonedx = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    assert cli("deploy", bars_made / "onnx-int8", "--bundle", "out").code == 0
    text = (tmp_path / "out" / FILE).read_text()
    assert cyclonedx.JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    bill = json.loads(text)
    parts = {part["name"]: part for part in bill["components"]}
    assert parts["onnxruntime"]["purl"] == f"pkg:pypi/onnxruntime@{version('onnxruntime')}"
    assert parts["numpy"]["version"] == version("numpy")
    (model,) = parts["onnx-int8"]["components"]
    assert model["name"] == "model/model.onnx"
    for part in (model, *(part for part in bill["components"] if part["type"] == "file")):
        digest = hashlib.sha256((tmp_path / "out" / part["name"]).read_bytes()).hexdigest()
        assert part["hashes"] == [{"alg": "SHA-256", "content": digest}]
    programs = {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.py")}
    assert programs <= parts.keys(), "every program is listed"
    assert str(tmp_path) not in text and str(bars_made) not in text
    assert cli("deploy", bars_made / "onnx-int8", "--bundle", "again").code == 0
    assert (tmp_path / "again" / FILE).read_text() == text
