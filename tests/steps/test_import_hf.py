"""The import of a Hugging Face directory: inputs, outputs, tokenizer and classes, and what is refused."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_transformers as small
import torch

from edgekit import networks
from edgekit.core.artifact import Kind
from edgekit.core.errors import InputError
from edgekit.core.progress import quiet
from edgekit.core.step import Context, StepResult
from edgekit.networks.weights import read_weights
from edgekit.ondevice import text
from edgekit.steps.import_hf import ImportHf


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    base = tmp_path_factory.mktemp("checkpoints")

    def folder(kind: str, **options: Any) -> Path:
        return base / kind if (base / kind).is_dir() else small.write(base / kind, kind, **options)

    return folder


def _imported(folder: Path, out: Path, **fields: Any) -> tuple[StepResult, dict[str, Any]]:
    out.mkdir(exist_ok=True)
    step = ImportHf(path=str(folder), **fields)
    assert step.produces == Kind("torch") and not list(step.check(None))
    result = step.apply({}, out, Context(None, {}, quiet, logging.getLogger("edgekit")))
    return result, json.loads((out / networks.NETWORK).read_text())


def _names(entries: dict[str, Any], side: str) -> list[str]:
    return [spec["name"] for spec in entries[side]]


def _same(out: Path, expected: Callable[..., Any], **options: Any) -> None:
    """The stored network gives what transformers gives for the same tensors."""
    example = read_weights(out / networks.EXAMPLE)
    entries = networks.reference(out)
    inputs = {name: example[name][:, :9] for name in _names(dict(entries), "inputs")}
    with torch.inference_mode():
        outputs = networks.load(out)(*inputs.values())
        assert torch.allclose(outputs, expected(**inputs, **options), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "inputs", "output"),
    [
        ("bert", ["input_ids", "attention_mask", "token_type_ids"], "last_hidden_state"),
        ("bert-classifier", ["input_ids", "attention_mask", "token_type_ids"], "logits"),
        ("distilbert", ["input_ids", "attention_mask"], "logits"),
        ("roberta", ["input_ids", "attention_mask"], "logits"),
        ("albert", ["input_ids", "attention_mask", "token_type_ids"], "last_hidden_state"),
        ("mpnet", ["input_ids", "attention_mask"], "last_hidden_state"),
    ],
)
def test_encoders(kind: str, inputs: list[str], output: str, checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    result, entries = _imported(checkpoint(kind), tmp_path / "out")
    assert _names(entries, "inputs") == inputs and _names(entries, "outputs") == [output]
    assert {tuple(spec["shape"]) for spec in entries["inputs"]} == {(None, None)}
    assert entries["example"]["input_ids"] == [2, 16]
    assert [record.part for record in result.signature.inputs] == ["", "mask", "segments"][: len(inputs)]
    assert {(r.tokenizer, r.max_length) for r in result.signature.inputs} == {("tokenizer.json", 16)}
    _same(tmp_path / "out", lambda **inputs: small.network(kind)(**inputs)[output])


def test_classes_and_values(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    (classes,) = _imported(checkpoint("bert-classifier"), tmp_path / "a")[0].signature.outputs
    assert classes.kind == "logits" and classes.classes == ("bad", "good", "mixed")
    (score,) = _imported(checkpoint("bert-score"), tmp_path / "b")[0].signature.outputs
    assert score.kind == "values" and not score.classes


def test_questions_have_two_outputs(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    _, entries = _imported(checkpoint("questions"), tmp_path / "out")
    assert _names(entries, "outputs") == ["start_logits", "end_logits"]


def test_images(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = checkpoint("vit")
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor | {"image_mean": 0.5, "image_std": 0.5}))
    result, entries = _imported(folder, tmp_path / "out")
    (image,), (logits,) = result.signature.inputs, result.signature.outputs
    assert entries["inputs"][0]["shape"] == [None, 3, 32, 32] and logits.kind == "logits"
    assert image.kind == "image" and image.height_width == (32, 32) and image.mean == (0.5,)
    assert (tmp_path / "out" / "preprocessor_config.json").is_file()


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_decoders_have_states(kind: str, checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    result, entries = _imported(checkpoint(kind), tmp_path / "out")
    states = entries["states"]
    assert list(states) == _names(entries, "inputs")[1:] and list(states.values()) == _names(entries, "outputs")[1:]
    assert states["past_key_values.1.key"] == "present.1.key" and len(states) == 4
    assert entries["axes"]["past_key_values.0.value"] == {"0": "batch", "2": "past"}
    assert entries["inputs"][1]["shape"][2] is None and entries["inputs"][0]["shape"] == [None, None]
    (record,) = result.signature.inputs
    assert record.kind == "text" and record.max_length == 16
    assert text.load(tmp_path / "out" / "tokenizer.json").padding is None


def _sentences(folder: Path, *modules: str, **pooling: Any) -> None:
    """Make a sentence-transformers directory of it."""
    entries = [{"idx": i, "path": f"{i}_{name}" if i else "", "type": f"x.{name}"} for i, name in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(entries))
    (folder / "1_Pooling").mkdir(exist_ok=True)
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32, **pooling}))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12, "do_lower_case": False}))


def test_embeddings_are_pooled_and_normalized(tmp_path: Path) -> None:
    folder = small.write(tmp_path / "model", "bert")
    _sentences(folder, "Transformer", "Pooling", "Normalize", pooling_mode_mean_tokens=True)
    result, entries = _imported(folder, tmp_path / "out")
    assert _names(entries, "outputs") == ["embedding"] and result.signature.outputs[0].kind == "embedding"
    assert result.signature.inputs[0].max_length == 12
    ids, mask = torch.randint(4, 40, (2, 6)), torch.tensor([[1] * 6, [1] * 4 + [0] * 2])
    with torch.inference_mode():
        hidden = small.network("bert")(input_ids=ids, attention_mask=mask).last_hidden_state
        embedding = networks.load(tmp_path / "out")(ids, mask, torch.zeros_like(ids))
    mean = torch.stack([hidden[0].mean(0), hidden[1, :4].mean(0)])
    assert torch.allclose(embedding, torch.nn.functional.normalize(mean, dim=1), atol=1e-5)


def test_the_first_token_may_be_the_embedding(tmp_path: Path) -> None:
    folder = small.write(tmp_path / "model", "bert")
    _sentences(folder, "Transformer", "Pooling", pooling_mode="cls")
    _, entries = _imported(folder, tmp_path / "out")
    assert entries["pooling"] == {"mode": "cls", "normalize": False}
    _same(tmp_path / "out", lambda **inputs: small.network("bert")(**inputs).last_hidden_state[:, 0])


@pytest.mark.parametrize(
    ("modules", "pooling", "words"),
    [
        (["Transformer", "Pooling", "Dense"], {"pooling_mode_mean_tokens": True}, "Transformer, Pooling, Dense"),
        (["Transformer", "Pooling"], {"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
        (["Transformer", "Pooling"], {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "pooling is"),
        (["Transformer", "Pooling"], {}, "unknown"),
    ],
)
def test_other_poolings_are_refused(modules: list[str], pooling: dict[str, bool], words: str, tmp_path: Path) -> None:
    folder = small.write(tmp_path / "model", "bert")
    _sentences(folder, *modules, **pooling)
    with pytest.raises(InputError, match=words):
        _imported(folder, tmp_path / "out")


def test_the_length_may_be_chosen(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    result, entries = _imported(checkpoint("bert-classifier"), tmp_path / "out", length=8)
    assert result.signature.inputs[1].max_length == 8 and entries["example"]["attention_mask"] == [2, 8]
    with pytest.raises(InputError, match="takes at most 16"):
        _imported(checkpoint("bert-classifier"), tmp_path / "out", length=17)


def test_the_stored_tokenizer_truncates_and_pads(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    _imported(checkpoint("bert-classifier"), tmp_path / "out")
    tokenizer = text.load(tmp_path / "out" / "tokenizer.json")
    parts = {"a": "", "b": "mask", "c": "segments"}
    arrays, truncated = text.samples(tokenizer, ("the film", "was good"), parts)
    assert not truncated and all(array.shape == (1, 16) and array.dtype == np.int64 for array in arrays.values())
    assert arrays["b"].sum() == 7 and arrays["c"].tolist() == [[0, 0, 0, 0, 1, 1, 1] + [0] * 9]
    assert arrays["a"][0, 7:].tolist() == [0] * 9
    assert text.samples(tokenizer, "the film " * 20, parts)[1]


def test_padding_is_the_model_s(tmp_path: Path) -> None:
    folder = small.write(tmp_path / "model", "roberta")
    small.change(folder / "tokenizer_config.json", pad_token="[UNK]", padding_side="left", truncation_side="left")
    _imported(folder, tmp_path / "out")
    padding = text.load(tmp_path / "out" / "tokenizer.json").padding
    assert padding["pad_id"] == 1 and padding["direction"] == "left"


def test_without_a_tokenizer_it_takes_token_ids(checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    folder = small.write(tmp_path / "model", "bert", tokenizer=False)
    result, _ = _imported(folder, tmp_path / "out")
    assert not result.signature.inputs and "without a tokenizer" in result.details["notes"][-1]
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nfilm\n")
    result, _ = _imported(folder, tmp_path / "again")
    assert result.signature.inputs and "made from vocab.txt" in result.details["notes"][-1]


@pytest.mark.parametrize("damage", ["", "{}", "[1]", '{"version": "1.0", "model": {"type": "BPE"}}'])
def test_a_damaged_tokenizer_is_refused(damage: str, tmp_path: Path) -> None:
    folder = small.write(tmp_path / "model", "bert")
    (folder / "tokenizer.json").write_text(damage)
    with pytest.raises(InputError, match="is not a tokenizer"):
        _imported(folder, tmp_path / "out")


def test_a_tokenizer_with_more_tokens_than_the_network_is_refused(tmp_path: Path) -> None:
    folder = small.write(tmp_path / "model", "bert")
    small.write_tokenizer(folder, [f"word{index}" for index in range(40)])
    with pytest.raises(InputError, match="it has token 43, and the network knows 40"):
        _imported(folder, tmp_path / "out")
