"""Adapters that peft wrote, merged into the network they were trained on; others are refused with the reason."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from edgekit import networks
from edgekit.core.errors import CannotConvert, InputError
from edgekit.core.progress import quiet
from edgekit.core.step import Context
from edgekit.models.transformer_text import TransformerText
from edgekit.networks import peft_files
from edgekit.networks.weights import read_weights
from edgekit.runs.references import load
from edgekit.steps.merge import Merge
from edgekit.workflows.import_ import import_model

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
transformers = pytest.importorskip("transformers")

TOKENS = torch.arange(16).reshape(2, 8) % 7 + 1


def written(network: Any, folder: Path, **fields: Any) -> Any:
    """Adapters with random values, as peft writes them; returns the adapted network's outputs on TOKENS."""
    adapted = peft.get_peft_model(network, peft.LoraConfig(r=2, **fields))
    generator = torch.Generator().manual_seed(3)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data += 0.2 * torch.randn(parameter.shape, generator=generator)
    adapted.save_pretrained(folder)
    with torch.inference_mode():
        output = adapted.eval()(TOKENS)
    return getattr(output, "logits", output)


def network() -> Any:
    torch.manual_seed(0)
    return TransformerText(words=20, length=8, classes=3, width=16)


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with a network defined in code."""
    (tmp_path / "net.py").write_text(
        "import torch\nfrom edgekit.models.transformer_text import TransformerText\n"
        "def make():\n    torch.manual_seed(0)\n"
        "    return TransformerText(20, 8, 3, width=16), torch.arange(16).reshape(2, 8) % 7 + 1\n"
    )
    monkeypatch.chdir(tmp_path)
    import_model("net.py:make", out=tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    """A Hugging Face directory."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.BertConfig(vocab_size=20, max_position_embeddings=16, num_labels=3, **sizes)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": ["query", "value"], "use_dora": True},
        {"target_modules": ["words", "think.0"], "use_rslora": True, "rank_pattern": {"words": 3}},
        {"target_modules": r".*\.key", "modules_to_save": ["head"], "lora_alpha": 5, "bias": "lora_only"},
        {"target_modules": ["query", "value"], "layers_to_transform": [1], "layers_pattern": "blocks"},
        {"target_modules": "all-linear", "exclude_modules": ["head"], "lora_dropout": 0.5},
    ],
)
def test_merged_is_what_peft_computes(own: Path, tmp_path: Path, fields: dict[str, Any]) -> None:
    expected = written(network(), tmp_path / "adapter", **fields)
    (artifact,) = import_model(str(own / "torch"), adapter=str(tmp_path / "adapter")).artifacts
    assert artifact.name == "merged.torch"
    assert networks.reference(artifact.path)["loader"] == "named"
    with torch.inference_mode():
        torch.testing.assert_close(networks.load(artifact.path)(TOKENS), expected, rtol=0, atol=1e-5)


def test_a_directory_and_its_adapters(classifier: Path, tmp_path: Path) -> None:
    source = transformers.BertForSequenceClassification.from_pretrained(classifier)
    expected = written(source, tmp_path / "adapter", target_modules=["query", "value"], task_type="SEQ_CLS")
    base, merged = import_model(str(classifier), adapter=str(tmp_path / "adapter"), out=tmp_path / "run").artifacts
    assert (base.name, merged.name) == ("torch~import_hf", "torch")
    assert [parent.id for parent in merged.parents] == [base.id]
    assert networks.reference(merged.path) == networks.reference(base.path)
    inputs = {"input_ids": TOKENS, "attention_mask": torch.ones_like(TOKENS)}
    feed = [inputs.get(spec.name, torch.zeros_like(TOKENS)) for spec in merged.inputs]
    with torch.inference_mode():
        torch.testing.assert_close(networks.load(merged.path)(*feed), expected, rtol=0, atol=1e-5)
    assert set(read_weights(merged.path / networks.WEIGHTS)) == set(read_weights(base.path / networks.WEIGHTS))


def refused(own: Path, adapter: Path, parent: Any = None) -> str:
    out = own / "refused"
    out.mkdir()
    with pytest.raises((InputError, CannotConvert)) as error:
        context = Context(None, {}, quiet, logging.getLogger("t"))
        Merge(adapter=str(adapter)).apply({"parent": parent or load(str(own / "torch"))}, out, context)
    out.rmdir()
    assert error.value.next
    return str(error.value)


def change(folder: Path, **fields: Any) -> None:
    values = json.loads((folder / peft_files.CONFIG).read_text())
    (folder / peft_files.CONFIG).write_text(json.dumps({**values, **fields}))


def test_what_is_no_adapter_is_refused(own: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    assert "there is no adapter_config.json" in refused(own, tmp_path)
    written(network(), adapter, target_modules=["query"])
    config, weights = ((adapter / name).read_bytes() for name in (peft_files.CONFIG, peft_files.WEIGHTS))
    for fields, why in (
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"megatron_config": {"a": 1}}, "megatron_config"),
        ({"layer_replication": [[0, 2]]}, "layer_replication"),
        ({"a_new_method": True}, "a_new_method"),
        ({"r": 10**9}, "states the rank 1000000000"),
        ({"r": "2"}, "states the rank '2'"),
        ({"rank_pattern": {"query": 7}}, "other tensors"),
        ({"rank_pattern": [3]}, "other tensors"),
        ({"target_modules": ["nothing"]}, "does not fit the network"),
        ({"target_modules": ["query", "key"]}, "it lacks"),
        ({"target_modules": []}, "does not fit the network"),
        ({"alpha_pattern": {"(a+)+": 3}}, "no name of a layer"),
        ({"modules_to_save": ["(x|y)"]}, "no name of a layer"),
        ({"exclude_modules": r".*key"}, "no name of a layer"),
        ({"layers_pattern": [3]}, "no name of a layer"),
        ({"target_modules": ["query"], "modules_to_save": ["head"]}, "it lacks"),
        ({"lora_alpha": "much"}, "does not fit the network"),
    ):
        change(adapter, **fields)
        assert why in refused(own, adapter), fields
        (adapter / peft_files.CONFIG).write_bytes(config)
    (adapter / peft_files.WEIGHTS).write_bytes(weights[:-40])
    assert "not a safetensors file" in refused(own, adapter)
    (adapter / peft_files.WEIGHTS).unlink()
    assert "there is no adapter_model.safetensors" in refused(own, adapter)
    (adapter / "adapter_model.bin").write_bytes(b"")
    assert "adapter_model.bin is a pickle" in refused(own, adapter)
    (adapter / peft_files.CONFIG).write_text("{")
    assert "adapter_config.json" in refused(own, adapter)


def test_another_network_is_refused(own: Path, tmp_path: Path) -> None:
    wider = TransformerText(words=20, length=8, classes=3, width=32)
    written(wider, tmp_path / "wide", target_modules=["query"])
    assert "size mismatch" in refused(own, tmp_path / "wide")
    deeper = TransformerText(words=20, length=8, classes=3, width=16, blocks=3)
    written(deeper, tmp_path / "deep", target_modules=["query"])
    assert "the network has no blocks.2.attention.query.lora_A.weight" in refused(own, tmp_path / "deep")


def test_other_weights_are_refused(own: Path, tmp_path: Path) -> None:
    """What edgekit wrote names the weights that it is for."""
    other = network()
    peft_files.write(peft.get_peft_model(other, peft.LoraConfig(r=2, target_modules=["query"])), tmp_path / "same")
    Merge(adapter=str(tmp_path / "same"))
    (artifact,) = import_model(str(own / "torch"), adapter=str(tmp_path / "same")).artifacts
    assert artifact.name == "merged.torch"
    other.blocks[0].attention.query.base_layer.weight.data += 1e-3
    peft_files.write(peft.get_peft_model(_plain(other), peft.LoraConfig(r=2, target_modules=["query"])), tmp_path / "x")
    assert "other weights of this network" in refused(own, tmp_path / "x")


def _plain(adapted: Any) -> Any:
    plain = network()
    state = {name.replace(".base_layer", ""): tensor for name, tensor in adapted.state_dict().items()}
    plain.load_state_dict({name: tensor for name, tensor in state.items() if ".lora_" not in name})
    return plain


def test_values_that_are_no_numbers(own: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    written(network(), tmp_path / "adapter", target_modules=["query"])
    file = tmp_path / "adapter" / peft_files.WEIGHTS
    tensors = read_weights(file)
    next(iter(tensors.values()))[0, 0] = float("nan")
    save_file(tensors, file)
    assert "other values than numbers" in refused(own, tmp_path / "adapter")


def test_formats_without_layers(tmp_path: Path, own: Path) -> None:
    assert list(Merge().check(None)) == ["adapter is missing: the folder that peft wrote"]
    written(network(), tmp_path / "adapter", target_modules=["query"])
    artifact, reference = load(str(own / "torch")), json.loads((own / "torch" / networks.NETWORK).read_text())
    (own / "torch" / networks.NETWORK).write_text(json.dumps({**reference, "loader": "pt2"}))
    assert "whose layers have no names" in refused(own, tmp_path / "adapter", artifact)
