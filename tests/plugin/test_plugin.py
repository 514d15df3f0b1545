"""A package of somebody else's adds a format, two steps and a runtime: installed for real, and driven by the commands.

`edgekit-plainnet` was written from `docs/CONTRIBUTING.md` alone. A second copy of it has a runtime with a syntax
error, and a third lacks a package: they fail the commands that need them, and no others.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ended, environment, run_cli

import edgekit

SOURCE = Path(__file__).parent / "edgekit-plainnet"
Run = Callable[..., Ended]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that pip installed the package into, with its entry points."""
    folder = tmp_path_factory.mktemp("site")
    source = shutil.copytree(SOURCE, folder / "source")  # the build leaves files there
    words = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--target"]
    command = [sys.executable, "-m", "pip", "install", "-q", *words, str(folder / "site"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


def beside(site: Path) -> dict[str, str]:
    """The environment of a process that has the package installed."""
    found = environment()
    return {
        **found,
        "PYTHONPATH": os.pathsep.join([str(site), str(Path(edgekit.__file__).parents[1]), found["PYTHONPATH"]]),
    }


@pytest.fixture(scope="module")
def run(site: Path, bars_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """`edgekit WORDS` where the package is installed, in a folder with a copy of the bars run."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(bars_made, folder / "run")
    shutil.copy(bars_made.parent / "bars.toml", folder / "bars.toml")
    return lambda *words: run_cli(*words, cwd=folder, env=beside(site))


@pytest.fixture(scope="module")
def made(run: Run) -> Run:
    """The same, the network exported and quantized."""
    exported = run("export", "run", "--to", "plainnet", "--json")
    assert exported.code == 0, exported.err
    assert [a["name"] for a in exported.json["artifacts"]] == ["plainnet"]
    quantized = run("quantize", "run", "--int8", "--to", "plainnet", "--methods", "min-max,percentile,keep-float,qat")
    assert quantized.code == 0, quantized.err
    assert "skipped   percentile: plainnet_int8 calibrates by itself, by min-max" in quantized.out + quantized.err
    assert "against plainnet," in quantized.out + quantized.err, "int8 is compared with the float model of its format"
    return run


def test_it_is_verified(made: Run) -> None:
    for name, against, least in (("plainnet", "torch", 60), ("plainnet-int8", "plainnet", 15)):
        ended = made("verify", f"run/{name}")
        assert ended.code == 0, ended.err
        found = re.search(rf"(\d+) dB against {against}", ended.out + ended.err)
        assert found and int(found[1]) >= least, ended.out + ended.err


def test_it_is_measured_and_compared(made: Run) -> None:
    """The host has the runtime without a word in its target file, and gives it the smaller model's accuracy."""
    ended = made("bench", "run/plainnet", "run/plainnet-int8", "--quick", "--json")
    assert ended.code == 0, ended.err
    found = {m["artifact"]: m for m in ended.json["measurements"]}
    assert set(found) == {"plainnet", "plainnet-int8"}
    assert all(m["runtime"] == "plainnet" and m["latency_ms"]["p50"] > 0 for m in found.values())
    assert found["plainnet-int8"]["precision"] == "int8"
    assert found["plainnet-int8"]["size_bytes"] < found["plainnet"]["size_bytes"]
    assert abs(found["plainnet-int8"]["metric"]["drop_pp"]) < 5
    compared = made("compare", "run")
    assert compared.code == 0 and "plainnet-int8" in compared.out, compared.err


@pytest.mark.slow
def test_its_own_tests_pass(site: Path, tmp_path: Path) -> None:
    """The shipped contract suites, in a file of a few lines."""
    shutil.copytree(SOURCE / "tests", tmp_path / "tests")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--rootdir=.", "tests"]
    done = subprocess.run(command, cwd=tmp_path, env=beside(site), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    (passed,) = re.findall(r"(\d+) passed", done.stdout)
    assert int(passed) > 30 and not re.search(r"failed|error|skipped", done.stdout.splitlines()[-1])


@pytest.fixture(params=["a syntax error", "a package that is not installed", "a member that lacks its format"])
def broken(request: pytest.FixtureRequest, site: Path, bars_run: Path, tmp_path: Path) -> tuple[Run, str, int]:
    """A copy of the package whose runtime cannot be used; what is said of it, and the exit code."""
    shutil.copytree(site, tmp_path / "site")
    runtime = tmp_path / "site" / "edgekit_plainnet" / "runtime.py"
    text = runtime.read_text()
    cases = {
        "a syntax error": ("class Plainnet:", "class Plainnet", "SyntaxError: expected ':' (runtime.py, line ", 2),
        "a package that is not installed": (
            "import json\n",
            "import json\nimport plainnet_core\n",
            "No module named 'plainnet_core' (runtime.py, line 6)",
            3,
        ),
        "a member that lacks its format": ('    formats = ("plainnet",)\n', "", "it has no formats", 2),
    }
    old, new, said, code = cases[request.param]
    changed = text.replace(old, new, 1)
    assert changed != text
    runtime.write_text(changed)
    return (lambda *words: run_cli(*words, cwd=tmp_path, env=beside(tmp_path / "site"))), said, code


def test_a_broken_package_fails_only_what_needs_it(broken: tuple[Run, str, int]) -> None:
    run, said, code = broken
    others = [["targets", "list"]]
    if "SyntaxError" in said:  # one is enough for those that take longer
        others += [["run", "bars.toml", "--out", "run"], ["bench", "run/onnx", "--quick"]]
    for words in others:
        ended = run(*words)
        assert ended.code == 0, ended.err
        lines = [line for line in ended.err.splitlines() if "plainnet" in line]
        assert len(lines) <= 1 and all(line.startswith("warning: the runtime plainnet of") for line in lines), ended.err
    doctor = run("doctor", "--json").json["result"]["broken"]
    runtime = next(entry for entry in doctor if entry["group"] == "runtimes")
    assert runtime["name"] == "plainnet" and "edgekit-plainnet" in runtime["what"] and said in runtime["why"]
    if "no formats" in said:
        return
    ended = run("export", "run", "--to", "plainnet")
    assert ended.code == code and said in ended.line and "edgekit-plainnet" in ended.line
    assert "bug" not in ended.err
