"""The ONNX steps: dynamic batch, the scheme a target asks for, samples that fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import sets
from edgekit.errors import InputError
from edgekit.steps.onnx_fp16 import OnnxFp16
from edgekit.steps.onnx_int8 import OnnxInt8
from edgekit.store import Store
from edgekit.types import Context, Notes, Target

onnx = pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.usefixtures("members")


def quiet(items: Any, what: str, total: int | None = None) -> Iterator[Any]:
    yield from items


@pytest.fixture
def apply(bars_made: Path, tmp_path: Path) -> Callable[..., tuple[Notes, Path]]:
    def call(step: Any, calibration: Any = None) -> tuple[Notes, Path]:
        data = {"calibration": calibration} if calibration else {}
        context = Context(None, data, quiet, logging.getLogger("t"))
        return step.apply({"parent": Store(bars_made).get("onnx")}, tmp_path, context), tmp_path / "model.onnx"

    return call


def answers(path: Path, count: int) -> np.ndarray:
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = sets.take(sets.load("bars:test"), count).inputs["input"].astype(np.float32)
    return session.run(None, {session.get_inputs()[0].name: x})[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_batch_is_dynamic(bars_made: Path, count: int) -> None:
    assert answers(bars_made / "onnx" / "model.onnx", count).shape == (count, 4)
    assert answers(bars_made / "onnx-int8" / "model.onnx", count).shape == (count, 4)


def test_half_precision(apply: Callable[..., tuple[Notes, Path]], bars_made: Path) -> None:
    _, path = apply(OnnxFp16())
    onnx.checker.check_model(str(path))
    full, half = answers(bars_made / "onnx" / "model.onnx", 50), answers(path, 50)
    assert half.dtype == np.float32, "inputs and outputs stay float32"
    assert np.abs(full - half).max() < 0.01 * np.abs(full).max()


@pytest.mark.parametrize(
    ("arch", "isa", "scheme"),
    [
        ("x86_64", ("avx512_vnni",), "u8s8"),
        ("x86_64", ("avx2", "avx_vnni"), "u8s8"),
        ("x86_64", ("avx2",), "u8s8-reduced"),
        ("aarch64", ("asimddp",), "s8s8"),
        ("arm64", (), "s8s8"),
        ("riscv64", (), "u8s8"),
    ],
)
def test_the_scheme_is_the_target_s(arch: str, isa: tuple[str, ...], scheme: str) -> None:
    target = Target("t", "", "ssh", arch=arch, isa=isa)
    assert OnnxInt8().resolve(target).scheme == scheme
    assert OnnxInt8(scheme="s8s8").resolve(target).scheme == "s8s8", "what was asked for was overruled"


@pytest.mark.parametrize("scheme", ["u8s8", "u8s8-reduced", "s8s8"])
def test_the_scheme_is_in_the_file(apply: Callable[..., tuple[Notes, Path]], scheme: Any) -> None:
    notes, path = apply(OnnxInt8(scheme=scheme, samples=16), sets.load("bars:train"))
    assert notes.scheme.startswith(f"{scheme} ")
    assert "16 samples" in notes.scheme
    tensors = {t.name: t for t in onnx.load(str(path)).graph.initializer}
    weights = [onnx.numpy_helper.to_array(t) for t in tensors.values() if len(t.dims) >= 2]
    assert all(w.dtype == np.int8 for w in weights)
    largest = max(int(np.abs(w.astype(int)).max()) for w in weights)
    assert largest <= 64 if scheme == "u8s8-reduced" else largest > 64, "7-bit weights are what keeps sums exact"
    activations = {t.data_type for name, t in tensors.items() if name.endswith("_zero_point") and not t.dims}
    wanted = onnx.TensorProto.INT8 if scheme == "s8s8" else onnx.TensorProto.UINT8
    assert wanted in activations


def test_per_channel(apply: Callable[..., tuple[Notes, Path]]) -> None:
    _, path = apply(OnnxInt8(scheme="u8s8", samples=8), sets.load("bars:train"))
    scales = [
        t for t in onnx.load(str(path)).graph.initializer if t.name.endswith("scale") and list(t.dims) not in ([], [1])
    ]
    assert scales, "one scale per tensor only"


def test_calibration_samples_must_fit(apply: Callable[..., tuple[Notes, Path]]) -> None:
    data = sets.load("bars:train")
    for inputs, said in (
        ({"input": data.inputs["input"][:, :, :7]}, "takes [1, 20, 20] per sample"),
        ({"a": data.inputs["input"], "b": data.inputs["input"]}, "the set holds a, b"),
    ):
        with pytest.raises(InputError) as error:
            apply(OnnxInt8(scheme="u8s8"), sets.sample_set("mine", inputs, None))
        assert said in str(error.value)


def test_calibration_reads_no_more_than_it_says(apply: Callable[..., tuple[Notes, Path]], tmp_path: Path) -> None:
    """Samples beyond the first N change nothing."""
    data = sets.load("bars:train")
    changed = data.inputs["input"].copy()
    changed[8:] = 255
    step = OnnxInt8(scheme="u8s8", samples=8)
    first = apply(step, data)[1].read_bytes()
    assert apply(step, replace(data, inputs={"input": changed}))[1].read_bytes() == first
