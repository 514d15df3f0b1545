"""What every device that is here owes: a job's result, its facts, and a provenance."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from devices.sshd import _board, board  # noqa: F401 - fixtures

from edgekit import sets
from edgekit.core import registry
from edgekit.core.device import Job
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.runs import named_sets
from edgekit.runs.store import Store

QUICK = Plan(processes=1, seconds=0.01, warmup_seconds=0.0, min_runs=3)
#: device → a runtime that a target reached by it has
HERE = {"local": "onnxruntime", "null": "null", "ssh": "onnxruntime"}
#: a system has to be made for these: tests/devices/test_lab.py and test_adb.py, in the slow tier
MADE = {"qemu", "adb"}


@pytest.fixture(params=HERE)
def target(request: pytest.FixtureRequest) -> Target:
    if request.param == "ssh":
        made: Target = request.getfixturevalue("board").target()
        return made
    return targets.load({"local": "host"}.get(request.param, request.param))


def test_every_device_is_tried_here() -> None:
    assert set(HERE) | MADE == set(registry.names("devices"))


@pytest.fixture
def data(members: None) -> SampleSet:
    return sets.take(named_sets.load("bars:test"), 10)


def test_every_device_is_a_class_that_takes_a_target(target: Target) -> None:
    for name in registry.names("devices"):
        cls = registry.load("devices", name)
        assert cls.__name__ == registry.class_name(name)
        assert cls.provenance in ("measured", "emulated", "simulated-instructions", "estimated")


def test_facts_name_the_machine_and_stay_the_same(target: Target) -> None:
    device = registry.load("devices", target.device)(target)
    facts = device.facts()
    assert {"cpu", "arch", "isa", "cores", "memory_bytes"} <= set(facts)
    assert facts == device.facts() == registry.load("devices", target.device)(target).facts()
    assert json.loads(json.dumps(facts)) == facts


def test_a_job_comes_back(target: Target, bars_made: Path, data: SampleSet, tmp_path: Path) -> None:
    artifact = Store(bars_made).get("onnx")
    runtime = HERE[target.device]
    np.save(tmp_path / "x.npy", data.inputs["input"])
    (tmp_path / "out").mkdir()
    job = Job(artifact, runtime, {"input": tmp_path / "x.npy"}, QUICK, outputs=True, latency=True)
    result = registry.load("devices", target.device)(target).run(job, tmp_path / "out")
    assert result["schema"] == "edgekit-runner/1"
    assert result["error"] is None
    assert len(result["times_ns"]) >= 3
    (path,) = result["outputs"].values()
    assert Path(path).parent == tmp_path / "out"
    assert np.load(path).shape == (10, 4)
    assert "runtime_version" in result["facts"]


def test_a_run_has_the_device_s_provenance(target: Target, bars_made: Path, data: SampleSet) -> None:
    artifact = Store(bars_made).get("onnx")
    device = registry.load("devices", target.device)
    run = execute(artifact, target, data, QUICK)
    assert run.provenance == device.provenance
    assert (run.provenance == "measured") == (target.device in ("local", "ssh")), "only a real machine measures"
