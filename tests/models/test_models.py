"""Networks of the size that int8 is judged on: they build, are as large as they say, and survive their export."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from edgekit import networks
from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact, Kind
from edgekit.core.progress import quiet
from edgekit.core.step import Context, Step, StepResult
from edgekit.networks import named
from edgekit.runs.store import Store
from edgekit.tasks.fashion_mnist import FashionMnist

torch = pytest.importorskip("torch")

MODELS = ("resnet", "mobilenet-v2", "mobilenet-v3")
SHAPE = (1, 28, 28)


def images(count: int) -> np.ndarray:
    """Noise, each image of another brightness."""
    noise = np.random.default_rng(0).random((count, *SHAPE), np.float32)
    return noise * np.linspace(25, 255, count, dtype=np.float32).reshape(-1, 1, 1, 1)


def settled(model: str) -> Any:
    """The network with its initial weights; its normalisation layers have seen images, so that no layer is silent."""
    torch.manual_seed(0)
    network = named.build(model, FashionMnist().arguments(model)).train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the plain mean of what it saw, without the ones it starts from
    with torch.no_grad():
        network(torch.from_numpy(images(8)))
    return network.eval()


@dataclass(frozen=True)
class Settled(Step):
    """nothing → torch."""

    produces: ClassVar[Kind] = Kind("torch")
    model: str = ""

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        specs = {
            "inputs": [{"name": "input", "dtype": "float32", "shape": [None, *SHAPE]}],
            "outputs": [{"name": "output", "dtype": "float32", "shape": [None, 10]}],
        }
        named.save(settled(self.model), self.model, FashionMnist().arguments(self.model), specs, out)
        return StepResult()


@pytest.mark.parametrize("model", MODELS)
def test_it_is_as_large_as_it_says(model: str) -> None:
    network = named.build(model, FashionMnist().arguments(model))
    count = sum(tensor.numel() for tensor in network.parameters())
    assert count >= 100_000
    assert f" {count:,} parameters" in str(registry.load("models", model).__doc__)


@pytest.mark.parametrize("model", MODELS)
def test_it_gives_logits_that_depend_on_the_image(model: str) -> None:
    with torch.inference_mode():
        logits = settled(model)(torch.from_numpy(images(4)))
    assert logits.shape == (4, 10)
    assert torch.isfinite(logits).all() and (logits < 0).any()
    assert (logits[1:] - logits[0]).abs().amax(dim=1).min() > 1e-3


@pytest.mark.parametrize("model", MODELS)
def test_every_weight_learns(model: str) -> None:
    """A layer that is built but not called would have no gradient."""
    network = named.build(model, FashionMnist().arguments(model)).train()
    loss = FashionMnist().loss(network(torch.from_numpy(images(8))), torch.arange(8))
    loss.backward()
    idle = [name for name, tensor in network.named_parameters() if tensor.grad is None or not tensor.grad.any()]
    assert not idle, idle


@pytest.mark.parametrize("model", MODELS)
def test_another_shape(model: str) -> None:
    network = named.build(model, {"shape": [3, 32, 48], "classes": 4, "mean": [128.0] * 3, "std": [64.0] * 3})
    assert network.eval()(torch.zeros(2, 3, 32, 48)).shape == (2, 4)


@pytest.mark.parametrize("model", MODELS)
def test_it_exports_to_onnx(model: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    store = Store(tmp_path / "run")
    with store.lock():
        context = Context(None, {}, quiet, logging.getLogger("edgekit"))
        root = store.make("torch", Settled(model), {}, context)
        made = store.make("onnx", registry.load("steps", "to_onnx")(), {"parent": root}, context)
    session = onnxruntime.InferenceSession(str(made.path / "model.onnx"), providers=["CPUExecutionProvider"])
    batch = images(5)
    with torch.inference_mode():
        wanted = networks.load(root.path)(torch.from_numpy(batch)).numpy()
    (got,) = session.run(None, {"input": batch})
    assert got.shape == (5, 10)
    assert statistics.sqnr_db(wanted, got) >= 60
