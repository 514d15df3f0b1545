"""Weights as they are found: nested, prefixed, averaged, sharded; nothing is unpickled, and what was chosen is said."""

from __future__ import annotations

import argparse
import json
import logging
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from edgekit.core.errors import InputError
from edgekit.networks import checkpoints
from edgekit.networks.weights import load_weights

pytestmark = pytest.mark.usefixtures("own_code")

torch = pytest.importorskip("torch")


def network() -> Any:
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))


def state(value: float = 1.0) -> dict[str, Any]:
    return {name: torch.full_like(tensor, value) for name, tensor in network().state_dict().items()}


def prefixed(prefix: str, value: float = 1.0) -> dict[str, Any]:
    return {f"{prefix}{name}": tensor for name, tensor in state(value).items()}


COUNTER = {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
CASES: Mapping[str, tuple[Any, str]] = {
    "lightning": (
        {"epoch": 3, "state_dict": {**prefixed("model."), "loss.weight": torch.ones(2)}, "hyper_parameters": {"lr": 1}},
        "its entry 'state_dict' is read; the prefix 'model.' is removed; not read: 'loss.weight'",
    ),
    "lightning, compiled": ({"state_dict": prefixed("net._orig_mod.")}, "the prefix 'net._orig_mod.' is removed"),
    "data parallel": (prefixed("module."), "the prefix 'module.' is removed"),
    "any prefix": ({"model_state_dict": prefixed("backbone.")}, "the prefix 'backbone.' is removed"),
    "ema": ({"model": state(5.0), "model_ema": state()}, "its entry 'model_ema' is read: averaged weights (EMA)"),
    "nested ema": ({"model": state(5.0), "ema": {"decay": 0.9, "module": state()}}, "its entry 'ema' is read"),
    "no ema yet": ({"model": state(), "ema": None}, "its entry 'model' is read"),
    "ema prefix": ({**prefixed("model.", 5.0), **prefixed("ema_model.")}, "removed: averaged weights (EMA)"),
    "another key": ({"generator": state(), "step": 7}, "its entry 'generator' is read"),
    "with numbers": ({**state(), "epoch": 7}, ""),
    "averaged model": ({**prefixed("module."), "n_averaged": torch.tensor(4)}, "not read: 'n_averaged'"),
    "no counter": ({name: tensor for name, tensor in state().items() if name in COUNTER}, ""),
    "half": ({name: tensor.half() if name in COUNTER else tensor for name, tensor in state().items()}, ""),
}


@pytest.mark.parametrize("case", CASES)
def test_weights_are_found(case: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries, said = CASES[case]
    torch.save(entries, tmp_path / "w.pt")
    filled = network()
    with caplog.at_level(logging.WARNING, "edgekit"):
        load_weights(filled, tmp_path / "w.pt")
    assert all((filled.state_dict()[name] == 1).all() for name in COUNTER)
    assert said in caplog.text


def test_shards_of_an_index(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    names = list(state())
    parts = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for file, part in parts.items():
        save_file({name: state()[name] for name in part}, tmp_path / file)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, part in parts.items() for name in part}}))
    for source in (index, tmp_path):
        filled = network()
        load_weights(filled, source)
        assert (filled.state_dict()["1.bias"] == 1).all()


@pytest.mark.parametrize("text", ['{"weight_map": {"a": "../w.safetensors"}}', "[]", '{"weight_map": {}}', "{"])
def test_an_index_of_something_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(InputError, match=r"is damaged|is not an index of weights"):
        checkpoints.read(tmp_path / "model.safetensors.index.json")


def test_what_must_be_unpickled_is_refused_with_the_command_that_converts_it(tmp_path: Path) -> None:
    torch.save({"state_dict": state(), "hyper_parameters": argparse.Namespace(lr=1)}, tmp_path / "w.ckpt")
    with pytest.raises(InputError, match="it was not executed") as error:
        checkpoints.read(tmp_path / "w.ckpt")
    code = error.value.next.partition('python -c "')[2].rstrip('"')
    exec(code)
    filled = network()
    load_weights(filled, tmp_path / "w-weights.pt")
    assert (filled[0].weight == 1).all()


def test_torchscript_is_named(tmp_path: Path) -> None:
    torch.jit.script(network()).save(str(tmp_path / "w.pt"))
    with pytest.raises(InputError, match="is TorchScript"):
        checkpoints.read(tmp_path / "w.pt")


def test_some_of_all_mismatches_are_named(tmp_path: Path) -> None:
    wrong = {**state(), "0.weight": torch.ones(4, 2), "more": torch.ones(1)}
    del wrong["1.bias"], wrong["1.weight"]
    torch.save(wrong, tmp_path / "w.pt")
    with pytest.raises(InputError) as error:
        load_weights(network(), tmp_path / "w.pt")
    assert "it has no tensor '1.weight', '1.bias'" in str(error.value)
    assert "'0.weight' is [4, 2] in the file, [3, 2] in the network" in str(error.value)
    assert "the network has no tensor 'more'" in str(error.value)


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
@pytest.mark.timeout(30)
def test_a_pipe_is_not_opened(ending: str, tmp_path: Path) -> None:
    os.mkfifo(path := tmp_path / f"weights.{ending}")
    with pytest.raises(InputError, match="it is a named pipe, not a file"):
        checkpoints.read(path)


def test_an_archive_of_zeros(tmp_path: Path) -> None:
    """300 MB in 300 kB."""
    path = tmp_path / "zeros.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a/data.pkl", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))
    with pytest.raises(InputError, match="bytes unpack to 314,572,800"):
        checkpoints.read(path)


def test_too_much_is_read_in_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"w": torch.zeros(32 << 20)}, path := tmp_path / "weights.pt")
    assert checkpoints.read(path).tensors["w"].numel() == 32 << 20
    monkeypatch.setattr("edgekit.core.sandbox.MEMORY", 1 << 20)
    monkeypatch.setattr("edgekit.core.sandbox.MEMORY_PER_BYTE", 0)
    with pytest.raises(InputError, match=r"weights.pt"):
        checkpoints.read(path)
