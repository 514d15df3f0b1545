"""Torch networks on disk: what is written is what is read, tensors shared by several names included."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import networks
from edgekit.core import registry
from edgekit.core.errors import InputError
from edgekit.networks import weights
from edgekit.networks.weights import unique

torch = pytest.importorskip("torch")


class Tied(torch.nn.Module):  # type: ignore[misc]
    """One weight under two names, and a view of a larger tensor."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.embedding, self.head = torch.nn.Embedding(6, 4), torch.nn.Linear(4, 6, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("view", torch.randn(10, 10)[2:4, ::2])


def test_nothing_heavy_is_imported_to_name_them() -> None:
    code = "import sys, edgekit.networks; print([m for m in sys.modules if m in ('torch', 'keras', 'onnx', 'numpy')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_shared_tensors_are_written_once_and_stay_shared(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    network, other = Tied(0), Tied(1)
    state = unique(network)
    assert set(state) == {"embedding.weight", "view"}
    assert weights.tensors_of(network) == {"embedding.weight": ["float32", [6, 4]], "view": ["float32", [2, 5]]}
    save_file(state, tmp_path / "w.safetensors")
    weights.load_weights(other, tmp_path / "w.safetensors")
    assert torch.equal(other.head.weight, network.embedding.weight) and torch.equal(other.view, network.view)
    assert other.head.weight is other.embedding.weight
    renamed = {"head.weight": state["embedding.weight"], "view": state["view"]}
    torch.save(renamed, tmp_path / "w.pt")
    third = Tied(2)
    weights.load_weights(third, tmp_path / "w.pt")
    assert torch.equal(third.embedding.weight, network.embedding.weight), "either of the names will do"


@pytest.mark.parametrize("state", [{"view": (2, 5)}, {"embedding.weight": (6, 4), "view": (2, 5), "more": (1,)}])
def test_weights_that_do_not_fit(state: dict[str, Any], tmp_path: Path) -> None:
    torch.save({name: torch.zeros(shape) for name, shape in state.items()}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="no tensor"):
        weights.load_weights(Tied(), tmp_path / "w.pt")


@pytest.mark.parametrize("text", ["", "[]", '{"loader": "os.system"}', '{"loader": "../named"}', "{"])
def test_a_description_that_means_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / networks.NETWORK).write_text(text)
    with pytest.raises(InputError):
        networks.load(tmp_path)


def test_a_loader_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        networks.load(tmp_path)


@pytest.mark.parametrize(
    "outputs",
    [
        lambda x: (x, None, x.bfloat16()),
        lambda x: [x, x.half()],
        lambda x: {"a": x, "b": None, "c": x > 0},
    ],
)
def test_the_runtime_takes_outputs_as_they_come(outputs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Net(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return outputs(x)

    monkeypatch.setattr(networks, "load", lambda folder: Net().eval())
    spec = {"name": "x", "dtype": "float32", "shape": [None, 2]}
    runtime = registry.load("runtimes", "torch")(
        str(tmp_path / "model.json"), 1, "fp32", {"inputs": [spec], "outputs": []}
    )
    found = runtime.bind({"x": np.array([[1.0, -2.0]], np.float32)})()
    assert len(found) == 2
    assert all(isinstance(value, np.ndarray) for value in found)
    assert found[0].tolist() == [[1.0, -2.0]] and found[1].shape == (1, 2)


def test_a_whole_model_is_described_from_what_lies_on_the_surface(tmp_path: Path) -> None:
    """No torch, and nothing opened but `model.json`."""
    ends = {side: [{"name": side, "dtype": "float32", "shape": [None, 4]}] for side in ("inputs", "outputs")}
    tensors = {"a": ["float32", [3, 4]], "b": ["bfloat16", [5, 2]], "c": ["int64", [7]]}
    (tmp_path / "model.json").write_text(json.dumps({"loader": "pt2", **ends, "tensors": tensors}))
    (tmp_path / "model.pt2").write_bytes(bytes(1000))
    facts = registry.load("formats", "torch").describe(tmp_path / "model.json")
    assert facts.parameters == 12 + 10 + 7
    assert facts.sizes.weights == 48 + 20
    assert facts.sizes.total == 1000 + (tmp_path / "model.json").stat().st_size
    (tmp_path / "model.json").write_text(json.dumps({"loader": "pt2", **ends, "tensors": {"a": ["float3", [1]]}}))
    with pytest.raises(InputError, match="does not describe a network"):
        registry.load("formats", "torch").describe(tmp_path / "model.json")
