"""What every runtime owes, through the real runner: right outputs, positive times, and refusals with their reason."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import run_cli

from edgekit import sets
from edgekit.core import registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.step import Step
from edgekit.core.target import Plan, Target
from edgekit.formats import model_file
from edgekit.measure import targets
from edgekit.measure.execute import execute
from edgekit.runs import named_sets
from edgekit.runs.store import Store, tools

RUNTIMES = registry.names("runtimes")
QUICK = Plan(processes=1, seconds=0.02, warmup_seconds=0.01, min_runs=5)
pytestmark = pytest.mark.usefixtures("members")


def importable(runtime: str) -> bool:
    try:
        registry.load("runtimes", runtime).prepare_imports()
    except ImportError:
        return False
    return True


@pytest.fixture(scope="session")
def exported(bars_made: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    """The float bars network in a format; made once, in a run of its own."""
    folder = tmp_path_factory.mktemp("formats")
    shutil.copytree(bars_made, folder / "run")
    store = Store(folder / "run")

    def call(format: str) -> Artifact:
        if format not in store.names():
            ended = run_cli("export", "run", "--to", format, cwd=folder)
            assert ended.code == 0, ended.err
        return store.get(format)

    return call


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    if not importable(request.param):
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture
def artifact(runtime: str, exported: Callable[[str], Artifact]) -> Artifact:
    """A model that this runtime executes."""
    for format in registry.load("runtimes", runtime).formats:
        exporter = f"to_{format}"
        if format in ("torch", "onnx"):
            return exported(format)
        if exporter in registry.names("steps"):
            step: Step = registry.load("steps", exporter)()
            if all(tools(step).values()):
                return exported(format)
    pytest.skip(f"nothing here exports a format of {runtime}")


@pytest.fixture
def host(runtime: str) -> Target:
    return replace(targets.load("host"), runtimes={runtime: ""})


@pytest.fixture(scope="session")
def expected(bars_made: Path) -> Any:
    """What the trained network itself answers, over some samples."""
    import torch

    from edgekit import networks

    def call(data: SampleSet) -> np.ndarray:
        with torch.inference_mode():
            x = torch.from_numpy(data.inputs["input"]).float()
            return networks.load(bars_made / "torch")(x).numpy()  # type: ignore[no-any-return]

    return call


@pytest.fixture
def data() -> SampleSet:
    return sets.take(named_sets.load("bars:test"), 67)


def test_what_it_says_of_itself(runtime: str) -> None:
    cls = registry.load("runtimes", runtime)
    assert cls.__name__ == registry.class_name(runtime)
    assert set(cls.formats) <= {*registry.names("formats"), "tflite", "openvino"}
    assert cls.package
    assert "fp32" in cls.precisions
    assert runtime == "null" or cls.extra, "which extra brings it?"
    assert __import__("sys").modules[cls.__module__].__doc__


def test_outputs_are_right(runtime: str, artifact: Artifact, host: Target, data: SampleSet, expected: Any) -> None:
    run = execute(artifact, host, data, QUICK)
    (output,) = run.outputs.values()
    assert output.shape == (67, 4), "67 samples are not a multiple of any batch"
    if runtime == "null":
        assert not output.any()
    else:
        reference = expected(data)
        assert np.abs(output - reference).max() < 1e-3 * np.abs(reference).max()
    (process,) = run.processes
    assert min(process.times_ns) >= 0 and sum(process.times_ns) > 0
    assert process.load_ms >= 0 and process.first_ms > 0
    assert run.runtime == runtime
    assert "runtime_version" in run.facts and (runtime == "null" or run.facts["runtime_version"])


def test_several_samples_at_once_give_the_same(artifact: Artifact, host: Target, data: SampleSet) -> None:
    one = execute(artifact, host, sets.take(data, 1), QUICK, latency=False)
    many = execute(artifact, host, data, QUICK, latency=False)
    for a, b in zip(one.outputs.values(), many.outputs.values(), strict=True):
        assert np.allclose(a[0], b[0], atol=1e-3 * max(1.0, float(np.abs(b).max())))


def test_a_batch_is_one_inference(artifact: Artifact, host: Target, data: SampleSet) -> None:
    run = execute(artifact, host, data, replace(QUICK, batch=8), outputs=False)
    assert len(run.processes[0].times_ns) >= 5


def test_integers_are_the_numbers_they_hold(artifact: Artifact, host: Target, data: SampleSet) -> None:
    floats = replace(data, inputs={name: array.astype(np.float32) for name, array in data.inputs.items()})
    first = execute(artifact, host, data, QUICK, latency=False).outputs
    second = execute(artifact, host, floats, QUICK, latency=False).outputs
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_one_thread_is_one_thread(runtime: str, artifact: Artifact, host: Target, data: SampleSet) -> None:
    """In a single-threaded run no more CPU time passes than wall time."""
    import json
    import tempfile

    from edgekit.core.device import Job
    from edgekit.devices.local import Local

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), data.inputs["input"])
        job = Job(
            artifact, runtime, {"input": Path(folder, "x.npy")}, replace(QUICK, seconds=0.2, batch=32), False, True
        )
        result = Local(host).run(job, Path(folder))
        json.dumps(result)
    assert result["error"] is None
    assert result["watch"]["cpu_share"] < 1.1


def test_a_bad_model_is_refused(
    runtime: str, artifact: Artifact, host: Target, data: SampleSet, tmp_path: Path
) -> None:
    if runtime == "null":
        return  # it loads nothing
    shutil.copytree(artifact.path, tmp_path / "copy")
    bad = replace(artifact, path=tmp_path / "copy")
    path = model_file(bad.kind, bad.path)
    for damage in (path.read_bytes()[: path.stat().st_size // 2], b"this is not a model", b""):
        path.write_bytes(damage)
        with pytest.raises(InputError) as error:
            execute(bad, host, data, QUICK)
        assert "cannot load" in error.value.what and artifact.name in error.value.what
        assert error.value.why


def test_wrong_names_are_refused_with_both_lists(artifact: Artifact, host: Target, data: SampleSet) -> None:
    two = replace(data, inputs={"left": data.inputs["input"], "right": data.inputs["input"]})
    with pytest.raises(InputError) as error:
        execute(artifact, host, two, QUICK)
    assert "the samples hold left, right" in error.value.why
    assert "the model takes" in error.value.why


def test_wrong_shapes_are_refused(artifact: Artifact, host: Target) -> None:
    with pytest.raises(InputError) as error:
        execute(artifact, host, SampleSet("s", {"input": np.zeros((5, 7), np.float32)}, None, ""), QUICK)
    assert "per sample" in error.value.why
