"""The saturation trap: on x86 without VNNI, u8 x s8 products are added in 16 bits, which overflow and are clipped.

edgekit's own runner is started in an emulated Haswell (`qemu-x86_64 -cpu Haswell`), whose instruction set has AVX2 and
no VNNI. The network is made for the trap: activations and weights that are all near the top of their ranges. A scheme
that was right on another machine is wrong there, and what edgekit chooses for such a target is not.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

pytest.importorskip("torch")

from edgekit import sets
from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.progress import quiet
from edgekit.core.samples import SampleSet
from edgekit.core.step import Context, Step, StepResult
from edgekit.core.target import Plan, Target
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.measure.targets import read
from edgekit.measure.verify import saturates
from edgekit.networks import named
from edgekit.runs import named_sets
from edgekit.runs.store import Store
from edgekit.sets import reading
from edgekit.steps.onnx_int8 import OnnxInt8

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("members")]
HASWELL = """
name = "haswell"
title = "An x86 without VNNI, emulated"
device = "local"
arch = "x86_64"
isa = ["avx", "avx2", "fma"]
cores = 1
runtimes = { onnxruntime = "", litert = "", openvino = "" }
"""
SHAPE = (4, 20, 20)
#: worse than this is no int8 any more; better than that is what int8 is like
WRONG_DB, RIGHT_DB = 15.0, 28.0
FORMATS = ("onnx", "openvino", "tflite")


@pytest.fixture(scope="module")
def emulator() -> str:
    """The emulator; skips, saying why, but in CI fails."""
    found = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if platform.machine() == "x86_64" and found:
        return found
    why = "no qemu-x86_64 to emulate a Haswell with; install the package qemu-user"
    if platform.machine() != "x86_64":
        why = "this Python is not made for x86: an emulated one could not load its packages"
    elif os.environ.get("CI"):
        pytest.fail(why)
    pytest.skip(why)


@dataclass(frozen=True)
class Full(Step):
    """nothing → torch: `cnn` with weights that are all near the largest of them, so that every sum is a large one."""

    produces: ClassVar[Kind] = Kind("torch")

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        import torch

        torch.manual_seed(0)
        arguments: dict[str, Any] = {"shape": list(SHAPE), "classes": 6, "mean": [0.0] * 4, "std": [1.0] * 4}
        network = named.build("cnn", {**arguments, "widths": [16, 16, 16, 32]}).eval()
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.uniform_(0.9, 1.0) if name.endswith("weight") else parameter.zero_()
                parameter /= max(1, parameter[0].numel())
        specs = {
            "inputs": [{"name": "input", "dtype": "float32", "shape": [None, *SHAPE]}],
            "outputs": [{"name": "output", "dtype": "float32", "shape": [None, 6]}],
        }
        named.save(network, "cnn", {**arguments, "widths": [16, 16, 16, 32]}, specs, out)
        return StepResult()


@pytest.fixture(scope="module")
def data() -> SampleSet:
    values = np.random.default_rng(0).uniform(0.8, 1.0, (24, *SHAPE)).astype(np.float32)
    brightness = np.linspace(0.8, 1.0, 24, dtype=np.float32)[:, None, None, None]
    return reading.sample_set("bright", {"input": values * brightness}, None)


@pytest.fixture(scope="module")
def haswell(tmp_path_factory: pytest.TempPathFactory) -> Target:
    path = tmp_path_factory.mktemp("targets") / "haswell.toml"
    path.write_text(HASWELL)
    return read(path)


Make = Callable[..., Artifact]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory, data: SampleSet) -> Make:
    """`make(format)`: float; `make(format, scheme="u8s8")`, or `make(format, target=…)`: int8, the target's choice."""
    store = Store(tmp_path_factory.mktemp("saturation"))
    context = Context(None, {"calibration": data}, quiet, logging.getLogger("edgekit.tests"))

    def call(format: str, target: Target | None = None, **fields: Any) -> Artifact:
        if target is None and not fields:
            step, parent = registry.load("steps", f"to_{format}")(), "torch"
        else:
            step, parent = registry.load("steps", f"{format}_int8")(**fields), format
            step = step.resolve(target) if target else step
        with store.lock():
            if "torch" not in store.names():
                store.make("torch", Full(), {}, context)
        name = "-".join([format, *([target.name] if target else []), *fields.values()])
        if name in store.names():
            return store.get(name)
        inputs = {"parent": call(format) if parent == format else store.get(parent)}
        with store.lock():
            return store.make(name, step, inputs, context)

    return call


@pytest.fixture
def nearness(make: Make, data: SampleSet, haswell: Target) -> Callable[..., float]:
    """SQNR of an artifact's outputs on a target against those of its float parent here."""
    few, host = sets.take(data, 8), targets.load("host")

    def call(format: str, artifact: Artifact, target: Target) -> float:
        reference = execute(make(format), host, few, Plan(), latency=False).outputs
        return statistics.parity("", reference, execute(artifact, target, few, Plan(), latency=False).outputs).sqnr_db

    return call


@pytest.fixture
def emulated(emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when it is called, the processes that the device `local` starts run in an emulated Haswell."""

    def begin() -> None:
        script = tmp_path / "python"
        script.write_text(f'#!/bin/sh\nexec {emulator} -cpu Haswell {sys.executable} "$@"\n')
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return begin


def test_the_choice_for_such_a_target(make: Make, haswell: Target) -> None:
    assert haswell.isa_class == "x86"
    schemes = {format: make(format, haswell).scheme.split()[0] for format in FORMATS}
    assert schemes == {"onnx": "u8s8-reduced", "openvino": "u8s8-reduced", "tflite": "s8s8"}
    assert not any(saturates(make(format, haswell), haswell) for format in FORMATS)
    assert saturates(make("onnx", scheme="u8s8"), haswell), "verify must not judge it there"
    vnni = Target("v", "", "local", "x86_64", ("avx2", "avx512_vnni"))
    assert make("onnx", vnni).scheme.startswith("u8s8 ")


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_the_full_range_is_wrong_and_the_choice_is_right(
    make: Make, nearness: Callable[..., float], emulated: Callable[[], None], haswell: Target, format: str
) -> None:
    """The same file that is right with VNNI is wrong without; the reduced range gives the same numbers on both."""
    plain, chosen, host = make(format, scheme="u8s8"), make(format, haswell), targets.load("host")
    natively = nearness(format, chosen, host)
    assert natively > RIGHT_DB
    if host.isa_class == "x86-vnni":
        assert nearness(format, plain, host) > RIGHT_DB
    emulated()
    assert nearness(format, plain, haswell) < WRONG_DB
    assert nearness(format, chosen, haswell) == pytest.approx(natively, abs=0.5)


def test_litert_is_right(
    make: Make, nearness: Callable[..., float], emulated: Callable[[], None], haswell: Target
) -> None:
    """Its kernels multiply signed by signed in 16 bits and add in 32."""
    chosen = make("tflite", haswell)
    natively = nearness("tflite", chosen, targets.load("host"))
    emulated()
    assert natively > RIGHT_DB
    assert nearness("tflite", chosen, haswell) == pytest.approx(natively, abs=0.5)


def test_a_trained_network_loses_by_it_too(bars_made: Path, emulated: Callable[[], None], haswell: Target) -> None:
    """One that was not made for the trap."""
    model, few = Store(bars_made).get("onnx"), sets.take(named_sets.load("bars:test"), 200)
    folder = Store(bars_made.parent / "trained")
    context = Context(
        None, {"calibration": sets.take(named_sets.load("bars:train"), 128)}, quiet, logging.getLogger("t")
    )
    with folder.lock():
        made = {
            scheme: folder.make(scheme, OnnxInt8(scheme=scheme), {"parent": model}, context)
            for scheme in ("u8s8", "u8s8-reduced")
        }
    host = targets.load("host")
    reference = execute(model, host, few, Plan(), latency=False).outputs
    emulated()
    found = {
        scheme: statistics.parity("", reference, execute(artifact, haswell, few, Plan(), latency=False).outputs).sqnr_db
        for scheme, artifact in made.items()
    }
    assert found["u8s8-reduced"] > RIGHT_DB
    assert found["u8s8-reduced"] > found["u8s8"] + 10
