"""OpenVINO's int8 kernels on x86 without VNNI compute operators with bounded weights to the integer.

In an emulated Haswell, and, on a CPU with AVX-512, with oneDNN's kernels for AVX-512 without VNNI. The operators have
inputs of all kinds of counts: even, odd, one, more than one block; full weights show that each would saturate.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ov = pytest.importorskip("openvino")
pytest.importorskip("nncf")

from openvino import opset13 as ops  # noqa: E402
from openvino._offline_transformations import compress_quantize_weights_transformation  # noqa: E402

from edgekit.compression import openvino_ranges  # noqa: E402
from edgekit.formats.ranges import Statistics  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.skipif(platform.machine() != "x86_64", reason="kernels for x86")]

#: name → operator, shape of the weights, shape of the input, stride
OPERATORS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], int]] = {
    **{f"conv1x1-{n}": ("Convolution", (8, n, 1, 1), (1, n, 6, 6), 1) for n in (2, 3, 8, 13)},
    **{f"conv3x3-{n}": ("Convolution", (8, n, 3, 3), (1, n, 9, 9), 2) for n in (1, 3, 8, 13)},
    "conv2x5": ("Convolution", (8, 1, 2, 5), (1, 1, 9, 9), 1),
    "conv1d": ("Convolution", (8, 5, 3), (1, 5, 12), 1),
    "conv3d": ("Convolution", (8, 3, 2, 2, 2), (1, 3, 5, 5, 5), 1),
    **{f"groups-{n}": ("GroupConvolution", (3, 4, n, 3, 3), (1, 3 * n, 7, 7), 1) for n in (1, 3, 4)},
    "groups-wide": ("GroupConvolution", (2, 4, 17, 7, 3), (1, 34, 9, 9), 1),
    "depthwise": ("GroupConvolution", (16, 1, 1, 3, 3), (1, 16, 7, 7), 1),
    **{f"transposed-{n}": ("ConvolutionBackpropData", (n, 8, 2, 2), (1, n, 5, 5), 2) for n in (8, 13)},
    **{f"product-{n}": ("MatMul", (8, n), (3, n), 1) for n in (3, 13, 64, 262, 358)},
}
RUN = """
import json, sys, numpy as np, openvino as ov
hint = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
for path in json.loads(sys.argv[1]):
    x = np.load(path + ".in.npy")
    model = ov.Core().compile_model(path + ".xml", "CPU", hint)
    np.save(path + "." + sys.argv[2] + ".npy", np.stack([model(each)[0] for each in x]))
"""


def operator(kind: str, x: Any, weights: Any, rank: int, stride: int) -> Any:
    if kind == "MatMul":
        return ops.matmul(x, weights, False, True)
    ends = {"pads_begin": [0] * rank, "pads_end": [0] * rank}
    make = {
        "Convolution": ops.convolution,
        "GroupConvolution": ops.group_convolution,
        "ConvolutionBackpropData": ops.convolution_backprop_data,
    }[kind]
    return make(x, weights, [stride] * rank, **ends, **({} if "Data" in kind else {"dilations": [1] * rank}))


def model(kind: str, weights: Any, shape: tuple[int, ...], stride: int, bounded: bool) -> Any:
    """One operator on u8 inputs, its weights quantized as the step quantizes them."""
    axes = {"GroupConvolution": (0, 1), "ConvolutionBackpropData": (1,)}.get(kind, (0,))
    limits = np.ones([size if axis in axes else 1 for axis, size in enumerate(weights.shape)], np.float32)
    x = ops.parameter(shape, np.float32, name="x")
    ends = [ops.constant(np.float32(end)) for end in (0, 255, 0, 255)]
    constants = [ops.constant(sign * limits) for sign in (-1, 1, -1, 1)]
    quantized = ops.fake_quantize(ops.constant(weights), *constants, 255, name="w/fq")
    y = operator(kind, ops.fake_quantize(x, *ends, 256, name="x/fq"), quantized, len(shape) - 2, stride)
    made = ov.Model([ops.result(y)], [x], "one")
    statistics = Statistics()
    statistics.add({"x": np.array([0, 255], np.float32)})
    openvino_ranges.set_ranges(made, statistics, "min-max", bounded=bounded)
    compress_quantize_weights_transformation(made)
    return made


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The models with bounded and with full weights, and inputs for them, in two draws each."""
    folder, found = tmp_path_factory.mktemp("operators"), {}
    for name, (kind, size, shape, stride) in OPERATORS.items():
        for seed in (0, 1):
            rng = np.random.default_rng(seed)
            weights = rng.normal(size=size) if seed else rng.uniform(0.5, 1, size)
            for bounded in (True, False):
                path = folder / f"{name}-{seed}-{bounded}"
                ov.save_model(model(kind, weights.astype(np.float32), shape, stride, bounded), f"{path}.xml", False)
                inputs = rng.choice([0.0, 17.0, 255.0], (3, *shape))
                inputs[0] = 255
                np.save(f"{path}.in.npy", inputs.astype(np.float32))
                found[path.name] = path
    compute(files=found, where="here")
    return found


def compute(files: dict[str, Path], where: str, command: tuple[str, ...] = (), **environment: str) -> None:
    paths = json.dumps([str(path) for path in files.values()])
    run = [*command, sys.executable, "-c", RUN, paths, where]
    subprocess.run(run, check=True, capture_output=True, timeout=300, env={**os.environ, **environment})


@pytest.fixture(scope="module", params=["haswell", "avx512"])
def elsewhere(request: pytest.FixtureRequest, files: dict[str, Path]) -> Iterator[str]:
    """Where the models were computed, besides here."""
    if request.param == "haswell":
        emulator = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
        if not emulator:
            pytest.fail("install qemu-user") if os.environ.get("CI") else pytest.skip(
                "no qemu-x86_64: install qemu-user"
            )
        compute(files, "haswell", (emulator, "-cpu", "Haswell"))
    else:
        if "avx512bw" not in Path("/proc/cpuinfo").read_text():
            pytest.skip("this CPU has no AVX-512")
        compute(files, "avx512", ONEDNN_MAX_CPU_ISA="AVX512_CORE")
    yield request.param


def outputs(path: Path, where: str) -> Any:
    return np.load(f"{path}.{where}.npy")


def test_bounded_weights_are_exact(files: dict[str, Path], elsewhere: str) -> None:
    wrong = {}
    for name, path in files.items():
        here, there = outputs(path, "here"), outputs(path, elsewhere)
        difference = float(np.abs(here - there).max() / np.abs(here).max())
        if "True" in name and difference > 1e-6:
            wrong[name] = difference
    assert not wrong


def test_full_weights_would_saturate(files: dict[str, Path], elsewhere: str) -> None:
    """Or the test above shows nothing."""
    if "avx512_vnni" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("this CPU saturates, too")
    exact = {
        name
        for name, path in files.items()
        if "-0-False" in name and np.allclose(outputs(path, "here"), outputs(path, elsewhere), rtol=1e-6)
    }
    assert {name.split("-0-")[0] for name in exact} <= {"depthwise", "conv3x3-1", "conv2x5"}
