"""`make audit`: known vulnerabilities of every version in requirements.lock, by pip-audit.

Exit code 0: every package was looked up and none has a known vulnerability. 1: some have. 3: the advisories could not
be had, or not for every package; pip-audit itself calls that success.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path(__file__).parents[1] / "requirements.lock"
SERVICES = ("pypi", "osv")
SECONDS = 240


def audited(service: str, lock: Path = LOCK) -> list[dict[str, Any]] | str:
    """pip-audit's record of each package, or why there is none."""
    command = [sys.executable, "-m", "pip_audit", "-r", str(lock), "--disable-pip", "--require-hashes"]
    command += ["-s", service, "-f", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return f"it took longer than {SECONDS} s"
    except ValueError:
        return (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1][:200]
    return found


def verdict(packages: list[dict[str, Any]]) -> tuple[int, list[str]]:
    """The exit code and the lines to print."""
    found = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version yet'}"
        for package in packages
        for vulnerability in package.get("vulns", ())
    ]
    unknown = [package["name"] for package in packages if "vulns" not in package]
    if found:
        return 1, found
    if unknown or not packages:
        return 3, [f"{len(unknown)} of {len(packages)} packages could not be looked up: {', '.join(unknown[:5])} …"]
    return 0, [f"{len(packages)} packages, no known vulnerability"]


def main() -> int:
    code, lines = 3, [f"{LOCK.name} names no packages"]
    for service in SERVICES:
        answer = audited(service)
        code, lines = verdict(answer) if not isinstance(answer, str) else (3, [answer])
        print(f"{service}: " + "\n".join(lines))
        if code != 3:
            break
    return code


if __name__ == "__main__":
    sys.exit(main())
