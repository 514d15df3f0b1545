"""A small budget of damaged files in every run of the tests, what once failed, and more at night: see `make fuzz`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import attack
from helpers import environment

HERE = Path(__file__).parent


def fuzz(folder: Path, *words: object) -> dict[str, list[dict[str, object]]]:
    command = [sys.executable, str(HERE), "--json", str(folder / "fuzz.json"), "--failed", str(folder / "failed")]
    done = subprocess.run([*command, *map(str, words)], env=environment(), cwd=folder, capture_output=True, text=True)
    assert (folder / "fuzz.json").is_file(), done.stderr[-2000:]
    found: dict[str, list[dict[str, object]]] = json.loads((folder / "fuzz.json").read_text())
    return found


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    found = fuzz(tmp_path, "--count", 300, "--minutes", 3)
    assert sum(row["inputs"] for row in found["rows"]) >= 60  # type: ignore[misc]
    assert found["ways"] == []


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_many_damaged_files_end_in_one_line(tmp_path: Path) -> None:
    assert fuzz(tmp_path, "--first", 1000, "--minutes", 30)["ways"] == []


def test_the_fuzzer_sees_what_is_wrong(tmp_path: Path) -> None:
    """The judge itself: a traceback, a file written outside, a hang and an escape code are all found."""
    seeds = tmp_path / "seeds"
    seeds.mkdir()
    (seeds / "a.txt").write_text("valid")
    (tmp_path / "place").mkdir()
    place = attack.Place(seeds, tmp_path / "place")
    outside = place.outside / "written"
    assert place._wrong(0, b"fine", 0.1, 1000, False) == []
    (place.work / "a.txt").unlink()
    outside.touch()
    said = b"Traceback (most recent call last):\n\x1b[2J"
    wrong = " ".join(place._wrong(70, said, 21.0, 3 * 1024**3, False))
    for part in (
        "exit code 70",
        "a traceback",
        "control characters",
        "21 s",
        "3.0 GB",
        "work/a.txt",
        "outside/written",
    ):
        assert part in wrong
    assert not outside.exists() and (place.work / "a.txt").read_text() == "valid", "the next input finds all as it was"
    (place.outside / "executed").touch()
    assert "executed" in " ".join(place._wrong(0, b"", 0, 0, False))
