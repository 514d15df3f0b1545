"""`edgekit train` on the command line: cross-validation, weights to start from, a log for TensorBoard, refusals."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import Ended

from edgekit.runs.store import Store

Cli = Callable[..., Ended]


def test_from_an_artifact_with_folds_and_a_log(cli: Cli, bars_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    words = ("train", "bars", "--init", bars_run / "torch", "--epochs", 1, "--batch", 64, "--seed", 3)
    ended = cli(*words, "--out", "again", "--folds", 2, "--tensorboard", "log", "--json")
    assert ended.code == 0, ended.err
    found = ended.json["result"]
    assert len(found["cross_validation"][0]["folds"]) == 2 and len(found["history"][0]) == 1
    artifact = Store(tmp_path / "again").get("torch")
    assert [(p.role, p.name) for p in artifact.parents] == [("init", "torch")]
    assert artifact.parents[0].id == Store(bars_run).get("torch").id
    assert found["history"][0][0]["val_accuracy"] > 0.5, "it did not start from what was learnt"
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(tmp_path / "log")).Reload()
    assert log.Scalars("val_loss")[0].value == pytest.approx(found["history"][0][0]["val_loss"])
    assert {path.name for path in (tmp_path / "log").iterdir() if path.is_dir()} == {"fold-1", "fold-2"}


@pytest.mark.slow
def test_adapters(cli: Cli, bars_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    words = ("train", "bars", "--epochs", 1, "--out", "again", "--lora", 2, "--lora-targets", "head.0, body.0")
    assert "needs weights to start from" in cli(*words).line
    ended = cli(*words[:-1], "head.0,", "--init", bars_run / "torch", "--dora", "--folds", 2, "--json")
    assert ended.code == 0, ended.err
    artifact = Store(tmp_path / "again").get("torch")
    assert artifact.fields["lora_targets"] == ["head.0"] and artifact.fields["dora"] is True
    assert artifact.details["lora"]["targets"] == ["head.0"] and "peft" in artifact.tools
    assert (artifact.path / "adapter" / "adapter_config.json").is_file()
    assert any(line.split()[:1] == ["lora"] for line in ended.err.splitlines())
    assert max(len(line) for line in ended.err.splitlines() if "note" not in line) <= 80
    refused = cli(*words, "--init", bars_run / "torch")
    assert refused.code == 2 and "'body.0'" in refused.line


def test_it_says_what_it_does_and_draws_it(cli: Cli, tmp_path: Path) -> None:
    words = ("train", "bars", "--epochs", 3, "--out", "r", "--curves")
    ended = cli(*words, "c.svg")
    assert ended.code == 0 and ended.out == "r/torch\n", ended.err
    lines = [line.split() for line in ended.err.splitlines()]
    said = {line[0]: line for line in lines}
    assert said["data"][2:4] == ["training", "and"] and said["data"][-2:] == ["4", "classes"]
    assert said["model"][3] == "parameters," and said["settings"][4] == "epochs,"
    assert [line[0] for line in lines if line[0].endswith("/3")] == ["1/3", "2/3", "3/3"]
    assert said["best"][2] == "epoch" and said["next"][1:3] == ["edgekit", "quantize"]
    assert max(map(len, ended.err.splitlines())) <= 80
    picture = (tmp_path / "c.svg").read_text()
    assert "validation loss" in picture and "prefers-color-scheme" in picture
    again = cli(*words, "d.svg")  # the same training is reused
    assert "reused" in again.err and (tmp_path / "d.svg").read_text() == picture, "no training again for a picture"
    assert cli(*words, "d.svg", "--quiet").err == ""
    for file, reason in (("c.png", "the picture is an SVG"), ("none/c.svg", "there is no folder none")):
        refused = cli(*words, file, "--no-resume")
        assert refused.code == 2 and reason in refused.line


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--init", "nowhere"), "there are no weights 'nowhere'"),
        (("--loss", "mse"), "the loss mse does not fit the labels"),
    ],
)
def test_refusals(cli: Cli, words: tuple[object, ...], said: str) -> None:
    ended = cli("train", "bars", "--epochs", 1, "--out", "r", *words)
    assert ended.code == 2 and said in ended.line


def test_what_it_starts_from_is_not_replaced(cli: Cli, bars_run: Path) -> None:
    ended = cli("train", "bars", "--init", bars_run / "torch", "--epochs", 1, "--out", bars_run)
    assert ended.code == 2 and "would replace torch" in ended.line and "--out" in ended.line
    onnx = cli("train", "bars", "--init", bars_run / "onnx", "--out", "r")
    assert onnx.code == 2 and "training starts from a torch artifact" in onnx.line


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_table_of_any_kind_to_the_device(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Categories, booleans and missing cells mean the same in training, in int8, on the host and in a bundle."""
    pytest.importorskip("onnxruntime")
    towns = {"Aix": 10, "Nice": 5, "": 1}
    lines = ["area,rooms,town,garden,sold,price"]
    for i in range(300):
        town, area = list(towns)[i % 3], 30 + i * 37 % 170
        rooms = "" if i % 11 == 0 else i % 5
        garden = ["True", "False"][i % 2]
        lines.append(f"{area},{rooms},{town},{garden},2024-01-{1 + i % 28:02},{area * towns[town] + 0.5}")
    monkeypatch.chdir(tmp_path)
    Path("homes.csv").write_text("\n".join(lines))
    refused = cli("train", "homes.csv?label=price")
    assert refused.code == 2 and "'sold' holds dates" in refused.line and "?drop=sold" in refused.line
    words = ("--epochs", 40, "--batch", 16, "--lr", 0.01, "--out", "r")
    trained = cli("train", "homes.csv?label=price&drop=sold", *words)
    assert trained.code == 0, trained.err
    for said in ("one-hot encoded: town (3)", "missing cells filled with training medians: rooms (28: 2)"):
        assert trained.err.count(f"homes.csv: {said}") == 1, "it is said once"
    assert cli("quantize", "r", "--int8", "--to", "onnx", "--methods", "min-max", "--max-drop", 20).code == 0
    # another order of columns, others than the model's, another spelling of booleans, missing cells
    Path("rows.csv").write_text("town,garden,note,rooms,area\nAix,true,x,3,100\nNice,0,,,100\n,1,x,2,100\n")
    predictions = cli("predict", "r/onnx-int8", "rows.csv", "--json").json["result"]
    values = [prediction["outputs"]["output"][0] for prediction in predictions]
    assert values == pytest.approx([1000, 500, 100], abs=150), "the towns differ"
    assert cli("deploy", "r/onnx-int8", "--target", "host", "--path", tmp_path / "device").code == 0
    program = [sys.executable, str(tmp_path / "device" / "current" / "predict.py"), "--json"]
    done = subprocess.run([*program, "rows.csv"], capture_output=True, text=True, check=True)
    assert [json.loads(line)["outputs"]["output"][0] for line in done.stdout.splitlines()] == values
    Path("rows.csv").write_text("town,garden,rooms,area\nRome,true,3,100\n")
    here = cli("predict", "r/onnx-int8", "rows.csv")
    there = subprocess.run([*program, "rows.csv"], capture_output=True, text=True)
    assert (here.code, there.returncode) == (2, 2)
    assert all("'town' is 'Rome', and the model knows '', 'Aix', 'Nice'" in said for said in (here.line, there.stderr))
