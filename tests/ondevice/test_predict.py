"""A bundle's program reads files of its own folder only."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from edgekit.ondevice import predict, table

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


def test_rows_are_run_in_one_call_and_numbered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(predict, "HERE", str(tmp_path))
    shutil.copy(table.__file__, tmp_path)
    front = {"kind": "table", "input": "x", "columns": [{"name": "a"}, {"name": "b"}], "shape": [2]}
    inputs = [{"name": "x", "shape": [None, 2]}]
    manifest = {**MANIFEST, "inputs": inputs, "preprocessing": front, "labels": []}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    calls: list[int] = []

    def run(manifest: object, arrays: dict[str, Any], threads: int) -> dict[str, Any]:
        calls.append(len(arrays["x"]))
        return {"y": arrays["x"] + 1}

    monkeypatch.setattr(predict, "predict", run)
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n3,4\n")
    (tmp_path / "one.csv").write_text("a,b\n5,6\n")
    assert predict.main(["rows.csv", "one.csv"]) == 0 and calls == [2, 1]
    assert capsys.readouterr().out == "rows.csv[0]: y [2. 3.]\nrows.csv[1]: y [4. 5.]\none.csv: y [6. 7.]\n"
    for text, said in (("a,b\n", "it has no rows"), ("a,b\n1,2\n1,1e300\n", "row 2: a number is too large")):
        (tmp_path / "rows.csv").write_text(text)
        assert predict.main(["rows.csv"]) == 2 and said in capsys.readouterr().err
