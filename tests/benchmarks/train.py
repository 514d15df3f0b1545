"""`make bench-train`: edgekit's training speed compared with a hand-written PyTorch loop.

1. On the CPU: samples per second of `edgekit.training.engine.fit` with its defaults, and of a plain loop over the
   same network, data, batch and optimizer, both evaluated on validation data after each epoch. The loop is the
   fastest of four (memory layout, fused optimizer), found first. They take turns; the ratio is given with its 95 %
   interval. The aim: at least 0.95.
2. `--gpu`: a network of ResNet-50's size on 10,000 synthetic JPEGs, streamed from a folder and from shards, compared
   with the same step on a batch that is already on the GPU, with the GPU's utilisation. The aim: at least 0.95 again.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from edgekit import sets, tasks
from edgekit.core.progress import quiet
from edgekit.core.samples import SampleSet
from edgekit.core.statistics import t_quantile
from edgekit.core.task import Task
from edgekit.networks import named
from edgekit.training import engine
from edgekit.training.settings import Settings

BATCH = 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="cnn,ds-cnn,resnet,mobilenet-v2", help="of the task fashion-mnist")
    parser.add_argument("--samples", type=int, default=6400, help="training samples of an epoch")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--gpu", action="store_true", help="the part for a GPU, instead")
    parser.add_argument("--device", default="cuda", help="of --gpu; cpu tries the script out, and says nothing")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=256, help="of --gpu")
    options = parser.parse_args()
    if options.gpu and options.device == "cuda" and not torch.cuda.is_available():
        print("There is no GPU here: nothing was measured.")
        return
    if options.gpu:
        on_gpu(options)
        return
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {options.samples} samples, batch {BATCH}")
    task = tasks.load("fashion-mnist")
    data = sets.take(task.load("train"), options.samples), sets.take(task.load("val"), 1000)
    for name in options.networks.split(","):
        beside(name, task, *data, options.rounds)


def beside(name: str, task: Task, train: SampleSet, val: SampleSet, rounds: int) -> None:
    """One network: samples per second of both, and their ratio."""

    def fresh() -> nn.Module:
        torch.manual_seed(0)
        return named.build(name, task.arguments(name))

    layouts = list(product((True, False), (True, False)))
    plain(fresh(), train, val, True, False)  # what is loaded late is loaded now
    trials = {
        choice: min(timed(lambda c=choice: plain(fresh(), train, val, *c)) for _ in range(2)) for choice in layouts
    }
    channels_last, fused = min(trials, key=lambda choice: trials[choice])
    ours, theirs = [], []
    runs: tuple[tuple[list[float], Callable[[], object]], ...] = (
        (ours, lambda: fitted(fresh(), task, train, val)),
        (theirs, lambda: plain(fresh(), train, val, channels_last, fused)),
    )
    for index in range(rounds):
        for into, run in runs if index % 2 else runs[::-1]:
            into.append(len(train) / timed(run))
    ratio, low, high = interval(np.log(np.array(ours) / np.array(theirs)))
    tuned = f"channels_last={channels_last}, fused={fused}"
    print(
        f"{name:14} edgekit {np.median(ours):8.0f}/s, plain {np.median(theirs):8.0f}/s ({tuned}): "
        f"ratio {ratio:.3f} ({low:.3f} to {high:.3f})"
    )


def fitted(network: nn.Module, task: Task, train: SampleSet, val: SampleSet) -> None:
    settings = Settings(epochs=1, batch=BATCH)
    engine.fit(network, settings, task, train, val, device=torch.device("cpu"), progress=quiet, scratch=None)


def plain(network: nn.Module, train: SampleSet, val: SampleSet, channels_last: bool, fused: bool) -> float:
    """What one would write by hand; returns the accuracy."""
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    images, labels = torch.from_numpy(np.array(train.inputs["input"])), torch.from_numpy(np.array(train.labels))
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.003, weight_decay=0.01, fused=fused)
    steps = math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.003, total_steps=steps)
    network.train()
    for chosen in torch.randperm(len(images)).split(BATCH):
        loss = nn.functional.cross_entropy(network(images[chosen].float()), labels[chosen])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()
    images, labels = torch.from_numpy(np.array(val.inputs["input"])), torch.from_numpy(np.array(val.labels))
    with torch.inference_mode():
        right = sum(
            int((network(x.float()).argmax(1) == y).sum())
            for x, y in zip(images.split(500), labels.split(500), strict=True)
        )
    return right / len(images)


def timed(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def interval(logs: Any) -> tuple[float, float, float]:
    """The geometric mean of ratios, with its 95 % interval over the rounds."""
    half = t_quantile(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)) if len(logs) > 1 else math.inf
    return math.exp(logs.mean()), math.exp(logs.mean() - half), math.exp(logs.mean() + half)


# ---------------------------------------------------------------- on a GPU


class Bottleneck(nn.Module):
    """https://arxiv.org/abs/1512.03385, figure 5 right; the stride in the 3 x 3, as everybody has it."""

    def __init__(self, into: int, width: int, stride: int) -> None:
        super().__init__()
        out = 4 * width
        self.body = nn.Sequential(
            *_normed(into, width, 1, 1),
            nn.ReLU(True),
            *_normed(width, width, 3, stride),
            nn.ReLU(True),
            *_normed(width, out, 1, 1),
        )
        same = stride == 1 and into == out
        self.short = nn.Identity() if same else nn.Sequential(*_normed(into, out, 1, stride))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.relu(self.body(x) + self.short(x))


def _normed(into: int, out: int, kernel: int, stride: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(into, out, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(out)


def resnet50(device: torch.device) -> nn.Module:
    """23.5 M parameters without the last layer; where a CPU tries the script out, an eighth as wide."""
    first = 64 if device.type == "cuda" else 8
    layers: list[nn.Module] = [*_normed(3, first, 7, 2), nn.ReLU(True), nn.MaxPool2d(3, 2, 1)]
    into = first
    for width, depth, stride in ((first, 3, 1), (2 * first, 4, 2), (4 * first, 6, 2), (8 * first, 3, 2)):
        for index in range(depth):
            layers.append(Bottleneck(into, width, stride if index == 0 else 1))
            into = 4 * width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(into, 10))


@dataclass
class Clock:
    """A progress that notes when each batch was asked for."""

    times: list[float] = field(default_factory=list)

    def __call__(self, items: Iterable[Any], what: str, total: int | None = None) -> Iterator[Any]:
        for item in items:
            self.times.append(time.perf_counter())
            yield item


def on_gpu(options: argparse.Namespace) -> None:
    device = torch.device(options.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU: only a trial of the script"
    print(f"{name}, torch {torch.__version__}, {options.images} JPEGs, side {options.side}, batch {options.batch}")
    with tempfile.TemporaryDirectory(prefix="edgekit-") as place:
        folder, shards = synthetic(Path(place), options.images, options.side)
        there, used = resident(device, options)
        print(f"on the device already: {there:.0f} images/s, utilisation {used}")
        for kind, word in (("folder", str(folder)), ("shards", shards)):
            rate, used = streamed(f"{word}?stream=true&size={options.side}", device, options)
            print(f"{kind}: {rate:.0f} images/s, utilisation {used}, ratio {rate / there:.3f}")


def resident(device: torch.device, options: argparse.Namespace) -> tuple[float, str]:
    """Images per second of the same step on a batch that does not move."""
    network = resnet50(device).to(device, memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=device.type == "cuda")
    images = torch.randint(0, 256, (options.batch, 3, options.side, options.side), dtype=torch.uint8, device=device)
    labels = torch.randint(0, 10, (options.batch,), device=device)

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            outputs = network(images.float())
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(outputs.float(), labels).backward()
        optimizer.step()

    count = max(2, options.images // options.batch)
    for _ in range(min(10, count)):
        step()
    settle(device)
    with Utilisation() as used:
        started = time.perf_counter()
        for _ in range(count):
            step()
        settle(device)
        seconds = time.perf_counter() - started
    return count * options.batch / seconds, str(used)


def streamed(word: str, device: torch.device, options: argparse.Namespace) -> tuple[float, str]:
    """Images per second of edgekit's loop, the first epoch left out."""
    task = tasks.load(word)
    train = task.load("train")
    val = sets.take(task.load("val"), 64)
    settings = Settings(epochs=2, batch=options.batch, precision="bf16" if device.type == "cuda" else "fp32", lr=0.001)
    clock = Clock()
    with Utilisation() as used:
        engine.fit(resnet50(device), settings, task, train, val, device=device, progress=clock, scratch=None)
        settle(device)
    batches = math.ceil(len(train) / options.batch)
    second = clock.times[batches:]
    skipped = min(3, len(second) - 2)  # the workers start with the epoch
    rate = (len(second) - 1 - skipped) * options.batch / (second[-1] - second[skipped]) if len(second) > 2 else math.nan
    return rate, str(used)


def settle(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


class Utilisation:
    """What nvidia-smi says five times a second, from a thread."""

    def __enter__(self) -> Utilisation:
        self._found: list[float] = []
        self._process = None
        if shutil.which("nvidia-smi"):
            line = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200"]
            self._process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
            threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self) -> None:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            self._found.append(float(line.split()[0]))

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()

    def __str__(self) -> str:
        return f"{np.median(self._found):.0f} % (median of {len(self._found)})" if self._found else "not known"


def synthetic(place: Path, count: int, side: int) -> tuple[Path, str]:
    """JPEGs of smooth noise, as large as photographs are: a folder by class, and the same in shards of a thousand."""
    from PIL import Image

    rng = np.random.default_rng(0)
    folder = place / "pictures"
    tar: tarfile.TarFile | None = None
    for index in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), np.uint8))
        file = io.BytesIO()
        coarse.resize((side + 32, side + 32), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        label, split = index % 10, "val" if index % 20 < 2 else "train"
        target = folder / split / f"class-{label}" / f"{index:06}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.getvalue())
        if index % 1000 == 0:
            if tar is not None:
                tar.close()
            tar = tarfile.open(place / f"shard-{index // 1000:03}.tar", "w")  # noqa: SIM115
        assert tar is not None
        for ending, raw in (("jpg", file.getvalue()), ("json", json.dumps({"label": label}).encode())):
            member = tarfile.TarInfo(f"{index:06}.{ending}")
            member.size = len(raw)
            tar.addfile(member, io.BytesIO(raw))
    if tar is not None:
        tar.close()
    return folder, str(place / "shard-*.tar")


if __name__ == "__main__":
    main()
