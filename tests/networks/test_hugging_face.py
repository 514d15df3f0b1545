"""Directories of transformers: what is read, and what is refused in one line with what to do."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small_transformers as small
import torch
from safetensors.torch import load_file, save_file

from edgekit.core.errors import InputError
from edgekit.networks import hugging_face


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    base = tmp_path_factory.mktemp("checkpoints")

    def folder(kind: str) -> Path:
        return base / kind if (base / kind).is_dir() else small.write(base / kind, kind, tokenizer=False)

    return folder


@pytest.fixture
def bert(checkpoints: Callable[[str], Path], tmp_path: Path) -> Path:
    """One that a test may damage."""
    return shutil.copytree(checkpoints("bert-classifier"), tmp_path / "bert")


def _refused(folder: Path, *words: str) -> InputError:
    with pytest.raises(InputError) as caught:
        hugging_face.read(folder)
    text = f"{caught.value} {caught.value.next}"
    assert all(word in text for word in words), text
    assert caught.value.next and "\n" not in text
    return caught.value


def test_reads_the_network_without_a_connection(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    loaded = hugging_face.read(bert)
    expected = small.network("bert-classifier").state_dict()
    own = loaded.network.state_dict()
    assert type(loaded.network).__name__ == "BertForSequenceClassification" and not loaded.notes
    assert all(torch.equal(own[name], tensor) for name, tensor in expected.items())


def test_writes_shared_tensors_once_and_reads_them_again(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    loaded = hugging_face.read(checkpoints("llama"))
    hugging_face.write(loaded.network, tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in tensors and "model.embed_tokens.weight" in tensors
    again = hugging_face.read(tmp_path).network
    assert again.lm_head.weight is again.model.embed_tokens.weight
    assert torch.equal(again.lm_head.weight, loaded.network.lm_head.weight)


def test_reads_shards_and_names_those_that_are_missing(bert: Path) -> None:
    small.network("bert-classifier").save_pretrained(bert, max_shard_size="20KB")
    (bert / "model.safetensors").unlink(missing_ok=True)
    shards = sorted(bert.glob("model-*.safetensors"))
    assert len(shards) > 1 and not hugging_face.read(bert).notes
    shards[0].unlink()
    _refused(bert, "is incomplete", f"1 are missing: {shards[0].name}")


def test_refuses_code_that_comes_with_a_model(bert: Path) -> None:
    (bert / "modeling.py").write_text("raise SystemExit('run')\n")
    small.change(bert / "config.json", model_type="mine", auto_map={"AutoModel": "modeling.Mine"})
    small.change(bert / "config.json", architectures=["Mine"])
    _refused(bert, "code that comes with it", "net.py:make")


def test_takes_the_library_s_own_class_where_code_comes_with_a_known_one(bert: Path) -> None:
    (bert / "modeling.py").write_text("raise SystemExit('run')\n")
    small.change(bert / "config.json", auto_map={"AutoModel": "modeling.Mine"})
    assert type(hugging_face.read(bert).network).__name__ == "BertForSequenceClassification"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Mine", "has no network 'Mine'"),
        ("BertTokenizer", "has no network"),
        ("os", "has no network"),
        ("BertForMultipleChoice", "edgekit imports"),
        ("../x", "has no network"),
    ],
)
def test_refuses_other_classes(bert: Path, name: str, words: str) -> None:
    small.change(bert / "config.json", architectures=[name])
    _refused(bert, words)


def test_refuses_a_configuration_without_a_class(bert: Path) -> None:
    for wrong in (None, [], "BertModel", [3]):
        small.change(bert / "config.json", architectures=wrong)
        _refused(bert, "does not say what the network is")


def test_refuses_an_encoder_with_a_decoder(bert: Path) -> None:
    small.change(bert / "config.json", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True)
    _refused(bert, "an encoder with a decoder")


def test_refuses_quantized_checkpoints(bert: Path) -> None:
    small.change(bert / "config.json", quantization_config={"quant_method": "gptq"})
    _refused(bert, "quantized already (gptq)")


def test_refuses_pickles(bert: Path) -> None:
    (bert / "model.safetensors").rename(bert / "pytorch_model.bin")
    _refused(bert, "pytorch_model.bin, a pickle")
    (bert / "pytorch_model.bin").unlink()
    _refused(bert, "holds no weights")


@pytest.mark.parametrize("damage", [b"", b"\xff" * 16, (9).to_bytes(8, "little") + b"{}"])
def test_refuses_damaged_weights(bert: Path, damage: bytes) -> None:
    (bert / "model.safetensors").write_bytes(damage)
    _refused(bert, "model.safetensors")


@pytest.mark.parametrize("values", [{"hidden_size": "many"}, {"num_attention_heads": 5}, {"hidden_act": "none"}])
def test_refuses_a_damaged_configuration(bert: Path, values: dict[str, Any]) -> None:
    small.change(bert / "config.json", **values)
    _refused(bert, "config.json")


def _without(folder: Path, *parts: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not any(part in name for part in parts)}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def test_refuses_a_head_of_random_numbers(bert: Path) -> None:
    _without(bert, "classifier")
    _refused(bert, "lacks classifier.bias, classifier.weight", "checkpoint of a BertModel")


def test_refuses_missing_layers(bert: Path) -> None:
    _without(bert, "layer.1.output")
    _refused(bert, "lacks", "would be random numbers")


def test_refuses_more_layers_than_the_configuration_says(bert: Path) -> None:
    small.change(bert / "config.json", num_hidden_layers=1)
    _refused(bert, "layer.1", "does not have")


def test_refuses_other_shapes(bert: Path) -> None:
    small.change(bert / "config.json", intermediate_size=32)
    _refused(bert, "does not fit config.json", "[64]")


def test_says_which_tensors_are_not_used(bert: Path) -> None:
    small.change(bert / "config.json", architectures=["BertModel"])
    (note,) = hugging_face.read(bert).notes
    assert note == "BertModel does not use classifier.bias, classifier.weight of its file"


def test_leaves_out_a_pooler_without_weights(checkpoints: Callable[[str], Path], tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoints("bert"), tmp_path / "bert")
    _without(folder, "pooler")
    assert hugging_face.read(folder).network.pooler is None


def test_half_precision_becomes_float32(bert: Path) -> None:
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(bert / "model.safetensors").items()}
    save_file(tensors, bert / "model.safetensors", {"format": "pt"})
    small.change(bert / "config.json", dtype="bfloat16")
    loaded = hugging_face.read(bert)
    assert loaded.halves and {tensor.dtype for tensor in loaded.network.parameters()} == {torch.float32}


def test_refuses_packed_weights(bert: Path) -> None:
    tensors = load_file(bert / "model.safetensors")
    tensors["bert.embeddings.word_embeddings.weight"] = torch.zeros(200, 32, dtype=torch.uint8)
    save_file(tensors, bert / "model.safetensors", {"format": "pt"})
    _refused(bert, "is uint8: it is quantized already")


def test_a_directory_is_known_by_its_configuration(bert: Path, tmp_path: Path) -> None:
    assert hugging_face.is_directory(bert)
    assert not hugging_face.is_directory(tmp_path) and not hugging_face.is_directory(bert / "config.json")
    assert json.loads((bert / "config.json").read_text())["architectures"]
