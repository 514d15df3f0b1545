"""Measurements through JSON, and when two latencies differ."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from report.made_up import measurement, measurements

from edgekit.core.errors import InputError
from edgekit.core.json import record
from edgekit.core.measurement import Measurement, Ratio


@given(measurements)
def test_a_measurement_survives_json(m: Measurement) -> None:
    again = record(Measurement, json.loads(json.dumps(dataclasses.asdict(m))), "r.json")
    assert json.dumps(dataclasses.asdict(again)) == json.dumps(dataclasses.asdict(m))  # NaN is not equal to itself
    assert type(again.invalid) is tuple and type(again.parents) is tuple
    if again.metric:
        assert type(again.metric.ci95) is tuple


def test_fields_of_a_newer_version_are_left_out() -> None:
    data = {**dataclasses.asdict(measurement()), "of_tomorrow": 1}
    assert record(Measurement, data, "r.json", newer=True) == measurement()


def test_a_required_field_is_missed() -> None:
    data = dataclasses.asdict(measurement())
    del data["runtime"]
    with pytest.raises(InputError, match="'runtime' is missing"):
        record(Measurement, data, "r.json")


@pytest.mark.parametrize(
    ("interval", "differs"),
    [((0.9, 1.1), False), ((1.0, 1.2), False), ((0.8, 1.0), False), ((1.01, 1.2), True), ((0.5, 0.99), True)],
)
def test_the_interval_decides(interval: tuple[float, float], differs: bool) -> None:
    assert Ratio(1.1, interval).differs == differs
