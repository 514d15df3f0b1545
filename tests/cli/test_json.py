"""--json: one object on stdout, on success and on failure, as the shipped schema says; and what each command does."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Ended

from edgekit.cli import group
from edgekit.runs.store import Store

Json = Callable[..., dict[str, Any]]


@pytest.fixture
def answer(cli: Callable[..., Ended], check_document: Callable[[dict[str, Any]], None]) -> Json:
    """Run a command with --json; returns its object, checked against the schema."""

    def call(*words: object, code: int = 0) -> dict[str, Any]:
        ended = cli(*words, "--json")
        assert ended.code == code, ended.err
        assert ended.out.count("\n") == 1, "more than one line on stdout"
        document = ended.json
        check_document(document)
        assert (document["error"] is None) == (code == 0)
        return document

    return call


def names(document: dict[str, Any], kind: str = "artifacts") -> list[str]:
    return [entry["name" if kind == "artifacts" else "artifact"] for entry in document[kind]]


def test_run_again_reuses_everything(answer: Json, bars_run: Path) -> None:
    made = {name: (bars_run / name / "artifact.json").stat().st_mtime_ns for name in ("torch", "onnx", "onnx-int8")}
    before = json.loads((bars_run / "results.json").read_text())
    document = answer("run", "bars.toml", "--out", bars_run)
    assert document["command"] == "run"
    assert names(document) == ["torch", "onnx", "onnx-int8"]
    assert {name: (bars_run / name / "artifact.json").stat().st_mtime_ns for name in made} == made
    again = {m["artifact"]: m["session"] for m in document["measurements"]}
    for m in before["measurements"]:
        if not m["invalid"]:  # what was disturbed is measured again
            assert again[m["artifact"]] == m["session"]
    one = document["measurements"][0]
    assert (one["artifact"], one["target"], one["runtime"], one["provenance"]) == ("torch", "host", "torch", "measured")
    assert one["metric"]["samples"] == 300
    int8 = next(m for m in document["measurements"] if m["artifact"] == "onnx-int8")
    assert int8["precision"] == "int8" and int8["parents"] == ["onnx"]
    assert int8["metric"]["against"] == "torch" and int8["verdict"]["set"] == "val"
    assert int8["parity"]["against"] == "onnx"
    assert np.load(bars_run / int8["metric"]["correct_file"]).shape == (300,)


def test_dry_run_does_nothing(answer: Json, bars_run: Path, tmp_path: Path) -> None:
    fresh = answer("run", "bars.toml", "--out", "new", "--dry-run")
    assert [(e["artifact"], e["would_be"]) for e in fresh["result"]] == [
        ("torch", "made"),
        ("onnx", "made"),
        ("onnx-int8", "made"),
    ]
    assert not (tmp_path / "new").exists()
    again = answer("run", "bars.toml", "--out", bars_run, "--dry-run", "--set", "onnx_int8.samples=9")
    assert [e["would_be"] for e in again["result"]] == ["reused", "reused", "made"]
    other = answer("run", "bars.toml", "--out", bars_run, "--dry-run", "--set", "train.lr=0.5")
    assert [e["would_be"] for e in other["result"]] == ["made", "made", "made"]


def test_changed_fields_remake_only_what_hangs_on_them(answer: Json, bars_run: Path) -> None:
    before = {a.name: a.id for a in Store(bars_run).current()}
    document = answer("run", "bars.toml", "--out", bars_run, "--set", "onnx_int8.samples=9", "--target", "null")
    after = {a["name"]: a["id"] for a in document["artifacts"]}
    assert {n for n in before if before[n] != after[n]} == {"onnx-int8"}
    assert {m["target"] for m in document["measurements"]} == {"null"}
    assert {m["provenance"] for m in document["measurements"]} == {"estimated"}


def test_train(answer: Json, tmp_path: Path) -> None:
    document = answer("train", "bars", "--epochs", 1, "--out", "t", "--model", "ds-cnn", "--seed", 3)
    assert names(document) == ["ds-cnn.torch"]
    history = document["result"]["history"][0]
    assert [entry["epoch"] for entry in history] == [1]
    assert 0 <= history[0]["val_accuracy"] <= 1
    assert (tmp_path / "t" / "ds-cnn.torch" / "model.safetensors").is_file()


def test_fine_tuning_starts_from_the_weights(answer: Json, bars_run: Path) -> None:
    weights = bars_run / "torch" / "model.safetensors"
    document = answer("train", "bars", "--epochs", 1, "--lr", 1e-9, "--out", "t", "--init", weights)
    expected = json.loads((bars_run / "torch" / "artifact.json").read_text())["details"]
    best = next(e for e in expected["history"] if e["epoch"] == expected["best_epoch"])
    assert document["result"]["history"][0][0]["val_accuracy"] == pytest.approx(best["val_accuracy"], abs=0.01)


@pytest.mark.slow
def test_export_and_quantize(answer: Json, bars_run: Path) -> None:
    assert names(answer("export", bars_run, "--to", "onnx")) == ["onnx"]
    half = answer("quantize", bars_run / "onnx", "--fp16")
    assert names(half) == ["onnx-fp16"]
    weights = {name: answer("inspect", bars_run / name)["result"]["sizes"]["weights"] for name in ("onnx", "onnx-fp16")}
    assert weights["onnx"] == 2 * weights["onnx-fp16"]
    impossible = ("--max-drop", "0", "--strict", "--methods", "min-max")
    missed = answer("quantize", bars_run, "--int8", "--to", "onnx", *impossible, code=1)
    assert "onnx-int8" in missed["problems"][0]["where"]
    assert (bars_run / "onnx-int8" / "artifact.json").is_file(), "the attempt is kept"


def test_prune(answer: Json, bars_run: Path) -> None:
    document = answer("prune", bars_run, "--ratio", 0.5, "--round-to", 2, "--epochs", 0, "--max-drop", 90)
    assert names(document) == ["prune50.torch"]
    (found,) = document["result"]["pruned"]
    assert found["parameters"] < 0.5 and found["ratio"] == 0.5
    answer("prune", bars_run, "--ratio", 1.5, code=2)


def test_verify(answer: Json, bars_run: Path) -> None:
    document = answer("verify", bars_run)
    found = {finding["artifact"]: finding for finding in document["result"]}
    assert set(found) == {"torch", "onnx", "onnx-int8"}
    assert found["onnx"]["parity"]["sqnr_db"] > 60
    assert not any(finding["failed"] for finding in found.values())
    against = answer("verify", bars_run / "onnx-int8", "--against", "torch")
    assert against["result"][0]["parity"]["against"] == "torch"


def test_bench_measures_afresh(answer: Json, bars_run: Path) -> None:
    before = {m["session"] for m in json.loads((bars_run / "results.json").read_text())["measurements"]}
    document = answer("bench", bars_run / "onnx", "--processes", 1, "--samples", 50, "--batch", 2, "--threads", 1)
    (one,) = document["measurements"]
    assert one["session"] not in before
    assert (one["latency_ms"]["batch"], one["latency_ms"]["processes"], one["metric"]["samples"]) == (2, 1, 50)
    (session,) = document["result"]["sessions"]
    assert (session["id"], session["target"], session["threads"]) == (one["session"], "host", 1)
    assert (session["artifacts"], session["processes"]) == (1, 1)
    assert session["seconds"] <= session["limit_seconds"] >= session["expected_seconds"] + 20 - 0.2
    assert not session["limit_reached"]


def test_bench_without_latency(answer: Json, bars_run: Path, cli: Callable[..., Ended]) -> None:
    document = answer("bench", bars_run / "onnx", "--no-latency", "--samples", 20)
    (measured,) = document["measurements"]
    assert measured["metric"]["samples"] == 20 and measured["size_bytes"] > 0
    assert measured["latency_ms"] is measured["peak_rss_bytes"] is measured["load_ms"] is None
    assert measured["key"] in (bars_run / "results.json").read_text()
    timed = answer("bench", bars_run / "onnx", "--processes", 1, "--samples", 20)["measurements"][0]
    answer("bench", bars_run / "onnx", "--no-latency", "--samples", 20)
    stored = json.loads((bars_run / "results.json").read_text())["measurements"]
    (kept,) = [m for m in stored if m["metric"]["samples"] == 20]
    assert kept == timed, "what has a latency is kept, and no row without one next to it"
    refused = cli("bench", bars_run / "onnx", "--no-latency", "--sustained", "1s")
    assert refused.code == 2 and "leave out one" in refused.err


def test_bench_announces_its_time_on_stderr(cli: Callable[..., Ended], bars_run: Path) -> None:
    ended = cli("bench", bars_run / "onnx", "--processes", 2, "--samples", 50)
    (line,) = [line for line in ended.err.splitlines() if "measuring" in line]
    assert line.startswith("  measuring 1 artifact x 2 processes on host: about ") and ", at most " in line
    assert "measuring" not in ended.out and not {"\r", "\x1b"} & set(ended.err + ended.out)


def test_import_of_a_foreign_model(answer: Json, bars_made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes((bars_made / "onnx" / "model.onnx").read_bytes())
    document = answer("import", "mine.onnx")
    assert names(document) == ["onnx"]
    assert (tmp_path / "runs" / "mine" / "onnx").is_dir()


def test_bench_of_a_foreign_model(answer: Json, bars_made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes((bars_made / "onnx" / "model.onnx").read_bytes())
    document = answer("bench", "mine.onnx", "--processes", 1)
    (one,) = document["measurements"]
    assert (one["artifact"], one["metric"]) == ("onnx", None)
    assert one["latency_ms"]["p50"] > 0
    assert (tmp_path / "runs" / "mine" / "onnx").is_dir()
    labelled = answer("bench", "mine.onnx", "--processes", 1, "--data", "bars:test")
    assert labelled["measurements"][0]["metric"]["value"] > 0.8


@pytest.mark.slow
def test_quantize_a_foreign_model(answer: Json, bars_made: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.onnx").write_bytes((bars_made / "onnx" / "model.onnx").read_bytes())
    document = answer("quantize", "mine.onnx", "--calibration", "bars:train", "--val", "bars:val", "--max-drop", "20")
    assert names(document)[-1] in ("onnx-int8", "onnx-dynamic"), "which is faster differs from CPU to CPU"
    only = ("--methods", "mse", "--out", "other")
    parity_only = answer("quantize", "mine.onnx", "--calibration", "bars:train", *only)
    assert names(parity_only)[-1] == "onnx-int8"


def test_optimize(answer: Json, bars_run: Path) -> None:
    words = ("--trials", 2, "--try", "runtime=onnxruntime", "--try", "precision=float,int8", "--processes", 1)
    document = answer("optimize", bars_run, "--target", "null", "--max-drop", 30, "--try", "threads=1", *words, code=2)
    assert "null" in document["error"]["next"]
    words = ("--trials", 2, "--try", "precision=float,int8", "--try", "threads=1", "--processes", 1)
    document = answer("optimize", bars_run, "--target", "null", "--max-drop", 30, *words)
    assert names(document)[0].startswith("best.onnx")
    assert len(document["result"]["trials"]) == 2
    assert document["result"]["recommended"]["id"] == document["artifacts"][0]["id"]
    assert Path(document["result"]["recipe"]).is_file()
    shown = {m["artifact"] for m in answer("compare", bars_run)["measurements"]}
    assert shown >= {"torch", "onnx", "onnx-int8", names(document)[0]}


def test_predict(answer: Json, bars_run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.zeros((1, 20, 20), np.float32))
    document = answer("predict", bars_run / "onnx", "bars:test:0", "bars:test:1", "one.npy", "--top", 2)
    assert [entry["input"] for entry in document["result"]] == ["bars:test:0", "bars:test:1", "one.npy"]
    for entry in document["result"]:
        assert len(entry["classes"]) == 2
        assert entry["classes"][0]["class"] in ("top", "bottom", "left", "right")
        assert entry["classes"][0]["share"] >= entry["classes"][1]["share"]
        assert len(entry["outputs"]["output"]) == 4
    float_answer = answer("predict", bars_run, "bars:test:0")["result"][0]["outputs"]["output"]
    assert document["result"][0]["outputs"]["output"] == pytest.approx(float_answer, abs=1e-3)


def test_predict_an_image(answer: Json, bars_run: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    image.new("RGB", (64, 48), (255, 0, 0)).save(tmp_path / "red.png")
    (entry,) = answer("predict", bars_run / "onnx", "red.png")["result"]
    assert len(entry["classes"]) == 3
    (tmp_path / "bad.png").write_text("no image")
    answer("predict", bars_run / "onnx", "bad.png", code=2)


def test_compare(answer: Json, bars_run: Path, tmp_path: Path) -> None:
    document = answer("compare", bars_run, bars_run / "results.json")
    assert names(document, "measurements") == ["torch", "onnx", "onnx-int8"] * 2
    answer("compare", bars_run, "--markdown", tmp_path / "t.md")
    assert "| onnx-int8 |" in (tmp_path / "t.md").read_text()
    answer("compare", bars_run, "--markdown", tmp_path / "absent" / "t.md", code=2)


def test_inspect(answer: Json, bars_run: Path) -> None:
    found = answer("inspect", bars_run / "onnx-int8")["result"]
    assert (found["format"], found["precision"]) == ("onnx", "int8")
    assert sum(found["sizes"][part] for part in ("weights", "graph", "metadata")) == found["sizes"]["total"]
    assert found["operators"]["DequantizeLinear"] > 0
    assert "onnxruntime" in found["runtimes"]
    foreign = answer("inspect", bars_run / "onnx" / "model.onnx")["result"]
    assert foreign["parameters"] == answer("inspect", bars_run / "onnx")["result"]["parameters"]
    assert answer("inspect", bars_run)["result"]["format"] == "torch", "a run is its float root"


def test_targets_and_doctor(answer: Json) -> None:
    assert {t["name"] for t in answer("targets", "list")["result"]} >= {"host", "null"}
    host = answer("targets", "show", "host")["result"]
    assert host["isa_class"] and host["cores"] >= 1
    assert answer("targets", "show", "hots", code=2)["command"] == "targets show"
    doctor = answer("doctor")["result"]
    assert doctor["machine"]["isa_class"] == host["isa_class"]
    assert doctor["extras"]["torch"]["installed"]


def test_clean_deletes_only_what_edgekit_made(answer: Json, bars_run: Path, tmp_path: Path) -> None:
    (bars_run / "mine.txt").write_text("keep")
    assert answer("clean", bars_run, "--yes")["result"]["deleted"]
    assert [p.name for p in bars_run.iterdir()] == ["mine.txt"]
    answer("clean", bars_run, "--yes", code=2)
    answer("clean", tmp_path, "--yes", code=2)


def test_clean_asks(cli: Callable[..., Ended], bars_run: Path) -> None:
    ended = cli("clean", bars_run, input="n\n")
    assert ended.code == 0
    assert (bars_run / "torch").is_dir()


def test_the_newest_run_is_taken_and_named(cli: Callable[..., Ended], bars_made: Path, tmp_path: Path) -> None:
    import shutil

    (tmp_path / "runs").mkdir()
    shutil.copytree(bars_made, tmp_path / "runs" / "mine")
    ended = cli("inspect", "--json")
    assert ended.code == 0
    assert ended.json["result"]["model"].endswith("mine/torch")


def test_usage_errors_are_objects_too(answer: Json) -> None:
    for words in (("run", "--nonsense"), ("predict",), ("nonsense",), ("bench", "--threads", "x"), ("targets", "x")):
        assert answer(*words, code=2)["error"]["code"] == 2


def test_quiet_says_nothing_and_progress_goes_to_stderr(cli: Callable[..., Ended], bars_run: Path) -> None:
    loud = cli("run", "bars.toml", "--out", bars_run)
    assert "reused    torch" in loud.err and "accuracy" in loud.out
    hushed = cli("run", "bars.toml", "--out", bars_run, "-q")
    assert hushed.err == "" and hushed.out.splitlines()[0] == loud.out.splitlines()[0]
    assert "usage" not in cli("run", "bars.toml", "--out", bars_run, "-v", "-q").out.lower()


def test_settings_files_and_environment_in_order(
    answer: Json, cli: Callable[..., Ended], bars_run: Path, tmp_path: Path
) -> None:
    """Flag, then EDGEKIT_*, then ./edgekit.toml, then the user's configuration, which alone may name a target."""
    from helpers import environment, trust

    own = tmp_path / "config" / "edgekit" / "edgekit.toml"
    own.parent.mkdir(parents=True)
    own.write_text('target = "null"\n[bench]\nsamples = 10\n')
    (tmp_path / "edgekit.toml").write_text("[bench]\nprocesses = 1\nsamples = 20\nbatch = 2\n")
    trust(tmp_path)
    words, config = ("bench", bars_run / "onnx", "--json"), str(tmp_path / "config")
    by_file = cli(*words, env=environment(XDG_CONFIG_HOME=config)).json["measurements"][0]
    assert (by_file["target"], by_file["metric"]["samples"], by_file["latency_ms"]["batch"]) == ("null", 20, 2)
    thirty = environment(EDGEKIT_BENCH_SAMPLES="30", XDG_CONFIG_HOME=config)
    by_environment = cli(*words, env=thirty).json["measurements"][0]
    assert (by_environment["metric"]["samples"], by_environment["latency_ms"]["batch"]) == (30, 2)
    by_flag = cli(*words, "--samples", 40, env=thirty).json["measurements"][0]
    assert by_flag["metric"]["samples"] == 40


def test_deploy(answer: Json, bars_run: Path, tmp_path: Path) -> None:
    document = answer("deploy", bars_run / "onnx-int8", "--bundle", tmp_path / "bundle")
    assert document["command"] == "deploy" and document["result"]["how"] == "written"
    assert (tmp_path / "bundle" / "manifest.json").is_file()
    assert answer("deploy", bars_run / "torch", "--target", "host", code=2)["error"]["code"] == 2


def test_trust(answer: Json, tmp_path: Path) -> None:
    (tmp_path / "edgekit.toml").write_text("batch = 2\n")
    assert answer("trust", "--yes")["result"]["files"] == ["edgekit.toml"]
    entry = {"what": str(tmp_path), "kind": "folder", "state": "trusted"}
    assert entry in answer("trust", "--list")["result"]
    assert answer("trust", "--remove")["result"] == {"removed": str(tmp_path)}


def test_completion(answer: Json) -> None:
    assert answer("completion", "zsh")["result"]["script"].startswith("#compdef edgekit")


def test_every_command_is_tried_here() -> None:
    import click

    text = Path(__file__).read_text()
    for name in group.list_commands(click.Context(group)):
        assert f'answer("{name}"' in text, f"{name} is not tried with --json"
