"""A Hugging Face directory through the commands: three formats, texts in and out, a bundle, bad input in one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import small_transformers as small
from helpers import Ended

from edgekit.core.errors import InputError
from edgekit.runs import named_sets
from edgekit.runs.store import Store
from edgekit.sets import random_inputs
from edgekit.workflows import export, import_
from edgekit.workflows.predict import predict

FORMATS = ["onnx", "openvino", "tflite"]
TEXTS = ["the film was good", "a very bad plot and an ugly story", "great actor"]


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.csv"
    rows = [f"{text},{label}" for text, label in zip(TEXTS * 4, ["good", "bad", "good"] * 4, strict=True)]
    path.write_text("\n".join(["review,label", *rows]) + "\n")
    return path


def test_an_imported_run_finds_its_tokenizer_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small.write(tmp_path / "model", "bert-classifier")
    outcome = import_.import_model("model")
    (artifact,) = outcome.artifacts
    assert artifact.path == Path("runs/model/torch") and artifact.step == "import_hf"
    record = json.loads((artifact.path / "artifact.json").read_text())
    assert [spec["signature"]["tokenizer"] for spec in record["inputs"]] == ["tokenizer.json"] * 3
    assert str(tmp_path) not in json.dumps(record)
    Path("runs/model").rename("moved")
    moved = Store(Path("moved")).get("torch")
    assert {spec.signature.tokenizer for spec in moved.inputs} == {"moved/torch/tokenizer.json"}  # type: ignore[union-attr]
    copied = Store(Path("moved")).copy(moved, "again")
    assert copied.inputs[0].signature.tokenizer == "moved/again/tokenizer.json"  # type: ignore[union-attr]
    (tmp_path / "lines.txt").write_text("\n".join(TEXTS))
    assert named_sets.load("lines.txt", copied.inputs).inputs["input_ids"].shape == (3, 16)
    data = random_inputs(moved, moved)
    assert (data.inputs["attention_mask"] == 1).all() and not data.inputs["token_type_ids"].any()
    assert 30 < data.inputs["input_ids"].max() < 40 and data.more[0].inputs["input_ids"].shape == (1, 8)
    (entry,) = predict("moved/torch", ["the film was good"], "host", 3)
    assert {each["class"] for each in entry["classes"]} == {"bad", "good", "mixed"}


def test_a_directory_that_is_a_run_too_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small.write(tmp_path / "model", "vit")
    import_.import_model("model", out=tmp_path / "model")
    with pytest.raises(InputError, match="is a run and a Hugging Face directory"):
        import_.import_model("model")
    assert Store(tmp_path / "model").get("torch").name == "torch"
    with pytest.raises(InputError, match="already in a run"):
        import_.import_model("model/torch")


@pytest.mark.slow
def test_texts_from_a_directory_to_a_bundle(reviews: Path, cli: Callable[..., Ended], tmp_path: Path) -> None:
    small.write(tmp_path / "model", "bert-classifier")
    outcome = export.export(str(tmp_path / "model"), to=FORMATS, val=f"{reviews}", out=tmp_path / "run")
    assert [artifact.kind.format for artifact in outcome.artifacts] == FORMATS
    assert all(not each.failed and each.parity and each.parity.sqnr_db > 90 for each in outcome.findings)
    assert len({finding.metric.value for finding in outcome.findings if finding.metric}) == 1
    expected = predict(str(tmp_path / "run" / "torch"), TEXTS[:1], "host", 3)[0]["text"]
    assert predict(str(tmp_path / "run" / "tflite"), TEXTS[:1], "host", 3)[0]["text"] == expected
    done = cli("deploy", "run/onnx", "--bundle", "bundle")
    assert done.code == 0, done.err
    shutil.rmtree(tmp_path / "run")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(tmp_path / "bundle" / "predict.py"), TEXTS[0]]
    ran = subprocess.run(command, text=True, capture_output=True, env=environment, check=True)
    assert ran.stdout == f"{TEXTS[0]}: {expected}\n"
    readme = (tmp_path / "bundle" / "README.md").read_text()
    assert "A program in C gives the model token ids" in readme and "`tokenizers`" in readme
    assert not (tmp_path / "bundle" / "example.c").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["roberta", *(pytest.param(kind, marks=pytest.mark.nightly) for kind in ("distilbert", "albert", "mpnet"))]
)
def test_encoders_in_three_formats(kind: str, tmp_path: Path) -> None:
    small.write(tmp_path / "model", kind)
    (tmp_path / "lines.txt").write_text("\n".join(TEXTS * 3))
    out = tmp_path / "run"
    outcome = export.export(str(tmp_path / "model"), to=FORMATS, val=str(tmp_path / "lines.txt"), out=out)
    assert [artifact.kind.format for artifact in outcome.artifacts] == FORMATS
    assert all(not each.failed and each.parity and each.parity.sqnr_db > 90 for each in outcome.findings)


@pytest.mark.slow
@pytest.mark.nightly
def test_images_in_three_formats(tmp_path: Path) -> None:
    small.write(tmp_path / "model", "vit")
    outcome = export.export(str(tmp_path / "model"), to=FORMATS, out=tmp_path / "run")
    assert [artifact.kind.format for artifact in outcome.artifacts] == FORMATS


def test_what_a_child_refuses_comes_back_in_one_line(tmp_path: Path) -> None:
    small.write(tmp_path / "model", "bert")
    small.change(tmp_path / "model" / "config.json", model_type="mine", auto_map={"AutoModel": "mine.Mine"})
    with pytest.raises(InputError, match="needs code that comes with it") as caught:
        import_.import_model(str(tmp_path / "model"), out=tmp_path / "run")
    assert "net.py:make" in caught.value.next and not (tmp_path / "run" / "torch").exists()
