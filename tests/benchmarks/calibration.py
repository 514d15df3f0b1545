"""`make bench-quantize`, the part on calibration: time and memory of one pass, against ONNX Runtime's calibrators.

A MobileNetV2 (random weights), images of 224x224 made one by one, each calibrator in a process of its own on one
thread. "Extra" is the peak of the process over what it held just before the pass, with everything imported.
The aims: at 100 images at least 10 times faster than ONNX Runtime's percentile calibrator with at most 1/20 of its
extra memory; for 1,024 images at most 1.1 times the peak of 64.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

SIDE = 224
#: expansion, channels, blocks, first stride: table 2 of https://arxiv.org/abs/1801.04381
STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--few", type=int, default=64)
    parser.add_argument("--many", type=int, default=1024)
    parser.add_argument("--child", nargs=3, metavar=("CALIBRATOR", "MODEL", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.child[0], Path(options.child[1]), int(options.child[2]))))
        return
    with tempfile.TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
        path = export(Path(folder, "model.onnx"))
        count = options.images
        print(f"{count} images of {SIDE}x{SIDE}{'':<8}{'CPU s':>9}{'extra, MB':>11}{'time':>9}{'memory':>9}")
        ours = row("edgekit", path, count)
        for name in ("min-max", "percentile"):
            row(name, path, count, ours)
        print(f"\n{'edgekit, images':<29}{'CPU s':>9}{'peak, MB':>11}{'ratio':>9}")
        peaks = {}
        for number in (options.few, options.many):
            found = child("edgekit", path, number)
            peaks[number] = found["peak"]
            ratio = peaks[number] / peaks[options.few]
            print(f"{number:<29,}{found['seconds']:>9.1f}{found['peak'] / 1e6:>11.1f}{ratio:>9.3f}", flush=True)


def row(name: str, path: Path, count: int, ours: Mapping[str, float] | None = None) -> Mapping[str, float]:
    """One calibrator's time and extra memory; against ours where that is given."""
    found = child(name, path, count)
    title = name if ours is None else f"ONNX Runtime, {name}"
    ratios = [found[key] / ours[key] for key in ("seconds", "extra")] if ours else []
    shown = "".join(f"{f'{ratio:.1f} x':>9}" for ratio in ratios)
    print(f"{title:<29}{found['seconds']:>9.1f}{found['extra'] / 1e6:>11.1f}{shown}", flush=True)
    return found


def child(name: str, path: Path, count: int) -> dict[str, float]:
    command = [sys.executable, __file__, "--child", name, str(path), str(count)]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    found: dict[str, float] = json.loads(ended.stdout.splitlines()[-1])
    return found


# --- in a process of its own --------------------------------------------------------------------------------------


def measured(name: str, path: Path, count: int) -> dict[str, float]:
    """Seconds of the processor, and bytes: at the peak, and at the peak over what was held before."""
    import onnxruntime

    default = onnxruntime.SessionOptions

    def one_thread() -> Any:
        options = default()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        return options

    onnxruntime.SessionOptions = one_thread
    run = CALIBRATORS[name](path)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak: man 5 proc
    before = memory("VmRSS")
    started = time.process_time()
    run(count)
    seconds = time.process_time() - started
    peak = memory("VmHWM")
    return {"seconds": seconds, "peak": peak, "extra": peak - before}


def memory(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line for line in status.splitlines() if line.startswith(field)).split()[1])


def feeds(count: int) -> Iterator[Mapping[str, Any]]:
    """Images like photographs in that near pixels are alike; made cheaply, for that is timed too."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(1, 3, SIDE // 8, SIDE // 8)).repeat(8, 2).repeat(8, 3)
    image = (coarse + 0.2 * rng.normal(size=coarse.shape)).astype(np.float32)
    for index in range(count):
        light = np.float32(0.5 + index * 0.618 % 1)
        yield {"input": np.roll(image, (37 * index, 53 * index), (2, 3)) * light}


class Reader:
    """Feeds as ONNX Runtime's calibrators ask for them."""

    def __init__(self, count: int) -> None:
        self._feeds = feeds(count)

    def get_next(self) -> Mapping[str, Any] | None:
        return next(self._feeds, None)


def edgekit_pass(path: Path) -> Callable[[int], object]:
    from edgekit.compression import calibration
    from edgekit.compression.calibration.ranges import ranges
    from edgekit.core.progress import quiet
    from edgekit.core.step import Context

    import_quantizer()
    context = Context(None, {}, quiet, logging.getLogger("edgekit"))
    return lambda count: ranges(calibration.observe("onnx", path, feeds(count), context), "mse")


def onnxruntime_pass(method: str) -> Callable[[Path], Callable[[int], object]]:
    def made(path: Path) -> Callable[[int], object]:
        from onnxruntime.quantization.calibrate import CalibrationMethod, create_calibrator
        from onnxruntime.quantization.shape_inference import quant_pre_process

        operators = import_quantizer()
        kind = {"min-max": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile}[method]

        def run(count: int) -> object:
            done, augmented = path.with_suffix(".done.onnx"), path.with_suffix(".augmented.onnx")
            quant_pre_process(str(path), str(done), skip_symbolic_shape=True)
            calibrator = create_calibrator(done, operators, augmented_model_path=str(augmented), calibrate_method=kind)
            calibrator.collect_data(Reader(count))
            return calibrator.compute_data()

        return run

    return made


def import_quantizer() -> list[str]:
    """The operators that `quantize_static` quantizes."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QLinearOpsRegistry, *QDQRegistry})


CALIBRATORS: Mapping[str, Callable[[Path], Callable[[int], object]]] = {
    "edgekit": edgekit_pass,
    "min-max": onnxruntime_pass("min-max"),
    "percentile": onnxruntime_pass("percentile"),
}


# --- the model ----------------------------------------------------------------------------------------------------


def export(path: Path) -> Path:
    import torch
    from torch import nn

    def conv(before: int, after: int, size: int = 1, stride: int = 1, groups: int = 1) -> list[nn.Module]:
        layer = nn.Conv2d(before, after, size, stride, size // 2, groups=groups, bias=False)
        return [layer, nn.BatchNorm2d(after)]

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, before: int, after: int, expansion: int, stride: int) -> None:
            super().__init__()
            inner = before * expansion
            first = [*conv(before, inner), nn.ReLU6()] if expansion > 1 else []
            middle = [*conv(inner, inner, 3, stride, inner), nn.ReLU6()]
            self.layers = nn.Sequential(*first, *middle, *conv(inner, after))
            self.residual = stride == 1 and before == after

        def forward(self, x: Any) -> Any:
            return x + self.layers(x) if self.residual else self.layers(x)

    torch.manual_seed(0)
    layers, before = [*conv(3, 32, 3, 2), nn.ReLU6()], 32
    for expansion, after, blocks, stride in STAGES:
        for index in range(blocks):
            layers.append(Block(before, after, expansion, stride if index == 0 else 1))
            before = after
    layers += [*conv(before, 1280), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    network, image = nn.Sequential(*layers).eval(), torch.zeros(2, 3, SIDE, SIDE)
    shapes = ({0: torch.export.Dim("batch")},)
    torch.onnx.export(network, (image,), str(path), dynamo=True, dynamic_shapes=shapes, input_names=["input"],
                      external_data=False, verbose=False)  # fmt: skip
    return path


if __name__ == "__main__":
    main()
