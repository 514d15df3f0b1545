"""A bundle's program reads files of its own folder only."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from edgekit.ondevice import predict

MANIFEST: dict[str, Any] = {
    "files": {"model/model.onnx": {}},
    "runtime_file": "runtime/onnxruntime.py",
    "model": "model/model.onnx",
    "check": {
        "inputs": "check/inputs.npz",
        "outputs": "check/outputs.npz",
        "files": {"answers": "check/answers.npz", "names": ["check/files/00.png"]},
    },
}


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "model/link/secret", "a\0", 3, None])
def test_names_outside_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: object) -> None:
    monkeypatch.setattr(predict, "HERE", str(tmp_path / "bundle"))
    (tmp_path / "bundle" / "model").mkdir(parents=True)
    (tmp_path / "bundle" / "model" / "link").symlink_to(tmp_path)
    predict.check_names(MANIFEST)
    for place in ("runtime_file", "model", "check/inputs", "check/outputs", "check/files/answers", "check/files/names"):
        manifest = copy.deepcopy(MANIFEST)
        *folders, last = place.split("/")
        entry = manifest
        for folder in folders:
            entry = entry[folder]
        entry[last] = [name] if last == "names" else name
        with pytest.raises(predict.InvalidInput, match="not a file of this bundle"):
            predict.check_names(manifest)
    with pytest.raises(predict.InvalidInput):
        predict.check_names({**MANIFEST, "files": {name: {}}})
