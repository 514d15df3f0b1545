"""A detector on the page: its metric by class, and images with true and predicted boxes; no markup from names."""

from __future__ import annotations

import base64
import dataclasses

import numpy as np
import pytest
from report.made_up import measurement

from edgekit.core.config import build
from edgekit.measure.sample_predictions import png
from edgekit.report import html
from edgekit.report.boxes import Box, ByClass
from edgekit.report.lineage import RunDetails, Sample, SamplePredictions

PNG = base64.b64encode(png(np.full((60, 80, 3), 99, np.uint8))).decode()
CAT, DOG = Box("cat", (0.1, 0.1, 0.3, 0.4)), Box("dog <b>", (0.5, 0.4, 0.6, 0.7))


def details(png: str | None = PNG) -> RunDetails:
    """Two models, of which the second finds no dog."""
    samples = (Sample(7, "", png, (CAT, DOG)), Sample(9, "", png, ()))
    classes = ByClass(("cat", "dog <b>"), {"AP": (0.5, 0.25), "AP50": (0.75, 0.5), "boxes": (30.0, 4.0)}, 3)
    cat, dog = (dataclasses.replace(box, score=score) for box, score in ((CAT, 0.91), (DOG, 0.4)))
    models = [
        SamplePredictions(name, "onnxruntime", "host", (("", None),) * 2, None, by_class, found)
        for name, by_class, found in (
            ("onnx", classes, ((cat, dog), ())),
            ("onnx-int8", dataclasses.replace(classes, values={"AP": (0.48, 0.0)}), ((cat,), (dog,))),
        )
    ]
    return RunDetails({}, {"set": (samples, tuple(models))})


def page(png: str | None = PNG) -> str:
    rows = [measurement(p50=2.0), measurement("onnx-int8", p50=1.0, id="fed", precision="int8", parents=("onnx",))]
    return html(rows, "cats", details(png))


def test_each_class_has_its_values_for_each_model() -> None:
    text = page().partition('<section id="classes">')[2].partition("</section>")[0]
    assert '<td class="n">50.0<small>AP50 75.0</small></td><td class="n">48.0</td>' in text
    assert '<td class="n">4</td>' in text and "3 more classes are not shown" in text
    assert "dog &lt;b&gt;" in text and "<b>" not in text


def test_the_recommended_models_boxes_are_drawn_and_told() -> None:
    text = page().partition('<section id="boxes">')[2].partition("</section>")[0]
    assert "onnx-int8 on host" in text and "onnx on host" not in text
    assert text.count("<svg") == 2 and text.count('class="true"') == 2 and text.count('class="under"') == 2
    assert "<dd>cat 91 %</dd>" in text and "<dd>cat, dog &lt;b&gt;</dd>" in text and "<b>" not in text
    assert 'viewBox="0 0 240 180.0"' in text
    assert "Sample predictions" not in page(), "boxes are no short texts"


@pytest.mark.parametrize(
    "png", [None, "", "AAAA", "A", '"><script>', base64.b64encode(b"\x89PNG" + bytes(40)).decode()]
)
def test_what_is_no_picture_is_told_only(png: str | None) -> None:
    text = page(png).partition('<section id="boxes">')[2].partition("</section>")[0]
    assert "<svg" not in text and "<script" not in text and "<dd>cat 91 %</dd>" in text


def test_records_that_cannot_be_drawn_are_refused() -> None:
    assert build(ByClass, {"classes": ["a"], "values": {"AP": []}}, "")[0] is None
    for value in (float("nan"), 1e9):
        assert build(Box, {"name": "a", "box": [0, 0, value, 1]}, "")[0] is None
