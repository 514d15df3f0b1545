"""In a job of GitHub Actions: annotations, the job's summary, and no name that the runner obeys."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ended, environment
from report.made_up import measurement, metric
from report.test_files import write_results

from edgekit.cli import compare
from edgekit.cli.shared import github
from edgekit.core.errors import NoPermission

#: what the runner takes for a command: the line's beginning after white space, or `##[` anywhere
OBEYED = re.compile(r"^\s*::.*|^.*##\[.*", re.MULTILINE)
REASON = "::stop-commands::x%0A##[error]y, z\r\n::error::a " + "::" * 60

Job = Callable[..., Ended]


@pytest.fixture
def job(cli: Callable[..., Ended], tmp_path: Path) -> Job:
    """A command in a job, whose summary is `summary.md`; the old rows are the baseline of the new ones."""
    (tmp_path / "summary.md").write_text("# Other steps\n")
    write_results(tmp_path, [measurement(), measurement("gone")], "old")
    write_results(tmp_path, [measurement(size_bytes=200_000, facts={"agreement": {"wrong": REASON}})], "new")
    extra = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md")}

    def call(*words: object) -> Ended:
        return cli(*words, env=environment(**extra))

    return call


GATED = ("compare", "new/results.json", "--against", "old/results.json", "--stored")
LIMITS = ("--fail-if", "size>+2%", "--fail-if", "metric<-1pp")


def test_gates_are_annotated_and_summed_up(job: Job, tmp_path: Path) -> None:
    ended = job(*GATED, *LIMITS, "--junit", "gates.xml")
    assert ended.code == 1
    obeyed = OBEYED.findall(ended.err)
    assert [line.split()[0] for line in obeyed] == ["::notice", "::warning", "::warning", "::error", "::error"]
    assert obeyed[0] == "::notice title=edgekit::0 of 4 gates passed, 2 failed, 2 undecided"
    assert obeyed[1].startswith("::warning title=size>+2%25 is undecided::gone on host in onnxruntime: 100.0 kB before")
    assert obeyed[4].startswith("::error title=metric<-1pp failed::onnx on host in onnxruntime: 90.00%25 before")
    assert "now; ::stop-commands::x%250A## [error]y, z ::error::a ::" in obeyed[4]
    assert not OBEYED.findall(ended.out) and "::stop-commands" in ended.out and "## [error]y" in ended.out
    text = (tmp_path / "summary.md").read_text()
    assert text.startswith("# Other steps\n**0 of 4 gates passed")
    assert 'failures="2"' in (tmp_path / "gates.xml").read_text()


def test_every_failure_is_annotated(job: Job, tmp_path: Path) -> None:
    ended = job("compare", "nowhere.json", "--json")
    assert ended.code == 2 and ended.json["error"]["code"] == 2
    assert [line.split("::")[1] for line in OBEYED.findall(ended.err)] == ["error title=edgekit"]
    row = measurement("a", metric=metric(name="##[error]"))
    ended = job("compare", write_results(tmp_path, [row], "third"), "--json")
    assert ended.code == 0 and "##[" not in ended.out
    assert json.loads(ended.out)["measurements"][0]["metric"]["name"] == "##[error]"


def test_a_summary_is_written_once_and_not_too_large(job: Job, tmp_path: Path) -> None:
    place = tmp_path / "summary.md"
    job(*GATED, *LIMITS, "--markdown", place)
    assert place.read_text().count("gates passed") == 1
    place.write_bytes(b"x" * (1 << 20))
    assert "the job's summary was not written: it would be larger" in job(*GATED, *LIMITS).err
    assert place.stat().st_size == 1 << 20


def test_a_summary_that_cannot_be_written_hides_no_verdict(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refused(text: str) -> str:
        raise NoPermission("cannot write summary.md")

    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setattr(github, "add_to_summary", refused)
    compare._tell_github([], False, lambda: "", None)
    assert "the job's summary was not written: cannot write summary.md" in capfd.readouterr().err


def test_elsewhere_nothing_is_annotated(cli: Callable[..., Ended], tmp_path: Path, job: Job) -> None:
    ended = cli(*GATED, *LIMITS)
    assert ended.code == 1 and "title=" not in ended.err
    assert "0 of 4 gates passed, 2 failed, 2 undecided" in ended.out
    assert (tmp_path / "summary.md").read_text() == "# Other steps\n"
