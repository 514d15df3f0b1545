"""The notebook of the Python API runs from its first cell to its last, and leaves what it says it does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from helpers import TESTS, environment

NOTEBOOK = TESTS.parent / "docs" / "edgekit.ipynb"


def _cells(kind: str) -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == kind]


def test_it_holds_no_outputs_and_nothing_but_python() -> None:
    document = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    assert all(cell["id"] for cell in document["cells"])
    for cell in document["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)
    for number, source in enumerate(_cells("code")):
        compile(source, f"cell {number}", "exec")


@pytest.mark.slow
@pytest.mark.timeout(660)
def test_every_cell_runs(tmp_path: Path) -> None:
    """As plain Python, one cell after another in one process: what a notebook's kernel does with them."""
    end = "\nassert picture._repr_svg_().startswith('<svg')\n"
    (tmp_path / "cells.py").write_text("\n\n".join(_cells("code")) + end)
    done = subprocess.run(
        [sys.executable, "cells.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "notebook/torch" in done.stdout and "onnx-int8" in done.stdout and "On host" in done.stdout
    ElementTree.parse(tmp_path / "notebook.svg")
    page = (tmp_path / "notebook.html").read_text(encoding="utf-8")
    assert "train → " in page and " → onnx_int8" in page, "whatever lies between: the method search chooses"
    assert "data:image/png;base64," in page
