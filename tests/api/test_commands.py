"""The functions on what people hold in Python: modules, arrays, DataFrames; what they return, and what they raise."""

from __future__ import annotations

import dataclasses
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report.made_up import measurement
from report.test_files import write_results

import edgekit
from edgekit.api.models import Model
from edgekit.api.results import Results
from edgekit.workflows.compare import gate, rows

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("members", "brief_search")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def network() -> Any:
    torch.manual_seed(0)
    layers = torch.nn.Linear(8, 128), torch.nn.ReLU(), torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3)
    return torch.nn.Sequential(*layers).train()


def samples(count: int = 96) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)


@pytest.mark.slow
def test_a_module_becomes_a_small_file(network: Any) -> None:
    """With labels that are its own answers, which int8 has to keep."""
    x = samples()
    with torch.no_grad():
        expected = network.eval()(torch.from_numpy(x)).numpy()
    network.train()
    model = edgekit.import_model(network, example=torch.zeros(1, 8), out="runs/net")
    assert network.training, "as it was"
    assert (model.name, model.format, model.path) == ("torch", "torch", Path.cwd() / "runs/net/torch")
    onnx = model.export("onnx")
    np.testing.assert_allclose(onnx.predict(x), expected, rtol=1e-3, atol=1e-4)
    small = onnx.quantize(calibration=x[:64], val=(x, expected.argmax(axis=1)), max_drop=10, effort="fast")
    assert small.size < onnx.size and small.precision in ("int8", "dynamic") and small == edgekit.load(small.path)
    assert small.predict({"input": torch.from_numpy(x)}).shape == (96, 3)
    assert (small.predict(x).argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.85
    assert Path("runs/net/data").is_dir(), "later commands find the samples again"
    assert edgekit.inspect(small)["outputs"] and edgekit.verify(onnx)[0].artifact == "onnx"


def test_a_loader_calibrates_a_module_in_one_call(network: Any) -> None:
    data = torch.utils.data.TensorDataset(torch.from_numpy(samples()))
    loader = torch.utils.data.DataLoader(data, batch_size=32)
    made = edgekit.quantize(
        network, to=["onnx"], example=samples(1), calibration=loader, out=Path("a"), methods=["mse", "weight-only"]
    )
    assert isinstance(made, list) and made[0].path.parent == Path("a").absolute()


def test_a_data_frame_trains(here: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    rng = np.random.default_rng(0)
    table = pandas.DataFrame({"area": rng.uniform(30, 200, 200), "rooms": rng.integers(1, 7, 200), "city": "A"})
    table["garden"], table["kind"] = table.rooms > 3, np.where(table.area > 90, "house", "flat")
    table["price"] = table.area * 3000.5 + table.rooms * 10_000
    table.loc[5, "rooms"] = np.nan
    model = edgekit.train(table, label="price", epochs=30, out="runs/houses", batch=16)
    assert [column.name for column in model.inputs[0].signature.columns] == ["area", "rooms", "garden", "kind"]  # type: ignore[union-attr]
    values = edgekit.predict(model, table[["kind", "garden", "rooms", "area"]])
    with pytest.raises(edgekit.InputError, match="the DataFrame has no column 'garden'"):
        edgekit.predict(model, table[["kind", "rooms", "area"]])
    error = np.abs(values.ravel() - table.price).mean()
    assert error < 0.3 * table.price.std()
    again = edgekit.train(table, label="price", epochs=30, out="runs/houses", batch=16)
    assert again == model and len(list(Path("runs/houses/data").iterdir())) == 1
    assert edgekit.bench(model, quick=True, processes=1)[0].metric.name == "R²"  # type: ignore[union-attr]


def test_another_working_directory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models, and samples from memory, are found again."""
    x = samples()
    model = edgekit.train((x, x[:, 0] > 0), epochs=1, out="runs/here")
    (here / "else").mkdir()
    monkeypatch.chdir(here / "else")
    assert model.predict(x).shape == (96, 2) and str(here) in repr(model)
    assert model.bench(quick=True, processes=1)[0].artifact == "torch"


def test_threads_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """What works is one at a time, whatever thread calls it."""
    inside: list[int] = []
    together: list[int] = []

    def work(*words: Any, **settings: Any) -> Any:
        inside.append(1)
        together.append(len(inside))
        edgekit.doctor()
        time.sleep(0.02)
        inside.pop()
        raise edgekit.InputError("done")

    monkeypatch.setattr("edgekit.api.commands.train_workflow.train", work)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(edgekit.train, "mnist") for _ in range(8)]
    assert all("done" in str(call.exception()) for call in calls) and together == [1] * 8


def test_what_a_user_sees_of_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(edgekit.InputError) as caught:
        edgekit.load("nowhere")
    shown = "".join(traceback.format_exception(caught.value))
    assert "references.py" not in shown
    assert shown.rstrip().splitlines()[-1].startswith("Next: make a run with edgekit.run()")
    monkeypatch.setenv("EDGEKIT_TRACEBACK", "1")
    with pytest.raises(edgekit.InputError) as caught:
        edgekit.load("nowhere")
    assert "references.py" in "".join(traceback.format_exception(caught.value))
    Path("results.json").write_text("{")
    with pytest.raises(edgekit.InputError) as caught:
        edgekit.compare("results.json")
    assert "JSONDecodeError" in "".join(traceback.format_exception(caught.value)), "and the cause"


def test_an_interrupted_call_says_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*words: Any, **settings: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr("edgekit.api.commands.train_workflow.train", work)
    with pytest.raises(KeyboardInterrupt) as caught:
        edgekit.train("mnist")
    assert caught.value.__notes__ == ["edgekit.train: the same call resumes after the last complete epoch"]
    assert edgekit.doctor()["edgekit"], "the next call is not kept waiting"


def test_a_budget_needs_labels(bars_run: Path) -> None:
    x = np.zeros((8, 1, 20, 20), np.float32)
    with pytest.raises(edgekit.InputError, match="max_drop= needs labels"):
        edgekit.quantize(bars_run / "onnx", val=x, max_drop=1)


def test_compared_models_of_one_name_have_their_runs_before_it(here: Path) -> None:
    for run, id in (("a", "1" * 16), ("b", "2" * 16)):
        write_results(here, [measurement("onnx", id=id), measurement("same")], run)
    found = edgekit.compare([Path("a/results.json"), "b/results.json"])
    assert [m.artifact for m in found] == ["a/onnx", "same", "b/onnx", "same"]
    assert found._runs == (here / "a", here / "b"), "the folders, for the page"


def test_a_path_of_a_model_means_its_measurements(bars_run: Path) -> None:
    onnx = edgekit.load(bars_run / "onnx")
    for source in (onnx, onnx.path, str(onnx.path), "run/onnx", [onnx]):
        found = edgekit.compare(source)
        assert {m.artifact for m in found} == {"onnx"} and found._runs == (bars_run,)
    assert 'id="lineage"' in found.page("page.html").read_text(encoding="utf-8")
    assert gate._stored_artifact(found[0], "run/onnx"), "a gate measures it again"
    assert rows.run_title("run/onnx") == "run"
    (bars_run / "results.json").unlink()
    for source in (onnx, "run/onnx"):
        with pytest.raises(edgekit.InputError, match=r"run/onnx has no measurements") as caught:
            edgekit.compare(source)
        assert caught.value.next == 'edgekit.bench("run/onnx")'


def test_a_gate_of_a_model_checks_that_model(bars_run: Path, here: Path) -> None:
    onnx, int8 = edgekit.load(bars_run / "onnx"), edgekit.load(bars_run / "onnx-int8")
    for models in (onnx, [onnx, int8]):
        verdicts = edgekit.gate(models, bars_run, "size>+2%")
        assert {v.artifact for v in verdicts} == {m.name for m in ([models] if isinstance(models, Model) else models)}
    assert {v.artifact for v in edgekit.gate(onnx, onnx, "size>+2%")} == {"onnx"}
    baseline = write_results(here, list(edgekit.compare(onnx)), "baseline")
    for models in (int8, [onnx, int8]):
        with pytest.raises(edgekit.InputError, match=r"no row of the baseline|nothing checks run/onnx-int8"):
            edgekit.gate(models, baseline, "size>+2%")


def test_the_page_of_models_of_one_name_has_their_lineages(bars_run: Path) -> None:
    found = edgekit.compare("run/onnx")
    renamed = Results([dataclasses.replace(m, artifact="run/onnx") for m in found], found._runs)
    assert 'id="lineage"' in renamed.page("page.html").read_text(encoding="utf-8")


def test_a_missed_budget_has_the_best_attempt(bars_run: Path) -> None:
    with pytest.raises(edgekit.BudgetMissed) as caught:
        edgekit.quantize(bars_run / "onnx", methods=["min-max"], max_drop=-100)
    (model,) = [m for m in caught.value.models if m.precision == "int8"]  # type: ignore[attr-defined]
    assert isinstance(model, Model) and model.path.is_dir()
    assert "evidence" in caught.value.next


def test_classes_and_files(bars_run: Path) -> None:
    model = edgekit.load(bars_run / "onnx")
    assert model.classes == ("top", "bottom", "left", "right")
    np.save("one.npy", np.zeros((1, 20, 20), np.float32))
    (told,) = edgekit.predict(model, [Path("one.npy")])
    assert set(told["outputs"]) == {"output"} and edgekit.predict(model, "one.npy") == told
    assert repr(model) == f"<Model run/onnx: onnx, {model.size:,} bytes>"


@pytest.mark.parametrize(
    ("call", "said", "next"),
    [
        (lambda: edgekit.export(torch.nn.Linear(2, 2)), "the network Linear has no example", "example="),
        (lambda: edgekit.import_model("net.py"), "neither a run nor", "edgekit"),
        (lambda: edgekit.train({"input": np.zeros((40, 2))}, out="a"), "has no labels", ""),
    ],
)
def test_what_cannot_be_used(call: Any, said: str, next: str) -> None:
    with pytest.raises(edgekit.InputError, match=said) as caught:
        call()
    assert next in caught.value.next
