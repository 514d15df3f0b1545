"""`edgekit targets add, check, clean`, and what several targets do to a run: the command line, on a real sshd."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from devices.sshd import Board
from helpers import Ended

Cli = Callable[..., Ended]
QUICK = ("--processes", 1, "--samples", 50)
#: a board of whoever runs this: user@host
PI = os.environ.get("EDGEKIT_PI", "")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "edgekit" / "targets"


@pytest.fixture
def added(cli: Cli, board: Board, config: Path) -> Path:
    ended = cli("targets", "add", "board", "--ssh", board.address)
    assert ended.code == 0, ended.err
    return config / "board.toml"


def test_add_reads_the_device(cli: Cli, board: Board, added: Path, check_document: Callable[..., None]) -> None:
    host = cli("targets", "show", "host", "--json").json["result"]
    mine = cli("targets", "show", "board", "--json").json["result"]
    for field in ("arch", "isa", "cores", "memory_mb", "isa_class"):
        assert mine[field] == host[field]
    assert mine["address"] == board.address and mine["runtimes"]["onnxruntime"]
    assert "board" in cli("targets", "list").out
    again = cli("targets", "add", "board", "--ssh", board.address)
    assert again.code == 2 and "--replace" in again.line
    replaced = cli(
        "targets", "add", "board", "--ssh", "alias", "--replace", "--like", "raspberry-pi-zero-2-w", "--json"
    )
    check_document(replaced.json)
    assert replaced.json["result"]["address"] == "alias"
    assert set(replaced.json["result"]["runtimes"]) == {"onnxruntime", "litert"}, "as the board it is like"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("x", "--ssh", "-oProxyCommand=touch pwned"), 2),
        (("../x", "--ssh", "me@pi"), 2),
        (("x", "--ssh", "me@pi", "--python", "$(touch pwned)"), 2),
        (("x", "--ssh", "me@pi", "--like", "no-such"), 2),
        (("x", "--ssh", "me@no-such-host.invalid"), 4),
        (("x",), 2),
    ],
)
def test_what_cannot_be_added(cli: Cli, config: Path, tmp_path: Path, words: tuple[str, ...], code: int) -> None:
    ended = cli("targets", "add", *words)
    assert ended.code == code and ended.line
    assert not config.exists() and not (tmp_path / "pwned").exists()


def test_a_shipped_name_is_not_taken(cli: Cli, board: Board, config: Path) -> None:
    ended = cli("targets", "add", "raspberry-pi-5", "--ssh", board.address)
    assert ended.code == 2 and "there is already a target" in ended.line


def test_check(cli: Cli, board: Board, added: Path, check_document: Callable[..., None]) -> None:
    ended = cli("targets", "check", "board", "--json")
    assert ended.code == 0, ended.err
    check_document(ended.json)
    found = {check["what"]: check for check in ended.json["result"]}
    assert set(found) >= {"reached", "machine", "Python", "C library", "disk", "clock", "temperature", "onnxruntime"}
    assert found["onnxruntime"]["found"].endswith("(in the device's own Python)")
    assert not any(check["state"] == "failed" for check in found.values())
    board.shim("date", "echo 86400")
    board.shim("df", "echo 'F 1024-blocks Used Available Capacity Mounted'; echo '/dev/x 100 90 10 90% /'")
    worse = {check["what"]: check for check in cli("targets", "check", "board", "--json").json["result"]}
    assert worse["clock"]["state"] == worse["disk"]["state"] == "warning"
    assert "days" in worse["clock"]["found"] and "clean board" in worse["disk"]["next"]


def test_check_of_one_that_cannot_be_reached(cli: Cli, config: Path, tmp_path: Path) -> None:
    add(config, "dead")
    ended = cli("targets", "check", "dead", "--json")
    assert ended.code == 4
    (check,) = ended.json["result"]
    assert (check["what"], check["state"]) == ("reached", "failed") and "systemctl" in check["next"]
    assert "FAILED" in cli("targets", "check", "dead").out


def test_check_and_clean_of_those_that_are_no_device(cli: Cli) -> None:
    assert cli("targets", "check", "host").code == 0
    assert cli("targets", "check", "android-arm64").code == 2
    no_address = cli("targets", "check", "raspberry-pi-5")
    assert no_address.code == 2 and "edgekit targets add my-raspberry-pi-5" in no_address.line
    assert cli("targets", "clean", "host").code == 2


def add(config: Path, name: str) -> None:
    """A target that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config.mkdir(parents=True, exist_ok=True)
    (config / f"{name}.toml").write_text(
        f'name = "{name}"\ntitle = ""\ndevice = "ssh"\naddress = "me@127.0.0.1:{port}"\n'
        'runtimes = { onnxruntime = "" }\n'
    )


def test_bench_there(cli: Cli, added: Path, bars_run: Path, check_document: Callable[..., None]) -> None:
    ended = cli("bench", bars_run, "--target", "board", *QUICK, "--json")
    assert ended.code == 0, ended.err
    check_document(ended.json)
    found = {m["artifact"]: m for m in ended.json["measurements"]}
    assert set(found) == {"onnx", "onnx-int8"}, "torch has no runtime there"
    for one in found.values():
        assert (one["target"], one["provenance"], one["runtime"]) == ("board", "measured", "onnxruntime")
        assert one["latency_ms"]["p50"] > 0 and one["metric"]["samples"] == 50 and one["peak_rss_bytes"] > 0
        assert one["facts"]["arch"] and one["facts"]["packages"]["numpy"]
    table = cli("bench", bars_run / "onnx", "--target", "board", *QUICK)
    assert table.code == 0 and "board" in table.out
    cleaned = cli("targets", "clean", "board", "--json")
    assert cleaned.code == 0 and cleaned.json["result"]["bytes"] > 0
    assert not Path(cleaned.json["result"]["root"]).exists()


def test_the_operators_times_there(cli: Cli, added: Path, bars_run: Path, check_document: Callable[..., None]) -> None:
    ended = cli("inspect", bars_run / "onnx-int8", "--times", "--target", "board", "--json")
    assert ended.code == 0, ended.err
    check_document(ended.json)
    found = ended.json["result"]["times"]
    assert (found["target"], found["provenance"], found["against"]) == ("board", "measured", "onnx")
    assert found["total_us"] > 0 and any("int8" in entry["precisions"] for entry in found["types"])
    shown = cli("inspect", bars_run / "onnx", "--times", "--target", "board")
    assert " on board, 1 thread" in shown.out and all(
        len(line) <= 80 or len(line.split()) == 1 for line in shown.out.splitlines()
    )
    assert cli("inspect", bars_run / "onnx", "--times", "--target", "no-such").code == 2


def test_run_on_several_measures_only_what_is_missing(
    members: None, board: Board, added: Path, config: Path, bars_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host, a board, and one that is not there: the two finish; once it is there, only it is measured."""
    from edgekit.measure.context import Outcome
    from edgekit.workflows import run as runs

    # a busy machine would have them measured again
    monkeypatch.setattr("edgekit.measure.execute._disturbance", lambda *_: "")
    monkeypatch.chdir(bars_run.parent)
    add(config, "late")

    def run() -> tuple[Outcome, dict[tuple[str, str], str]]:
        outcome = runs.run("bars.toml", out=bars_run, target_names=("late", "host", "board"))
        return outcome, {(m.target, m.artifact): m.session for m in outcome.measurements}

    first, before = run()
    (failure,) = first.failures
    assert failure.code == 4 and "no ssh server of late answers" in failure.what
    assert [*dict.fromkeys(target for target, _ in before)] == ["host", "board"]
    stored = json.loads((bars_run / "results.json").read_text())["measurements"]
    assert {m["target"] for m in stored} == {"host", "board"}
    text = (config / "late.toml").read_text()
    there = next(line for line in text.splitlines() if "address" in line)
    (config / "late.toml").write_text(text.replace(there, f'address = "{board.address}"'))
    second, after = run()
    assert not second.failures
    assert {key: after[key] for key in before} == before, "what was finished is kept"
    assert {target for target, _ in set(after) - set(before)} == {"late"}
    third, same = run()
    assert same == after and third.reused == len(third.artifacts) + len(after)


def test_one_that_dies_in_mid_run_holds_up_nobody(
    members: None, board: Board, added: Path, config: Path, bars_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two devices; the plug of one is pulled after its third process. Nothing partial is counted."""
    from edgekit.devices.ssh import Ssh
    from edgekit.workflows import bench

    monkeypatch.setattr("edgekit.measure.execute._disturbance", lambda *_: "")
    text = (config / "board.toml").read_text().replace('name = "board"', 'name = "dying"')
    (config / "dying.toml").write_text(text.replace(f'address = "{board.address}"', 'address = "twin"'))
    real, ran = Ssh.run, [0]

    def run(self: Ssh, *words: Any) -> Any:
        if self.target.name == "dying":
            ran[0] += 1
            if ran[0] == 4:
                self.session._process.kill()
        return real(self, *words)

    monkeypatch.setattr(Ssh, "run", run)
    plan = {"processes": 3, "seconds": 0.01, "samples": 20}
    outcome = bench.bench([str(bars_run)], target_names=("dying", "board"), plan=plan)
    (failure,) = outcome.failures
    assert failure.code == 4 and "the connection to dying was lost" in failure.what
    assert ran[0] == 4
    assert {(m.target, m.artifact) for m in outcome.measurements} == {("board", "onnx"), ("board", "onnx-int8")}
    assert "dying" not in (bars_run / "results.json").read_text()


def test_a_device_that_fails_wins_over_an_answer(cli: Cli, config: Path, bars_run: Path) -> None:
    add(config, "dead")
    ended = cli("bench", bars_run / "onnx", "--target", "dead", "--target", "null", *QUICK, "--json")
    assert ended.code == 4 and ended.json["error"]["code"] == 4
    assert ended.err.splitlines()[-1].startswith("edgekit: no ssh server of dead answers")


def test_run_refuses_before_any_work_what_nothing_can_reach(cli: Cli, tmp_path: Path, bars_made: Path) -> None:
    (tmp_path / "bars.toml").write_text((bars_made.parent / "bars.toml").read_text())
    for target, said in (
        ("raspberry-pi-4", "targets add my-raspberry-pi-4"),
        ("android-arm64", "targets add my-phone --adb"),
    ):
        ended = cli("run", "bars.toml", "--out", "new", "--target", target)
        assert ended.code == 2 and said in ended.line
        assert not (tmp_path / "new").exists()


@pytest.mark.skipif(not PI, reason="no board: set EDGEKIT_PI=user@host")
def test_a_real_board(cli: Cli, config: Path, bars_run: Path) -> None:
    assert cli("targets", "add", "pi", "--ssh", PI).code == 0
    assert cli("targets", "check", "pi").code == 0
    ended = cli("bench", bars_run, "--target", "pi", *QUICK, "--json")
    assert ended.code == 0 and {m["target"] for m in ended.json["measurements"]} == {"pi"}
