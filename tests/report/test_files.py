"""`edgekit compare` writes the files it was asked for, 80 columns on the terminal beside them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from report.made_up import many

from edgekit.core.artifact import SCHEMA
from edgekit.core.measurement import Measurement


def write_results(folder: Path, measurements: Sequence[Measurement] = (), name: str = "a-run") -> Path:
    """A results file in a folder of its own."""
    path = folder / name / "results.json"
    path.parent.mkdir()
    document = {"schema": SCHEMA, "measurements": [dataclasses.asdict(m) for m in measurements or many(8)]}
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return write_results(tmp_path)


def test_compare_writes_what_it_was_asked_for(cli: Callable[..., Any], results: Path, tmp_path: Path) -> None:
    ended = cli(
        "compare", results, "--html", "a.html", "--picture", "a.svg", "--summary", "b.svg", "--markdown", "a.md"
    )
    assert ended.code == 0, ended.err
    assert max(map(len, ended.out.splitlines())) <= 80
    assert "<title>a-run</title>" in (tmp_path / "a.html").read_text(encoding="utf-8")
    ElementTree.parse(tmp_path / "a.svg"), ElementTree.parse(tmp_path / "b.svg")
    assert (tmp_path / "a.md").read_text(encoding="utf-8").startswith("| artifact")


def test_another_kind_of_picture_is_refused_before_any_work(cli: Callable[..., Any], results: Path) -> None:
    ended = cli("compare", results, "--html", "a.html", "--summary", "a.jpg")
    assert ended.code == 2 and ".svg, .png and .pdf" in ended.line
    assert {path.name for path in results.parents[1].iterdir()} == {"a-run"}


def test_a_place_that_cannot_be_written_is_told_in_a_line(cli: Callable[..., Any], results: Path) -> None:
    ended = cli("compare", results, "--html", "nowhere/a.html")
    assert ended.code == 2
    assert "nowhere" in ended.line
