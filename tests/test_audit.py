"""The locked versions: all of constraints.txt, with hashes, and none with a known vulnerability."""

from __future__ import annotations

import re
from pathlib import Path

import audit
import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def pins(path: Path) -> dict[str, set[str]]:
    """Package → its pinned versions."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([\w.+]+)", path.read_text(), re.MULTILINE):
        found.setdefault(name.lower().replace("_", "-"), set()).add(version)
    return found


def test_the_lock_has_the_versions_of_the_constraints() -> None:
    locked, wanted = pins(ROOT / "requirements.lock"), pins(ROOT / "constraints.txt")
    del wanted["torch"]  # a CPU build where pip finds one
    assert {name: locked.get(name) for name in wanted} == wanted, "run make lock"


def test_every_locked_package_has_hashes() -> None:
    entries = re.split(r"^(?=[\w.-]+==)", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)
    assert not [entry.split()[0] for entry in entries if "==" in entry and "--hash=sha256:" not in entry]


#: extras that `make` does not install: CI puts them into a folder of their own
NOT_INSTALLED = ("mlflow", "wandb")


def test_the_lock_has_every_requirement() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = {name: lines for name, lines in extras["optional-dependencies"].items() if name not in NOT_INSTALLED}
    lists = [extras["dependencies"], *optional.values()]
    wanted = [Requirement(text) for requirements in lists for text in requirements]
    locked = pins(ROOT / "requirements.lock")
    for requirement in wanted:
        if requirement.name in ("torch", "edgekit-toolkit"):
            continue
        versions = locked.get(requirement.name.lower(), set())
        assert versions and all(requirement.specifier.contains(version) for version in versions), requirement


def test_a_package_that_was_not_looked_up_is_not_passed() -> None:
    assert audit.verdict([{"name": "a", "version": "1", "vulns": []}])[0] == 0
    assert audit.verdict([{"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "?"}])[0] == 3
    assert audit.verdict([])[0] == 3
    hole = {"name": "b", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
    assert audit.verdict([hole, {"name": "c", "skip_reason": "?"}]) == (1, ["b 2: CVE-1, fixed in 3"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_locked_version_has_a_known_vulnerability() -> None:
    answers = [audit.audited(service) for service in audit.SERVICES]
    verdicts = [audit.verdict(answer) for answer in answers if not isinstance(answer, str)]
    found = [lines for code, lines in verdicts if code == 1]
    assert not found
    if all(code == 3 for code, _ in verdicts):
        pytest.skip(f"no service of advisories could be reached from here: {answers[-1]!s:.100}")
