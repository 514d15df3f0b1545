"""Addresses, target files and plans: what is read, and what is refused in a sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.target import PRESETS, Address, Plan, Target

USERS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,20}", fullmatch=True)
HOSTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True) | st.just("fe80::1%eth0") | st.just("::1")


@given(st.builds(Address, HOSTS, st.just("") | USERS, st.integers(0, 65535)))
def test_an_address_is_read_as_it_is_written(address: Address) -> None:
    assert Address.parse(str(address)) == address


@given(st.text())
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except ValueError as error:
        assert "is no address" in str(error) or "address" in str(error)
    else:
        assert not address.host.startswith("-") and address.words()[-2:] == ["--", address.host]


@pytest.mark.parametrize(
    "text", ["", "a b", "-oProxyCommand=x", "u@", "h:0", "h:65536", "h;ls", "$(ls)", "u@-h", "h\n"]
)
def test_no_address(text: str) -> None:
    with pytest.raises(ValueError):
        Address.parse(text)


def test_words_of_an_ssh_command() -> None:
    assert Address.parse("pi@box:2222").words() == ["-l", "pi", "-p", "2222", "--", "box"]
    assert Address.parse("box").words() == ["--", "box"]


TARGET = Target("pi", "A board", "ssh", arch="aarch64", runtimes={"onnxruntime": ">=1.20"}, address="pi@box")


def test_nothing_is_wrong_with_a_target() -> None:
    assert list(TARGET.problems()) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"name": "../pi"}, "name"),
        ({"device": "Ssh"}, "device"),
        ({"arch": "aarch64; rm"}, "arch"),
        ({"isa": ("asimd", "a b")}, "isa"),
        ({"python": "python3 -c"}, "python"),
        ({"cpu": "cortex a72"}, "cpu"),
        ({"system": "windows"}, "system"),
        ({"runtimes": {"Onnx": ""}}, "runtimes"),
        ({"runtimes": {"onnxruntime": "newest"}}, "runtimes.onnxruntime"),
        ({"libraries": {"litert": "/x.so"}}, "libraries.litert"),
        ({"address": "pi@box; ls"}, "address"),
        ({"device": "adb", "address": "serial; ls"}, "address"),
    ],
)
def test_a_problem_names_its_field(change: dict[str, Any], named: str) -> None:
    (problem,) = replace(TARGET, **change).problems()
    assert problem.startswith(named)


def test_serial_numbers() -> None:
    for address in ("emulator-5554", "192.168.0.7:5555", "R58M123ABC", "[fe80::1]:5555"):
        assert list(replace(TARGET, device="adb", address=address).problems()) == []


@pytest.mark.parametrize(
    ("arch", "isa", "expected"),
    [
        ("x86_64", ("avx2",), "x86"),
        ("amd64", ("avx512_vnni",), "x86-vnni"),
        ("x86_64", ("avx_vnni",), "x86-vnni"),
        ("aarch64", ("asimddp",), "arm64"),
        ("armv7l", (), "armv7l"),
    ],
)
def test_instruction_set_classes(arch: str, isa: tuple[str, ...], expected: str) -> None:
    assert Target("t", "", "local", arch=arch, isa=isa).isa_class == expected


@pytest.mark.parametrize(
    "change",
    [
        *({name: 0} for name in ("threads", "batch", "processes", "min_runs", "seconds", "timeout")),
        *({name: -1} for name in ("warmup_seconds", "samples", "sustained")),
    ],
)
def test_a_plan_that_cannot_be(change: dict[str, Any]) -> None:
    (problem,) = replace(Plan(), **change).problems()
    assert next(iter(change)) in problem


def test_a_load_that_is_not_timed_shows_nothing() -> None:
    (problem,) = replace(Plan(), sustained=1.0, latency=False).problems()
    assert "sustained" in problem


def test_presets_are_plans() -> None:
    for changes in PRESETS.values():
        assert list(replace(Plan(), **changes).problems()) == []
