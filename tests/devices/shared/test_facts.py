"""What devices say of themselves, read from recorded outputs; where each comes from stands in its first line."""

from __future__ import annotations

import json
import string
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.devices.shared.environment import platforms
from edgekit.devices.shared.facts import MOST_CORES, SCRIPT, Facts, cores, isa, parse_facts, sections
from edgekit.measure import targets
from edgekit.workflows.targets.check import check_facts

RECORDED = Path(__file__).parent / "recorded"


def facts(name: str) -> Facts:
    return parse_facts(sections((RECORDED / f"{name}.txt").read_text()))


def test_a_raspberry_pi_4() -> None:
    found = facts("raspberry-pi-4")
    assert found == Facts(
        system="Linux",
        release="6.6.31+rpt-rpi-v8",
        arch="aarch64",
        cpu="Cortex-A72",
        isa=("asimd",),
        cores=4,
        memory_bytes=3885396 * 1024,
        model="Raspberry Pi 4 Model B Rev 1.4",
        glibc=(2, 36),
        os="Debian GNU/Linux 12 (bookworm)",
        page_bytes=4096,
        free_bytes=22944532 * 1024,
        clock=1732000000,
        temperature=47.712,
        governor="ondemand",
        throttled=0,
        python=(3, 11, 2),
        implementation="cpython",
        bits=64,
    )


@pytest.mark.parametrize("board", ["raspberry-pi-4", "raspberry-pi-5", "jetson-orin-nano"])
def test_the_shipped_targets_say_what_their_boards_say(board: str) -> None:
    target, found = targets.load(board), facts(board)
    assert (target.arch, set(target.isa), target.cores) == (found.arch, set(found.isa), found.cores)
    assert target.isa_class == "arm64"


def test_boards_that_differ() -> None:
    five, jetson, mixed = facts("raspberry-pi-5"), facts("jetson-orin-nano"), facts("big-little")
    assert five.isa == ("asimd", "asimdhp", "asimddp") and five.page_bytes == 16384
    assert five.throttled & 0b1111 == 0b1000
    assert jetson.cpu == "Cortex-A78AE" and jetson.temperature == 48.843, "zones that are off read -256"
    assert mixed.cpu == "Cortex-A55 + Cortex-A76" and mixed.cores == 8
    small = facts("alpine-32")
    assert (small.arch, small.isa, small.python, small.bits, small.glibc) == ("armv7l", ("neon",), None, 0, None)
    assert small.cpu.startswith("ARMv7")
    assert facts("raspberry-pi-3-32-bit").bits == 32


def test_flags_that_only_some_cores_have_do_not_count() -> None:
    text = "processor: 0\nFeatures: asimd asimddp\nprocessor: 1\nFeatures: asimd\n"
    assert isa(text) == ("asimd",)
    assert cores(text) == 2


def test_a_system_that_tells_nothing() -> None:
    found = facts("noise")
    assert (found.arch, found.cores, found.memory_bytes, found.python) == ("", 0, 0, None)
    assert (found.free_bytes, found.temperature, found.throttled, found.clock) == (None, None, 0, 0)


def test_what_identifies_a_machine_does_not_change_with_its_weather() -> None:
    text = (RECORDED / "raspberry-pi-5.txt").read_text()
    warmer = text.replace("82650", "40000").replace("52470000", "1000").replace("1732000000", "1732000500")
    assert warmer != text
    identity = facts("raspberry-pi-5").identity()
    assert parse_facts(sections(warmer)).identity() == identity == json.loads(json.dumps(identity))
    assert identity["board"] == "Raspberry Pi 5 Model B Rev 1.0"


def test_every_wheel_that_glibc_can_load_is_asked_for() -> None:
    pi = platforms(facts("raspberry-pi-4"))
    assert pi[0] == "manylinux_2_36_aarch64" and pi[-1] == "manylinux2014_aarch64"
    assert {"manylinux_2_28_aarch64", "manylinux_2_17_aarch64"} <= set(pi)
    assert platforms(facts("alpine-32")) == []


@pytest.mark.parametrize(
    ("board", "what", "state", "found"),
    [
        ("raspberry-pi-4", "disk", "ok", "MB free"),
        ("raspberry-pi-4", "governor", "warning", "ondemand"),
        ("raspberry-pi-4", "C library", "ok", "glibc 2.36"),
        ("raspberry-pi-5", "temperature", "warning", "soft temperature limit"),
        ("raspberry-pi-3-32-bit", "Python", "warning", "32-bit"),
        ("raspberry-pi-3-32-bit", "disk", "warning", "115 MB free"),
        ("raspberry-pi-3-32-bit", "clock", "warning", "days"),
        ("raspberry-pi-3-32-bit", "temperature", "warning", "undervoltage, throttled"),
        ("alpine-32", "Python", "failed", "there is none"),
        ("alpine-32", "C library", "warning", "not glibc"),
        ("alpine-32", "machine", "failed", "it is armv7l; the target file says aarch64"),
    ],
)
def test_what_is_made_of_it(board: str, what: str, state: str, found: str) -> None:
    checks = {check.what: check for check in check_facts(targets.load("raspberry-pi-4"), facts(board), 1732000100)}
    assert checks[what].state == state, checks[what]
    assert found in checks[what].found
    assert bool(checks[what].next) == (state != "ok")


def test_the_script_runs_in_a_plain_shell_and_says_what_this_machine_is() -> None:
    script = SCRIPT.replace("PYTHON", "'python3'", 1) + "read left; echo got $left"
    done = subprocess.run(["sh", "-c", script], input="rest\n", capture_output=True, text=True, check=True)
    found, host = parse_facts(sections(done.stdout)), targets.load("host")
    assert (found.arch, set(found.isa), found.cores) == (host.arch, set(host.isa), host.cores)
    assert found.memory_bytes >> 20 == host.memory_mb
    assert found.clock > 1_700_000_000 and found.python and found.free_bytes
    assert done.stdout.endswith("got rest\n"), "what follows on standard input is for the agent"
    assert done.stderr == ""


@given(st.text(string.printable, max_size=200))
def test_no_output_breaks_a_parser(text: str) -> None:
    names = ("uname cpuinfo cores meminfo model libc release page disk date thermal governor throttled python").split()
    found = parse_facts(dict.fromkeys(names, text))
    json.dumps(found.identity())
    list(check_facts(targets.load("raspberry-pi-4"), found, 0.0))


def test_facts_that_lie_are_bounded() -> None:
    """Figures of thousands of digits, names of a megabyte, escape codes."""
    digits = "9" * 10_000
    lies = {
        "uname": f"Li\x1b[31mnux\n{'x' * 1_000_000}\naarch64; rm -rf /",
        "cpuinfo": f"model name : {'y' * 1_000_000}\n",
        "cores": "9" * 18,
        "meminfo": f"MemTotal: {digits} kB",
        "libc": f"glibc 2.{digits}",
        "disk": f"x {digits} {digits} {digits} 5% /",
        "thermal": digits,
        "python": f"{digits}.1.1 cpython 64",
        "release": 'PRETTY_NAME="\x1b]0;pwned\x07"',
    }
    found = parse_facts(lies)
    assert found.arch == "" and found.glibc is None and found.python is None and found.free_bytes is None
    assert found.memory_bytes == 0 and found.cores <= MOST_CORES and found.temperature is None
    texts = (found.system, found.release, found.cpu, found.os)
    assert all(len(text) <= 200 and text.isprintable() for text in texts)
