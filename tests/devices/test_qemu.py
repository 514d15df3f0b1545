"""Emulated boards: what is refused before one starts, in the quick tier; real ones from nothing, with
`make test-boards`; the slow tier starts one in test_lab.py."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgekit import sets
from edgekit.core.errors import EdgekitError, InputError, Missing
from edgekit.core.target import Plan
from edgekit.devices.qemu import Qemu
from edgekit.devices.shared import emulator, system_image
from edgekit.devices.shared.initramfs import FILE, FOLDER, archive
from edgekit.devices.shared.system_image import TOOLS
from edgekit.measure import targets
from edgekit.measure.execute import execute_all
from edgekit.runs import named_sets
from edgekit.runs.store import Store

SHIPPED = ("emulated-cortex-a72", "emulated-cortex-a76")
#: how near two processes' counts of instructions are
REPEATS = 0.005
#: virtual seconds: so many thousand millions of instructions
PLAN = Plan(processes=1, seconds=0.01, warmup_seconds=0.0, min_runs=11, samples=256)


@pytest.mark.parametrize("cpu", ["", "max", "host", "cortex-a72,sve=off", "-daemonize", "a b"])
def test_a_processor_that_cannot_be_emulated_starts_nothing(cpu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emulator, "image", lambda _: pytest.fail("nothing is made for it"))
    target = dataclasses.replace(targets.load(SHIPPED[0]), cpu=cpu)
    with pytest.raises(InputError, match="cannot be emulated"):
        Qemu(target).facts()


def test_too_little_memory_starts_nothing() -> None:
    with pytest.raises(InputError, match="cannot be emulated"):
        Qemu(dataclasses.replace(targets.load(SHIPPED[0]), memory_mb=64)).facts()


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TOOLS, "no-such-program", "no-such-package")
    with pytest.raises(Missing) as error:
        system_image.image("pi")
    assert error.value.code == 3 and "no-such-package" in error.value.next


def test_linux_can_unpack_the_archive(tmp_path: Path) -> None:
    """cpio reads it as the kernel does."""
    data = archive([("own", FOLDER | 0o755, b""), ("own/key", FILE | 0o600, b"secret")])
    assert data[:6] == b"070701" and len(data) % 4 == 0 and b"TRAILER!!!" in data
    at = data.index(b"own/key\0")
    assert data[at + (-(at + 8) % 4) + 8 :][:6] == b"secret"
    assert int(data[at - 110 + 54 : at - 110 + 62], 16) == len(b"secret")


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", SHIPPED)
def test_a_board_from_nothing(
    name: str, bars_made: Path, members: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The image is made for the first and used again by the second; each is started once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "boards"))
    try:
        system_image.check_tools()
    except EdgekitError as error:
        assert not os.environ.get("CI"), error
        pytest.skip(str(error))
    store, target, data = Store(bars_made), targets.load(name), sets.take(named_sets.load("bars:test"), 256)
    pairs = [(store.get(artifact), "onnxruntime") for artifact in ("onnx", "onnx-int8")]
    try:
        there = execute_all(pairs, target, data, PLAN)
        again = execute_all(pairs, target, data, PLAN, outputs=False)
        pid = emulator._running[name].process.pid
    finally:
        emulator.stop(name)
    assert subprocess.run(["kill", "-0", str(pid)], capture_output=True).returncode != 0
    here = execute_all(pairs, targets.load("host"), data, PLAN, latency=False)
    float_there, int8_there = (run.outputs["output"] for run in there)
    np.testing.assert_allclose(float_there, here[0].outputs["output"], atol=1e-5 * np.abs(float_there).max())
    if "s8s8" not in pairs[1][0].scheme or targets.load("host").isa_class == "x86-vnni":
        assert np.array_equal(int8_there, here[1].outputs["output"])
    for first, second in zip(there, again, strict=True):
        assert first.provenance == "emulated" and not first.processes[0].times_ns, "no time of an emulator's is kept"
        assert first.processes[0].peak_rss_bytes > first.processes[0].floor_rss_bytes > 10_000_000
        ratio = first.facts["instructions"] / second.facts["instructions"]
        assert first.facts["instructions"] > 10_000 and abs(ratio - 1) <= REPEATS, ratio
