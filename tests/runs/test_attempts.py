"""Which artifacts of a run a search made on its way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report.made_up import measurement, metric

from edgekit.core.measurement import Measurement
from edgekit.runs import attempts
from edgekit.runs.attempts import METHODS_FILE, TRY
from edgekit.runs.store import Store


def test_artifacts_of_the_attempts(tmp_path: Path) -> None:
    record = {"onnx-int8": {"attempts": [], "made": ["a", "b"]}, "tflite-int8": {"attempts": [], "made": ["b", "c"]}}
    (tmp_path / METHODS_FILE).write_text(json.dumps(record))
    assert attempts.read_attempts(Store(tmp_path)) == record
    assert attempts.attempt_artifacts(Store(tmp_path)) == {"a", "b", "c"}


@pytest.mark.parametrize("text", [None, "", "{", "[]", "7", '{"a": 1}', '{"a": {"made": []}}'])
def test_a_record_that_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / METHODS_FILE).write_text(text)
    assert attempts.read_attempts(Store(tmp_path)) == {} and attempts.attempt_artifacts(Store(tmp_path)) == frozenset()


class FakeStore:
    def __init__(self, *rows: Measurement) -> None:
        self.rows = rows

    def names(self) -> list[str]:
        return [m.artifact for m in self.rows]

    def measurements(self) -> dict[str, Measurement]:
        return {str(index): m for index, m in enumerate(self.rows)}


def row(name: str, part: str) -> Measurement:
    return measurement(name, metric=metric(set_sha256=f"abc{part}"))


def test_trials_are_no_results() -> None:
    confirmed = row(f"{TRY}-7.onnx", "/1")
    rows = [row("onnx", "/0"), row(f"{TRY}-7.onnx", "/0"), confirmed, row("trying.onnx", "/0")]
    store: Any = FakeStore(*rows)
    assert attempts.trial_artifacts(store) == {f"{TRY}-7.onnx"}
    assert attempts.without_trials(store) == [rows[0], confirmed, rows[3]]
