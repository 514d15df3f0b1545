"""LoRA: the base unchanged, merged as before merging, and adapters that peft loads."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import networks
from edgekit.core.errors import InputError, Missing, ParityFailed
from edgekit.core.samples import SampleSet
from edgekit.core.step import Context, StepResult
from edgekit.models.transformer_text import TransformerText
from edgekit.networks import named, peft_files
from edgekit.networks.weights import read_weights
from edgekit.steps.train import Train
from edgekit.tasks import Classification
from edgekit.training import lora, session
from edgekit.training.lora_settings import LoraSettings

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
nn = torch.nn

WORDS, LENGTH = 300, 8
ADAPTED = Train(model="transformer-text", epochs=2, batch=16, lr=0.05, lora=4, fresh=("head",), accelerator="cpu")


def quiet(items: Any, what: str, total: int | None = None) -> Iterator[Any]:
    yield from items


class Words(Classification):
    """Which of the first three words a text starts with."""

    name = "words"
    models = ("transformer-text",)
    classes = ("one", "two", "three")

    def arguments(self, model: str) -> Mapping[str, Any]:
        return {"words": WORDS, "length": LENGTH, "classes": 3, "width": 32}

    def load(self, split: str) -> SampleSet:
        tokens = np.random.default_rng(len(split)).integers(4, WORDS, (64, LENGTH))
        labels = np.arange(64) % 3
        tokens[:, 0] = 1 + labels
        return SampleSet(split, {"tokens": tokens}, labels.astype(np.int64), split)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a network with two classes."""
    torch.manual_seed(1)
    network = TransformerText(WORDS, LENGTH, 2, width=32)
    path = tmp_path_factory.mktemp("base") / "model.safetensors"
    from safetensors.torch import save_file

    save_file(network.state_dict(), path)
    return path


@pytest.fixture
def train(tmp_path: Path, base: Path) -> Callable[..., tuple[StepResult, Path]]:
    def call(step: Train, scratch: Path | None = None) -> tuple[StepResult, Path]:
        task = Words()
        step = replace(step, init=step.init or str(base))
        assert not list(step.check(task))
        out = tmp_path / f"out{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        data = {split: task.load(split) for split in ("train", "val")}
        return step.apply({}, out, Context(task, data, quiet, logging.getLogger("t"), scratch)), out

    return call


def test_only_adapters_and_fresh_parts_change(train: Any, base: Path) -> None:
    result, out = train(ADAPTED)
    before, after = read_weights(base), read_weights(out / networks.WEIGHTS)
    changed = {name for name in after if not torch.equal(after[name], before[name]) if "head" not in name}
    assert changed == {f"blocks.{i}.attention.{name}.weight" for i in (0, 1) for name in ("query", "key", "value")}
    assert set(after) == set(before)
    assert after["head.weight"].shape == (3, 32)
    details = result.details["lora"]
    assert details["trained_parameters"] == 6 * (4 * 32 * 2) + 3 * 33
    assert details["peak_memory_bytes"] > 1e7
    (note,) = result.details["notes"]
    assert note.startswith(f"LoRA trained {details['trained_parameters']:,} of ")
    assert "6 layers (key, query, value); peak memory" in note
    assert result.details["history"][-1]["val_accuracy"] > 0.5


@pytest.mark.parametrize("dora", [False, True])
def test_peft_loads_what_is_written(train: Any, base: Path, dora: bool) -> None:
    _, out = train(replace(ADAPTED, lora_alpha=6, lora_dropout=0.1, dora=dora))
    config = json.loads((out / lora.FOLDER / peft_files.CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["use_dora"]) == (4, 6, dora)
    assert config["target_modules"] == ["key", "query", "value"]
    assert config["modules_to_save"] == ["head"]
    network = TransformerText(WORDS, LENGTH, 3, width=32)
    state = {name: tensor for name, tensor in read_weights(base).items() if not name.startswith("head")}
    network.load_state_dict(state, strict=False)
    adapted = peft.PeftModel.from_pretrained(network, out / lora.FOLDER).eval()
    tokens = torch.from_numpy(Words().load("val").inputs["tokens"])
    with torch.inference_mode():
        torch.testing.assert_close(adapted(tokens), networks.load(out)(tokens), rtol=0, atol=1e-5)


def test_the_files_are_the_same_each_time(train: Any) -> None:
    first, second = (train(replace(ADAPTED, lora_targets=("value", "think.0")))[1] for _ in range(2))
    for name in ("model.safetensors", "adapter/adapter_model.safetensors", "adapter/adapter_config.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    paths = json.loads((first / lora.FOLDER / peft_files.CONFIG).read_text())["target_modules"]
    assert paths == sorted(f"blocks.{i}.{name}" for i in (0, 1) for name in ("attention.value", "think.0"))


def test_a_training_resumes(train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = train(ADAPTED)
    saved: dict[str, Any] = {}
    from edgekit.training.checkpoints import CheckpointManager

    def save(self: CheckpointManager, tensors: Any, plain: Any) -> None:
        original(self, tensors, plain)
        saved.update(tensors)
        raise KeyboardInterrupt

    original = CheckpointManager.save
    monkeypatch.setattr(CheckpointManager, "save", save)
    monkeypatch.setattr(CheckpointManager, "due", lambda self: True)
    with pytest.raises(KeyboardInterrupt):
        train(ADAPTED, tmp_path / "scratch")
    assert not any("base_layer" in name or "embed" in name for name in saved)
    monkeypatch.undo()
    said: list[str] = []
    with session.using(replace(session.current(), say=said.append)):
        _, resumed = train(ADAPTED, tmp_path / "scratch")
    assert any("resumes" in line for line in said)
    for name in ("model.safetensors", "adapter/adapter_model.safetensors"):
        assert (whole / name).read_bytes() == (resumed / name).read_bytes()


def test_options_that_are_refused() -> None:
    task = Words()

    def problems(**fields: Any) -> str:
        return "; ".join(Train(model="transformer-text", **fields).check(task))

    assert "needs weights to start from" in problems(lora=8)
    assert "exclude each other" in problems(lora=8, init="x", freeze=("head",))
    assert "need a rank" in problems(dora=True)
    assert "from 0 to below 1" in problems(lora=2, init="x", lora_dropout=1.0)
    assert "twice the rank" in problems(lora=2, init="x", lora_alpha=-1.0)
    assert "a rank, or 0" in problems(lora=-1)


def test_layers_that_are_refused(train: Any) -> None:
    with pytest.raises(InputError, match="'qeury'") as error:
        train(replace(ADAPTED, lora_targets=("qeury",)))
    assert "blocks.0.attention.query" in error.value.why
    with pytest.raises(InputError, match=r"'embed\.places' is none"):
        train(replace(ADAPTED, fresh=("head", "embed.places")))
    with pytest.raises(InputError, match="'head'"):  # it is fresh
        train(replace(ADAPTED, lora_targets=("head",)))


def test_without_peft(train: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(Missing, match="LoRA needs peft") as error:
        train(ADAPTED)
    assert "[lora]" in error.value.next
    assert (ADAPTED.extra, ADAPTED.tools[-1]) == ("lora", "peft")
    assert "peft" not in replace(ADAPTED, lora=0).tools


# --- networks of other kinds ----------------------------------------------------------------------------------------


class Tied(nn.Module):
    """A head that shares its weights with the embedding, an attention of torch's, and a layer that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.inner, self.unused = nn.Embedding(9, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.head = nn.Linear(8, 9, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens: Any) -> Any:
        return self.head(self.layer(self.inner(self.embed(tokens))))[:, -1]


TOKENS = {"tokens": np.arange(32).reshape(8, 4) % 9}


def adapted(network: Any, samples: Any = TOKENS, fresh: tuple[str, ...] = (), **settings: Any) -> lora.Adapted:
    return lora.Adapted(network.eval(), LoraSettings(lora=2, **settings), fresh, samples)


def disturb(network: Any) -> None:
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2))


def test_layers_that_run_and_share_nothing_are_adapted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Tied()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    one = adapted(network)
    assert one.targets == ["inner", "layer.linear1"]  # all that run but the last, whose adapter would be the head's
    disturb(network)
    one.merge(tmp_path)
    after = network.state_dict()
    assert list(after) == list(before)
    assert {name for name in after if not torch.equal(after[name], before[name])} == {
        "inner.weight",
        "layer.linear1.weight",
    }
    for name, why in (("head", "same weights"), ("unused", "does not run")):
        with pytest.raises(InputError, match=f"{name} cannot be adapted") as error:
            adapted(Tied(), lora_targets=(name,))
        assert why in error.value.why


def test_an_attention_of_torch_is_adapted_whole(tmp_path: Path) -> None:
    one = adapted(network := Tied(), lora_targets=("self_attn",))
    assert one.targets == ["layer.self_attn"]
    disturb(network)
    one.merge(tmp_path)
    with pytest.raises(InputError, match="out_proj"):
        adapted(Tied(), lora_targets=("out_proj",))


def test_a_weight_that_other_code_reads_is_an_error(tmp_path: Path) -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.inner = nn.Embedding(9, 8), nn.Linear(8, 8)

        def forward(self, tokens: Any) -> Any:
            return (self.inner(self.embed(tokens)) @ self.embed.weight.T)[:, -1]

    one = adapted(network := Reads(), lora_targets=("embed",))
    disturb(network)
    with pytest.raises(ParityFailed, match="another one"):
        one.merge(tmp_path)


def test_convolutions_and_their_statistics(tmp_path: Path) -> None:
    from edgekit.tasks import Classification
    from edgekit.training.engine import fit
    from edgekit.training.settings import Settings

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    images = np.random.default_rng(0).random((8, 1, 4, 4), np.float32)
    with pytest.raises(InputError, match="no layers to adapt"):
        adapted(network, {"input": images})
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    one = adapted(network, {"input": images}, ("4",), lora_targets=("0",))
    task, data = Classification(), SampleSet("s", {"input": images}, np.arange(8) % 2, "s")
    shared = {"device": torch.device("cpu"), "progress": quiet, "scratch": None}
    settings = Settings(epochs=1, batch=4, lr=0.1)
    one.train(lambda fixed: fit(network, settings, task, data, data, fixed=fixed, **shared), torch.device("cpu"))
    one.merge(tmp_path)
    after = network.state_dict()
    assert {name for name in after if not torch.equal(after[name], before[name])} == {"0.weight", "4.weight", "4.bias"}


def test_a_part_that_peft_confuses_is_refused() -> None:
    network = nn.Sequential()
    network.add_module("head", nn.Linear(4, 4))
    network.add_module("lm_head", nn.Linear(4, 4))
    with pytest.raises(InputError, match="cannot be trained afresh") as error:
        adapted(network, {"input": np.zeros((2, 4), np.float32)}, ("head",))
    assert "lm_head" in error.value.why


def test_named_networks_are_plain(train: Any) -> None:
    """What follows a training takes the merged network as any other one."""
    _, out = train(ADAPTED)
    reference = networks.reference(out)
    assert reference["loader"] == "named"
    assert type(networks.load(out)) is type(named.build("transformer-text", reference["arguments"]))
