"""What every device owes: a job's result, its facts, and a provenance."""

from __future__ import annotations

import json
import typing
from pathlib import Path

import numpy as np
import pytest

from edgekit.core import extension_points, registry
from edgekit.core.artifact import Artifact
from edgekit.core.device import Job
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Provenance, Target
from edgekit.measure import targets
from edgekit.measure.execute import execute, runtime_for
from edgekit.testing.members import Contract
from edgekit.testing.network import CLASSES, Models, samples

QUICK = Plan(processes=1, seconds=0.01, warmup_seconds=0.0, min_runs=3)


class DeviceContract(Contract):
    """`format`: what the target has a runtime for. A subclass gives a `target` for each of its members as a fixture."""

    format = "onnx"

    @pytest.fixture
    def target(self, name: str) -> Target:
        return targets.load(name)

    @pytest.fixture
    def artifact(self, models: Models) -> Artifact:
        return models.in_format(self.format)

    @pytest.fixture
    def data(self) -> SampleSet:
        return samples(10)

    def test_it_offers_what_it_must(self, name: str) -> None:
        cls = registry.load("devices", name)
        assert extension_points.problems("devices", name, cls) == []
        assert cls.provenance in typing.get_args(Provenance)

    def test_facts_name_the_machine_and_stay_the_same(self, name: str, target: Target) -> None:
        device = registry.load("devices", name)(target)
        facts = device.facts()
        assert {"cpu", "arch", "isa", "cores", "memory_bytes"} <= set(facts)
        assert facts == device.facts() == registry.load("devices", name)(target).facts()
        assert json.loads(json.dumps(facts)) == facts

    def test_a_job_comes_back(
        self, name: str, target: Target, artifact: Artifact, data: SampleSet, tmp_path: Path
    ) -> None:
        np.save(tmp_path / "x.npy", data.inputs["input"])
        (tmp_path / "out").mkdir()
        inputs = {"input": tmp_path / "x.npy"}
        job = Job(artifact, runtime_for(artifact, target), inputs, QUICK, outputs=True, latency=True)
        result = registry.load("devices", name)(target).run(job, tmp_path / "out")
        assert result["schema"] == "edgekit-runner/1"
        assert result["error"] is None
        assert len(result["times_ns"]) >= 3
        (path,) = result["outputs"].values()
        assert Path(path).parent == tmp_path / "out"
        assert np.load(path).shape == (10, CLASSES)
        assert "runtime_version" in result["facts"]

    def test_a_run_has_the_device_s_provenance(
        self, name: str, target: Target, artifact: Artifact, data: SampleSet
    ) -> None:
        assert execute(artifact, target, data, QUICK).provenance == registry.load("devices", name).provenance
