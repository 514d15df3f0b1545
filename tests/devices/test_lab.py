"""A board over ssh and a phone over adb, both emulated, from nothing: one recipe, then a deployment to each."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import BARS, Ended

from edgekit.devices import _boards, _image
from edgekit.errors import EdgekitError

BOARD, _ = TARGETS = ("emulated-cortex-a72", "emulated-phone")
RECIPE = f"""{BARS}
[[chain]]
steps = ["train", "to_tflite", "tflite_int8"]

[plan]
processes = 1
samples = 256
seconds = 0.01
warmup_seconds = 0.0
min_runs = 11
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_trained_measured_and_deployed_on_both(
    cli: Callable[..., Ended],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    members: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    try:
        _image.check_tools(*_boards.PHONE_TOOLS)
    except EdgekitError as error:
        assert not os.environ.get("CI"), error
        pytest.skip(str(error))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "boards"))
    (tmp_path / "bars.toml").write_text(RECIPE)
    words = [word for name in TARGETS for word in ("--target", name)]
    ended = cli("run", "bars.toml", "--out", "run", "--target", "host", *words, "--json", timeout=1500)
    assert ended.code == 0, ended.err
    rows = [row for row in ended.json["measurements"] if row["runtime"] != "torch"]
    assert {(row["target"], row["runtime"], row["precision"]) for row in rows} == {
        (target, runtime, precision)
        for target in ("host", *TARGETS)
        for runtime in ("onnxruntime", "litert")
        for precision in ("fp32", "int8")
    }
    native = {row["artifact"]: row["peak_rss_bytes"] for row in rows if row["target"] == "host"}
    for row in rows:
        if row["target"] == "host":
            continue
        assert row["provenance"] == "emulated" and row["latency_ms"] is None and row["facts"]["instructions"] > 10_000
        if row["target"] == BOARD:
            assert row["peak_rss_bytes"] == pytest.approx(native[row["artifact"]], rel=0.15)
        alike = row["facts"].get("agreement")
        if alike is None:  # this machine saturates what that scheme sums up, so it is no judge
            assert row["artifact"] == "onnx-int8@arm64"
            continue
        assert alike["samples"] == 256
        assert alike["bit_identical"] if row["precision"] == "int8" else alike["max_abs"] <= 5e-4, row["artifact"]
    for name in TARGETS:
        deployed = cli("deploy", "run/tflite-int8", "--target", name, "--json", timeout=500)
        assert deployed.code == 0, deployed.err
        assert deployed.json["result"]["check"]["bit_identical"]
