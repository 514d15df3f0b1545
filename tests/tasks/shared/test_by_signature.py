"""Metrics of models without a task: of classes by the signature or as asked for; mAP from files to a known number."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import squares_detector
from squares_detector import CLASSES, SIDE, SQUARES, coco, pictures, save, yolo

import edgekit
from edgekit.core import metrics, statistics
from edgekit.core.artifact import Artifact, Kind, Sizes, TensorSpec
from edgekit.core.errors import InputError, Unusable
from edgekit.core.samples import SampleSet
from edgekit.core.signature import OutputSignature
from edgekit.core.task import chosen_metric
from edgekit.runs import named_sets
from edgekit.runs.store import Store
from edgekit.tasks.shared import by_signature
from edgekit.workflows import export

pytest.importorskip("pycocotools")
pytest.importorskip("PIL.Image", reason="Pillow is not installed")

QUICK = ["--quick", "--processes", "1"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The imported detector, recognised from its shapes."""
    monkeypatch.chdir(tmp_path)
    edgekit.import_model(save(tmp_path / "squares.onnx", named=True), out="run")
    artifact = Store(tmp_path / "run").get("onnx")
    assert artifact.details["signature"] == "the shapes of its outputs" and artifact.signature.classes == CLASSES
    return artifact


def outputs_of(model: Any, data: Any) -> dict[str, np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model.path / "model.onnx")
    return {"output0": np.concatenate([session.run(None, {"images": x[None]})[0] for x in data.inputs["images"]])}


@pytest.mark.parametrize("layout", [coco, yolo])
def test_a_right_detector_scores_one(model: Any, tmp_path: Path, layout: Any) -> None:
    data = named_sets.load(str(layout(tmp_path / "data")), model.inputs)
    scores = by_signature.scorer(data, model)(outputs_of(model, data), data.labels)
    assert scores.name == "mAP" and scores.value == pytest.approx(1)
    assert not statistics.chance(scores, data.labels)


@pytest.mark.parametrize(("batched", "masks"), [(False, False), (True, True)])
def test_lists_of_boxes_from_inside_the_graph(
    batched: bool, masks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Callable[..., Any]
) -> None:
    """torchvision's form: one image without a batch axis, and as many boxes as it finds; also in OpenVINO and a bundle,
    none where there is none; more than are read is an error."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    squares_detector.lists(tmp_path / "lists.onnx", batched, masks)
    data = str(coco(tmp_path / "data"))
    edgekit.import_model("lists.onnx", signature="torchvision", classes="names.txt", out="run")
    artifact = Store(tmp_path / "run").get("onnx")
    assert [spec.shape for spec in artifact.outputs] == [(1, None, 4), (1, None), (1, None)]
    assert artifact.inputs[0].shape == (1, 3, SIDE, SIDE) and len(artifact.lists) == 3
    outcome = export.export("run/onnx", to=["openvino"])
    assert "returns the same for all random inputs" in outcome.findings[-1].unverified, "nothing is found in them"
    results = edgekit.bench("run", data=data, latency=False)
    assert list(results.to_pandas()["value"]) == [pytest.approx(1)] * 2
    assert cli("deploy", "run/onnx", "--bundle", "bundle", "--data", data).code == 0
    program = [sys.executable, "bundle/predict.py", "--json", "data/images/2.png", "data/images/3.png"]
    lines = subprocess.run(program, capture_output=True, text=True, check=True).stdout.splitlines()
    assert [len(json.loads(line)["boxes"]) for line in lines] == [2, 0]
    monkeypatch.setattr("edgekit.core.artifact.MOST_BOXES", 1)
    with pytest.raises(Unusable, match="at most 1 boxes of a sample are read"):
        edgekit.bench("run/onnx", data=data, latency=False)


def test_boxes_of_another_class_and_place_score_nothing(model: Any, tmp_path: Path) -> None:
    data = named_sets.load(str(coco(tmp_path / "data")), model.inputs)
    right = outputs_of(model, data)
    for change in (lambda x: x[:, [0, 1, 2, 3, 5, 4]], lambda x: x + np.float32([9, 0, 0, 0, 0, 0])[:, None]):
        scores = by_signature.scorer(data, model)({"output0": change(right["output0"])}, data.labels)
        assert scores.value < 0.01
        assert statistics.chance(scores, data.labels).startswith(f"its mAP is {scores.value:.2%}")


def test_the_number_is_cocos(model: Any, tmp_path: Path) -> None:
    """On boxes that are shaken: the files' own COCOeval, in pixels of the images, letterbox undone."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from edgekit.core.signature import plain
    from edgekit.ondevice import detections, preprocess

    folder = coco(tmp_path / "data")
    data = named_sets.load(str(folder), model.inputs)
    shaken = outputs_of(model, data)["output0"]
    shaken[:, :4] += np.random.default_rng(0).normal(size=shaken[:, :4].shape).astype(np.float32)
    shaken[:, 4:] *= np.random.default_rng(1).uniform(0.2, 1, shaken[:, 4:].shape)
    scores = by_signature.scorer(data, model)({"output0": shaken}, data.labels)
    records = [plain(record) for record in model.signature.outputs]
    front = plain(model.inputs[0].signature)
    answers = []
    for number, found in enumerate(detections.decode([shaken], records, (SIDE, SIDE), detections.MEASURED)):
        size = (SIDE // 2 if number == 1 else SIDE, SIDE)
        for k, score, *box in detections.in_image(found, preprocess.placement(front, *size), size).tolist():
            answers.append({"image_id": 10 + number, "category_id": 5 * int(k) + 1, "bbox": box, "score": score})
    document = json.loads((folder / "annotations.json").read_text())
    for entry in document["annotations"]:
        entry["area"] = entry["bbox"][2] * entry["bbox"][3]
    (folder / "annotations.json").write_text(json.dumps(document))
    truth = COCO(str(folder / "annotations.json"))
    evaluation = COCOeval(truth, truth.loadRes(answers), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert 0.1 < scores.value < 0.9
    assert scores.value == pytest.approx(evaluation.stats[0], abs=0.01), "a clipped edge is rounded elsewhere"
    assert scores.by_class
    values = scores.by_class(scores.per_sample)
    assert values["AP"].mean() == pytest.approx(scores.value)
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # IoU, recall, class
    assert values["AP"] == pytest.approx(precision.mean(axis=(0, 1)), abs=0.01)
    assert values["AP50"] == pytest.approx(precision[0].mean(axis=0), abs=0.01)
    assert values["boxes"].tolist() == [4, 3]


def test_a_head_that_nobody_knows_is_asked_for(model: Any, tmp_path: Path) -> None:
    data = named_sets.load(str(coco(tmp_path / "data")), model.inputs)
    unknown = dataclasses.replace(model, outputs=(TensorSpec("output0", "float32", (1, 21, 7)),))
    with pytest.raises(InputError) as error:
        by_signature.scorer(data, unknown)
    assert "float32[1, 21, 7]" in error.value.why and "--signature" in error.value.next


def test_classes_that_differ(model: Any, tmp_path: Path) -> None:
    data = named_sets.load(str(coco(tmp_path / "data")), model.inputs)
    (spec,) = model.outputs
    nameless = dataclasses.replace(spec, signature=dataclasses.replace(spec.signature, classes=()))
    more = dataclasses.replace(nameless, shape=(1, 4 + 80, 21))
    assert by_signature.scorer(data, dataclasses.replace(model, outputs=(nameless,)))
    with pytest.raises(InputError, match="has 2 classes, and the model 80"):
        by_signature.scorer(data, dataclasses.replace(model, outputs=(more,)))


def test_scores_without_their_sigmoid_are_refused(model: Any, tmp_path: Path) -> None:
    data = named_sets.load(str(coco(tmp_path / "data")), model.inputs)
    logits = outputs_of(model, data)["output0"]
    logits[:, 4:] = logits[:, 4:] * 9 - 4
    with pytest.raises(InputError, match="not those that the signature describes"):
        by_signature.scorer(data, model)({"output0": logits}, data.labels)


def test_classes_beyond_the_datas_are_refused(model: Any, tmp_path: Path) -> None:
    data = named_sets.load(str(coco(tmp_path / "data")), model.inputs)
    record = OutputSignature("boxes", boxes="xyxy", columns="score-class", suppressed=True)
    best = dataclasses.replace(model, outputs=(TensorSpec("output0", "float32", (1, 2, 6), signature=record),))
    rows = np.tile(np.float32([0, 0, 8, 8, 0.9, 7]), (len(SQUARES), 2, 1))
    with pytest.raises(InputError, match="more classes than the data"):
        by_signature.scorer(data, best)({"output0": rows}, data.labels)


def test_from_a_file_to_boxes_on_the_command_line(tmp_path: Path, cli: Callable[..., Any]) -> None:
    save(tmp_path / "squares.onnx", named=True)
    coco(tmp_path / "data")
    result = cli("bench", "squares.onnx", "--data", "data", *QUICK, "--json")
    assert result.code == 0, result.err
    (row,) = result.json["measurements"]
    assert row["metric"]["name"] == "mAP" and row["metric"]["value"] == pytest.approx(1)
    files = pictures(tmp_path / "photos")
    result = cli("predict", "squares.onnx", files[0], files[1], "--draw", "drawn", "--json")
    assert result.code == 0, result.err
    first, second = result.json["result"]
    assert first["boxes"] == [{"class": "red", "score": 1.0, "box": [8.0, 16.0, 8.0, 8.0]}]
    assert second["boxes"][0]["box"] == [24.0, 0.0, 8.0, 8.0], "in pixels of the image, without the letterbox"
    assert (tmp_path / first["drawn"]).is_file() and (tmp_path / second["drawn"]).is_file()
    assert cli("predict", "squares.onnx", files[2]).out.count("100%") == 2
    refused = cli("predict", "runs/squares/onnx", "data.npy", "--draw", "drawn")
    assert refused.code == 2


def test_a_bundle_decodes_boxes_itself(tmp_path: Path, cli: Callable[..., Any]) -> None:
    save(tmp_path / "squares.onnx", named=True)
    folder = coco(tmp_path / "data")
    result = cli("deploy", "squares.onnx", "--bundle", "b", "--data", folder)
    assert result.code == 0, result.err
    assert "6 files through its own program: 100.0% of the host's boxes" in result.out
    told = subprocess.run(
        [sys.executable, "-I", "b/predict.py", "data/images/1.png", "data/images/3.png"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout
    assert told.splitlines() == ["data/images/1.png: green 100% at 24,0 8x8", "data/images/3.png: no boxes"]


def test_data_without_a_box_has_no_map(model: Any, tmp_path: Path) -> None:
    data = named_sets.load(str(coco(tmp_path / "data", annotations=[])), model.inputs)
    with pytest.raises(InputError, match="there is no box"):
        by_signature.scorer(data, model)


def test_other_labels_of_six_numbers_are_no_boxes(model: Any, tmp_path: Path) -> None:
    data = named_sets.load(str(coco(tmp_path / "data")), model.inputs)
    assert data.labels is not None
    values = dataclasses.replace(data, labels=np.zeros_like(data.labels))
    assert not isinstance(by_signature.scorer(values, model), by_signature.Boxes)


def test_scores_of_a_broken_int8_model_are_no_error(model: Any, tmp_path: Path) -> None:
    """One scale for boxes up to 640 and scores up to 1: a score is 0 or 2.5."""
    data = named_sets.load(str(coco(tmp_path / "data")), model.inputs)
    rounded = np.round(outputs_of(model, data)["output0"] / 2.5) * np.float32(2.5)
    assert by_signature.scorer(data, model)({"output0": rounded}, data.labels).value < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("format", ["onnx", "tflite", "openvino"])
def test_int8_keeps_the_boxes(tmp_path: Path, cli: Callable[..., Any], format: str) -> None:
    save(tmp_path / "squares.onnx", named=True, deep=True)
    yaml = yolo(tmp_path / "data")
    words = ("--int8", "--to", format, "--fast", "--calibration", yaml, "--val", yaml, "--max-drop", "1", "--json")
    result = cli("quantize", "squares.onnx", *words)
    assert result.code == 0, result.err
    assert Store(tmp_path / "runs" / "squares").get(f"{format}-int8").signature.classes == CLASSES


def classifier(**kinds: str) -> Artifact:
    outputs = tuple(
        TensorSpec(name, "float32", (None, 30), signature=OutputSignature(kind)) for name, kind in kinds.items()
    )
    tensors = (TensorSpec("x", "float32", (None, 8)),), outputs, Sizes(1, 1, 0, 0), {}, Path("onnx")
    return Artifact("onnx", "id", Kind("onnx"), "import_onnx", {}, (), "", *tensors)


def indices(count: int = 60, dtype: str = "int64") -> SampleSet:
    return SampleSet("set", {"x": np.zeros((count, 8), np.float32)}, np.arange(count).astype(dtype) % 20, "sha")


@pytest.mark.parametrize(
    ("kinds", "metric", "name"),
    [
        ({"y": ""}, "", "accuracy"),
        ({"y": "logits"}, "", "accuracy"),
        ({"y": "logits"}, "top1", "accuracy"),
        ({"y": "logits"}, "top5", "top5"),
        ({"y": "embedding"}, "", "recall@1"),
        ({"y": ""}, "recall@1", "recall@1"),
        ({"e": "embedding", "y": "logits"}, "", "accuracy"),
        ({"e": "embedding", "y": "probabilities"}, "top5", "top5"),
        ({"y": "logits", "e": "embedding"}, "recall@1", "recall@1"),
    ],
)
def test_the_metric_and_its_output(kinds: dict[str, str], metric: str, name: str) -> None:
    """The output of the kind that the metric needs, also where another format names it differently."""
    of, random = indices(), np.random.default_rng(0)
    scorer = by_signature.scorer(of, classifier(**kinds), metric)
    assert of.labels is not None
    wanted = {"y": np.eye(30)[of.labels], "e": np.eye(30)[of.labels]}
    outputs = {
        key: wanted[key] if key == ("y" if name != "recall@1" or "e" not in kinds else "e") else random.random((60, 30))
        for key in kinds
    }
    scores = scorer(outputs, of.labels)
    assert (scores.name, scores.value) == (name, 1)
    renamed = {f"Identity_{index}": value for index, value in enumerate(outputs.values())}
    if chosen_metric(scorer):
        assert scorer(renamed, of.labels).value == 1
    assert chosen_metric(scorer) == ("" if name == "accuracy" else name), "measurements of several must be told apart"


@pytest.mark.parametrize(
    ("kind", "metric", "why"),
    [("embedding", "top5", "needs class scores"), ("logits", "recall@1", "no embedding")],
)
def test_a_metric_that_the_outputs_do_not_allow(kind: str, metric: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        by_signature.scorer(indices(), classifier(y=kind), metric)


@pytest.mark.parametrize("shape", [(60,), (60, 4, 6), (60, 4, 4)])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_labels_that_are_no_classes_have_one_metric(shape: tuple[int, ...], dtype: str) -> None:
    labels = np.zeros(shape, dtype)
    if labels.ndim == 1 and dtype == "uint8":
        return
    of = SampleSet("set", {"x": np.zeros((60, 8))}, labels, "sha")
    with pytest.raises(InputError, match="top5 does not apply"):
        by_signature.scorer(of, classifier(y="logits"), "top5")


def test_the_labels_decide_by_default() -> None:
    assert by_signature.scorer(indices(), classifier(y="")) is metrics.top1
    assert by_signature.scorer(indices(dtype="float32"), classifier(y="")) is metrics.r_squared


def test_samples_that_are_not_looked_up_are_counted() -> None:
    scorer = by_signature.scorer(indices(), classifier(y="embedding"))
    assert isinstance(scorer, by_signature.OfOutput)
    assert scorer.notes(np.array([0, 0, 1, 1])) == ()
    assert scorer.notes(np.array([0, 0, 1, 2])) == ("2 classes have one sample, which recall@1 does not look up",)
