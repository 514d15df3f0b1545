"""The guide page "bring your own": its files are written and its commands run, in order, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ONE_THREAD

GUIDE = Path(__file__).parents[1] / "docs" / "bring-your-own.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_every_command_of_the_guide(tmp_path: Path) -> None:
    commands = 0
    for kind, text in BLOCKS:
        if kind == "toml":
            continue
        if kind == "python":
            name = re.match(r"# (\w+\.py)\n", text)
            assert name, "a file's first line is its name"
            (tmp_path / name.group(1)).write_text(text)
            continue
        for line in text.splitlines():
            program, *words = shlex.split(line)
            command = [sys.executable, *(["-m", "edgekit"] if program == "edgekit" else []), *words]
            done = subprocess.run(
                command, cwd=tmp_path, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
            commands += 1
    assert commands > 15


def test_the_guide_holds_files_and_commands_only() -> None:
    assert {kind for kind, _ in BLOCKS} <= {"python", "sh", "toml"}
    for kind, text in BLOCKS:
        if kind == "sh":
            assert all(line.split()[0] in ("edgekit", "python") for line in text.splitlines())
