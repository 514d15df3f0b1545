"""What models answer for a few samples: kept beside a measurement, and shown by the page with how they were made."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Ended

from edgekit.measure import sample_predictions
from edgekit.measure.sample_predictions import COUNT
from edgekit.report import html
from edgekit.report.lineage import RunDetails, Sample, SamplePredictions
from edgekit.workflows import clean, compare
from edgekit.workflows.compare.lineage import gather


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_a_png_is_what_it_was_made_of(shape: tuple[int, ...]) -> None:
    image = pytest.importorskip("PIL.Image")
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    assert np.array_equal(np.asarray(image.open(io.BytesIO(sample_predictions.png(pixels)))), pixels)


@pytest.mark.parametrize(
    ("shape", "dtype", "kept"),
    [
        ((28, 28), np.uint8, True),
        ((1, 28, 28), np.uint8, True),
        ((3, 500, 300), np.uint8, True),
        ((28, 28, 3), np.uint8, True),
        ((28, 28), np.float32, False),
        ((4, 4), np.uint8, False),
        ((5, 28, 28), np.uint8, False),
        ((28,), np.uint8, False),
    ],
)
def test_only_what_is_a_picture_is_kept_as_one(shape: tuple[int, ...], dtype: Any, kept: bool) -> None:
    made = sample_predictions._png_of({"input": np.zeros((2, *shape), dtype)}, 1)
    assert (made is not None) == kept
    assert not made or len(made) < 20_000


def test_a_run_keeps_answers_and_its_page_shows_them(cli: Callable[..., Ended], bars_run: Path) -> None:
    (samples,) = bars_run.glob("samples-*.json")
    document = json.loads(samples.read_text())
    assert len(document["samples"]) == COUNT
    assert {s["label"] for s in document["samples"]} == {"left", "right", "top", "bottom"}
    page = (bars_run / "report.html").read_text()
    assert "Sample predictions" in page
    assert "train → to_onnx → onnx_int8" in page and "epochs 8" in page
    assert "Training curves" in page and page.count("<style>") == 1
    ended = cli("compare", bars_run, "--html", "a.html")
    assert ended.code == 0, ended.err
    again = (bars_run.parent / "a.html").read_text()
    assert "train → to_onnx → onnx_int8" in again and "Sample predictions" in again


def test_the_confusion_matrix_agrees_with_the_metric(bars_run: Path) -> None:
    measurements = compare.compare([str(bars_run)])
    details = gather([bars_run], measurements)
    ((_, models),) = details.predictions.values()
    for one in models:
        metric = next(m.metric for m in measurements if m.artifact == one.artifact)
        assert one.confusion and metric and set(one.confusion.classes) == {"left", "right", "top", "bottom"}
        counts = np.array(one.confusion.counts)
        assert counts.sum() == metric.samples and np.trace(counts) / counts.sum() == pytest.approx(metric.value)
    assert "Confusion matrix" in html(measurements, "t", details)


def test_only_one_class_per_sample_has_a_confusion_matrix() -> None:
    scores, labels = np.eye(3)[[0, 1, 1]], np.array([0, 1, 2])
    found = sample_predictions._confusion({"y": scores}, labels, ("a", "b"))
    assert found == {"classes": ["a", "b", "2"], "counts": [[1, 0, 0], [0, 1, 0], [0, 1, 0]]}
    for other in (None, labels - 1, labels + 1, labels.astype(float), labels[:2], np.stack([labels, labels])):
        assert sample_predictions._confusion({"y": scores}, other, ()) is None
    for outputs in ({"y": scores, "z": scores}, {"y": scores[:, :1]}, {"y": np.zeros((3, 31))}, {"y": labels}):
        assert sample_predictions._confusion(outputs, labels, ()) is None


def test_answers_agree_with_the_metric(bars_run: Path) -> None:
    measurements = compare.compare([str(bars_run)])
    (found,) = gather([bars_run], measurements).predictions.values()
    for one in found[1]:
        m = next(m for m in measurements if m.artifact == one.artifact)
        assert m.metric and m.metric.correct_file
        correct = np.load(bars_run / m.metric.correct_file)
        assert [right for _, right in one.predictions] == [bool(correct[s.index]) for s in found[0]]


def test_damaged_files_are_left_out(bars_run: Path) -> None:
    measurements = compare.compare([str(bars_run)])
    for path in [*bars_run.glob("samples-*.json"), *bars_run.glob("onnx/answers-*.json")]:
        path.write_text('{"answers": 3, "samples": [{}]}')
    (bars_run / "onnx-int8" / "artifact.json").write_text("{")
    found = gather([bars_run, bars_run / "nowhere"], measurements)
    assert not found.predictions
    assert {lineage.artifact for lineage in found.lineages.values()} == {"torch", "onnx"}


def test_a_run_is_cleaned_of_its_samples(bars_run: Path) -> None:
    left = clean.clean(bars_run)
    assert not [name for name in left if name.startswith("samples-")]


def test_samples_that_tell_most_come_first_and_nothing_becomes_markup() -> None:
    samples = tuple(Sample(i, "<b>", '"><script>' if i == 3 else None) for i in range(20))
    sure = SamplePredictions("a<b>", "r", "host", tuple(("<i>", True) for _ in range(20)))
    odd = SamplePredictions("b", "r", "host", tuple(("<i>", True) if i != 19 else ("other", False) for i in range(20)))
    page = html([], "t", RunDetails({}, {"set": (samples, (sure, odd))}))
    assert "sample 19" in page and "sample 18" not in page
    assert "a&lt;b&gt;" in page and "<script>&quot;" not in page and '"><script>' not in page
    assert "(wrong)" in page
