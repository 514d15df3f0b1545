"""The table of measured kernels."""

from __future__ import annotations

import json

import pytest

from edgekit.workflows import kernels


def test_what_was_measured_is_known_and_nothing_else() -> None:
    assert kernels.known("litert", "x86-vnni")
    assert not kernels.known("litert", "riscv") and not kernels.known("odd", "x86-vnni")
    assert kernels.float_over_int8("HARD_SWISH", (), "litert", "riscv") is None


def test_an_operator_that_is_faster_in_float() -> None:
    table = json.loads(kernels.KERNELS.read_text())["litert"]["instruction_sets"]["x86-vnni"]
    ratio = table["HARD_SWISH"]["float_over_int8"]
    assert kernels.float_over_int8("HARD_SWISH", ["HARD_SWISH"], "litert", "x86-vnni") == pytest.approx(ratio)
    assert kernels.float_over_int8("MAX_POOL_2D", ["MAX_POOL_2D"], "litert", "x86-vnni") is None, "faster in int8"
    assert kernels.float_over_int8("CONV_2D", ["CONV_2D"], "litert", "x86-vnni") is None, "not measured"


def test_several_operators_that_compute_one_function() -> None:
    group = next(g for g in kernels.slow_in_int8("litert", "x86-vnni") if len(g) > 1)
    kind = min(group)
    assert kernels.float_over_int8(kind, group, "litert", "x86-vnni") is not None
    assert kernels.float_over_int8(kind, (), "litert", "x86-vnni") is None, "the others are in int8"
