"""Suggestions and fronts: what comes next is a function of the seed and of what is finished."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

pytest.importorskip("optuna")
from workflows.optimize.made_up import SPACE, tried

from edgekit.workflows.optimize import claims
from edgekit.workflows.optimize.space import Point, key
from edgekit.workflows.optimize.storage import Storage
from edgekit.workflows.optimize.study import Study, Trial


def search(study: Study, until: int) -> list[Point]:
    while len(trials := study.trials()) < until:
        point = study.suggest(trials)
        assert point is not None
        study.add(tried(point))
    return [trial.point for trial in study.trials()]


def opened(path: Path, seed: int = 0, worker: str = "") -> Study:
    prepare = claims.prepare if worker else None
    return Study(Storage(f"sqlite:///{path}", prepare), "study", SPACE, seed, worker, worker)


def test_a_search_stopped_anywhere_resumes_as_if_uninterrupted(tmp_path: Path) -> None:
    whole = search(opened(tmp_path / "whole.db"), 20)
    for until in (3, 4, 11, 20):
        broken = search(opened(tmp_path / "broken.db"), until)  # a new object each time, as a new process has
    assert broken == whole
    assert len({key(point) for point in whole}) == 20
    assert search(opened(tmp_path / "other.db", seed=1), 20) != whole


def test_the_plain_points_come_first(tmp_path: Path) -> None:
    first = search(opened(tmp_path / "t.db"), 6)
    assert {(p["runtime"], p["precision"]) for p in first} == {
        (runtime, precision) for runtime in ("onnxruntime", "litert", "openvino") for precision in ("float", "int8")
    }


def test_every_point_is_tried_once_and_then_there_is_none(tmp_path: Path) -> None:
    small = dataclasses.replace(
        SPACE, dimensions=tuple(dataclasses.replace(d, choices=d.choices[:2]) for d in SPACE.dimensions)
    )
    study = Study(Storage(f"sqlite:///{tmp_path / 't.db'}"), "study", small, 0)
    count = len(small.points())
    for _ in range(count):
        point = study.suggest(study.trials())
        assert point is not None
        study.add(dataclasses.replace(tried(point), state="finished"))
    assert study.suggest(study.trials()) is None
    assert {key(t.point) for t in study.trials()} == {key(p) for p in small.points()}


def test_an_artifact_that_was_pruned_is_not_suggested_with_other_threads(tmp_path: Path) -> None:
    study = opened(tmp_path / "t.db")
    while (point := study.suggest(trials := study.trials())) is not None and len(trials) < 60:
        lost = point["precision"] == "int8"
        study.add(Trial(-1, point, "pruned", "loses too much", "artifact") if lost else tried(point))
    pruned = [trial.point for trial in study.trials() if trial.state == "pruned"]
    assert len({(p["method"], p["runtime"]) for p in pruned}) == len(pruned) == 6


def test_workers_share_what_they_found(tmp_path: Path) -> None:
    one, two = opened(tmp_path / "t.db", worker="/a"), opened(tmp_path / "t.db", worker="/c")
    for _ in range(8):
        for worker in (one, two):
            point = worker.suggest(worker.trials())
            assert point is not None
            worker.add(tried(point))
    assert len({key(trial.point) for trial in one.trials()}) == 16
