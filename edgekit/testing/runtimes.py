"""What every runtime owes, through the real runner: right outputs, positive times, and refusals with their reason."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packaging.requirements import Requirement

from edgekit import networks, sets
from edgekit.core import extension_points, registry
from edgekit.core.artifact import Artifact
from edgekit.core.device import Job
from edgekit.core.errors import InputError
from edgekit.core.runtime import ANY, Runtime
from edgekit.core.samples import SampleSet
from edgekit.core.target import Plan, Target
from edgekit.devices.local import Local
from edgekit.formats import model_file
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.runs.store import tools
from edgekit.testing.members import Contract
from edgekit.testing.network import CLASSES, Models, samples

QUICK = Plan(processes=1, seconds=0.02, warmup_seconds=0.01, min_runs=5)


class RuntimeContract(Contract):
    @pytest.fixture
    def runtime(self, name: str) -> Runtime:
        declared = registry.runtime(name)
        try:
            declared.prepare_imports()
        except ImportError:
            pytest.skip(f"{name} is not installed")
        return declared

    @pytest.fixture
    def artifact(self, runtime: Runtime, models: Models) -> Artifact:
        """A model that this runtime executes."""
        if ANY in runtime.formats or "torch" in runtime.formats:
            return models.torch
        for format in targets.exported_formats(runtime.name):
            if all(tools(registry.load("steps", f"to_{format}")()).values()):
                return models.in_format(format)
        pytest.skip(f"nothing here exports a format of {runtime.name}")

    @pytest.fixture
    def host(self, name: str) -> Target:
        return replace(targets.load("host"), runtimes={name: ""})

    @pytest.fixture
    def data(self) -> SampleSet:
        return samples(67)

    def test_what_it_says_of_itself(self, name: str, runtime: Runtime) -> None:
        assert extension_points.problems("runtimes", name, runtime.cls) == []
        assert set(runtime.formats) <= {*registry.names("formats"), ANY}
        assert "fp32" in runtime.precisions
        assert sys.modules[runtime.cls.__module__].__doc__

    def test_its_extra_brings_its_package(self, name: str, runtime: Runtime) -> None:
        """Of the distribution that the runtime came with; one that needs no more than that has none."""
        required = [Requirement(line) for line in requires(registry.distribution("runtimes", name)) or ()]
        marked = f'extra == "{runtime.extra}"'
        brought = {r.name for r in required if (marked in str(r.marker) if runtime.extra else r.marker is None)}
        assert runtime.package in brought

    def test_outputs_are_right(
        self, name: str, runtime: Runtime, artifact: Artifact, host: Target, data: SampleSet, models: Models
    ) -> None:
        run = execute(artifact, host, data, QUICK)
        (output,) = run.outputs.values()
        assert output.shape == (67, CLASSES), "67 samples are not a multiple of any batch"
        if runtime.computes:
            with torch.inference_mode():
                expected = networks.load(models.torch.path)(torch.from_numpy(data.inputs["input"]).float()).numpy()
            assert np.abs(output - expected).max() < 1e-3 * np.abs(expected).max()
            assert run.facts["runtime_version"]
        else:
            assert not output.any() and "runtime_version" in run.facts
        (process,) = run.processes
        assert min(process.times_ns) >= 0 and sum(process.times_ns) > 0
        assert process.load_ms >= 0 and process.first_ms > 0
        assert run.runtime == name

    def test_several_samples_at_once_give_the_same(self, artifact: Artifact, host: Target, data: SampleSet) -> None:
        one = execute(artifact, host, sets.take(data, 1), QUICK, latency=False)
        many = execute(artifact, host, data, QUICK, latency=False)
        for a, b in zip(one.outputs.values(), many.outputs.values(), strict=True):
            assert np.allclose(a[0], b[0], atol=1e-3 * max(1.0, float(np.abs(b).max())))

    def test_a_batch_is_one_inference(self, artifact: Artifact, host: Target, data: SampleSet) -> None:
        run = execute(artifact, host, data, replace(QUICK, batch=8), outputs=False)
        assert len(run.processes[0].times_ns) >= 5

    def test_integers_are_the_numbers_they_hold(self, artifact: Artifact, host: Target, data: SampleSet) -> None:
        floats = replace(data, inputs={name: array.astype(np.float32) for name, array in data.inputs.items()})
        first = execute(artifact, host, data, QUICK, latency=False).outputs
        second = execute(artifact, host, floats, QUICK, latency=False).outputs
        assert all(np.array_equal(first[name], second[name]) for name in first)

    def test_one_thread_is_one_thread(
        self, name: str, artifact: Artifact, host: Target, data: SampleSet, tmp_path: Path
    ) -> None:
        """In a single-threaded run no more CPU time passes than wall time."""
        np.save(tmp_path / "x.npy", data.inputs["input"])
        plan = replace(QUICK, seconds=0.2, batch=32)
        job = Job(artifact, name, {"input": tmp_path / "x.npy"}, plan, outputs=False, latency=True)
        result = Local(host).run(job, tmp_path)
        json.dumps(result)
        assert result["error"] is None
        assert result["watch"]["cpu_share"] < 1.1

    def test_a_bad_model_is_refused(
        self, runtime: Runtime, artifact: Artifact, host: Target, data: SampleSet, tmp_path: Path
    ) -> None:
        if not runtime.computes:
            return  # it loads nothing
        shutil.copytree(artifact.path, tmp_path / "copy")
        bad = replace(artifact, path=tmp_path / "copy")
        path = model_file(bad.kind, bad.path)
        for damage in (path.read_bytes()[: path.stat().st_size // 2], b"this is not a model", b""):
            path.write_bytes(damage)
            with pytest.raises(InputError) as error:
                execute(bad, host, data, QUICK)
            assert "cannot load" in error.value.what or "is damaged" in error.value.what
            assert error.value.why

    def test_wrong_names_are_refused_with_both_lists(self, artifact: Artifact, host: Target, data: SampleSet) -> None:
        two = replace(data, inputs={"left": data.inputs["input"], "right": data.inputs["input"]})
        with pytest.raises(InputError) as error:
            execute(artifact, host, two, QUICK)
        assert "the samples hold left, right" in error.value.why
        assert "the model takes" in error.value.why

    def test_wrong_shapes_are_refused(self, artifact: Artifact, host: Target) -> None:
        few: Any = np.zeros((5, 7), np.float32)
        with pytest.raises(InputError) as error:
            execute(artifact, host, SampleSet("s", {"input": few}, None, ""), QUICK)
        assert "per sample" in error.value.why
