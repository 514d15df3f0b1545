"""Tiny checkpoints of the library transformers with random weights, as directories of `save_pretrained`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

WORDS = "the film was a very story and plot of actor in good great bad awful ugly".split()
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
TEXT = {**SIZES, "vocab_size": 40, "max_position_embeddings": 48}
DECODER = {**TEXT, "num_key_value_heads": 2}

#: name → the class, the class of its configuration, and its arguments
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertModel", "BertConfig", TEXT),
    "bert-classifier": (
        *("BertForSequenceClassification", "BertConfig"),
        {**TEXT, "id2label": {0: "bad", 1: "good", 2: "mixed"}, "num_labels": 3},
    ),
    "bert-score": ("BertForSequenceClassification", "BertConfig", {**TEXT, "num_labels": 1}),
    "distilbert": (
        *("DistilBertForSequenceClassification", "DistilBertConfig"),
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 40, "max_position_embeddings": 48},
    ),
    "roberta": (
        *("RobertaForMaskedLM", "RobertaConfig"),
        {**TEXT, "max_position_embeddings": 50, "type_vocab_size": 1, "pad_token_id": 1},
    ),
    "albert": ("AlbertModel", "AlbertConfig", {**TEXT, "embedding_size": 16}),
    "mpnet": ("MPNetModel", "MPNetConfig", {**TEXT, "max_position_embeddings": 50}),
    "questions": ("BertForQuestionAnswering", "BertConfig", TEXT),
    "vit": ("ViTForImageClassification", "ViTConfig", {**SIZES, "image_size": 32, "patch_size": 8, "num_labels": 3}),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {**DECODER, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", {**DECODER, "head_dim": 8}),
    "mistral": ("MistralForCausalLM", "MistralConfig", {**DECODER, "sliding_window": 6}),
    "gpt2": (
        *("GPT2LMHeadModel", "GPT2Config"),
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 40, "n_positions": 48, "bos_token_id": 0}
        | {"eos_token_id": 0},
    ),
    "gemma3": (
        *("Gemma3ForCausalLM", "Gemma3TextConfig"),
        {**DECODER, "head_dim": 8, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]},
    ),
    "t5": ("T5ForConditionalGeneration", "T5Config", {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1}),
    "choices": ("BertForMultipleChoice", "BertConfig", TEXT),
}


def network(kind: str) -> Any:
    """The network, with weights that are spread, so that all of it matters."""
    import torch
    import transformers

    name, config, arguments = KINDS[kind]
    torch.manual_seed(0)
    made = getattr(transformers, name)(getattr(transformers, config)(**arguments)).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.15)
    return made


def write(folder: Path, kind: str, *, tokenizer: bool = True) -> Path:
    """The checkpoint, with a tokenizer of WORDS."""
    made = network(kind)
    made.save_pretrained(folder)
    if tokenizer and kind != "vit":
        write_tokenizer(folder)
    return folder


def write_tokenizer(folder: Path, words: list[str] = WORDS, **settings: Any) -> None:
    """A tokenizer that splits at spaces, with the padding of BERT."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    vocabulary = {word: index for index, word in enumerate([*special, *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    made.save(str(folder / "tokenizer.json"))
    stated = {"pad_token": "[PAD]", "model_max_length": 16, **settings}
    (folder / "tokenizer_config.json").write_text(json.dumps(stated))


def change(file: Path, **values: Any) -> None:
    """Set keys of a JSON object; None removes one."""
    entries = {**json.loads(file.read_text()), **values}
    file.write_text(json.dumps({key: value for key, value in entries.items() if value is not None}))
