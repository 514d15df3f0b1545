"""How many tokens a model takes, which inputs it has, and what fills them up."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import small_transformers as small
from torch import nn

from edgekit.core.errors import InputError
from edgekit.networks.signatures import hugging_face_text as texts


class Network(nn.Module):
    """With a table of places, whose padding RoBERTa's family counts."""

    def __init__(self, places: int = 50, padding: int | None = None, **config: Any) -> None:
        super().__init__()
        self.position_embeddings = nn.Embedding(places, 2, padding_idx=padding)
        self.words = nn.Embedding(40, 2)
        self.config = SimpleNamespace(max_position_embeddings=places, **config)

    def get_input_embeddings(self) -> nn.Module:
        return self.words


@pytest.mark.parametrize(
    ("stated", "config", "segments"),
    [
        (None, {"type_vocab_size": 2}, True),
        (None, {"type_vocab_size": 1}, False),
        (None, {}, False),
        (["input_ids", "attention_mask"], {"type_vocab_size": 2}, False),
        (["input_ids", "token_type_ids", "attention_mask"], {}, True),
    ],
)
def test_segments_are_an_input_where_the_tokenizer_makes_them(
    stated: list[str] | None, config: dict[str, int], segments: bool, tmp_path: Path
) -> None:
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_input_names": stated} if stated else {}))
    names = texts.input_names(tmp_path, SimpleNamespace(**config))
    assert names == ["input_ids", "attention_mask", "token_type_ids"][: 3 if segments else 2]


def test_the_least_number_of_tokens_counts(tmp_path: Path) -> None:
    assert texts.longest(Network(50)) == 50 and texts.longest(Network(50, padding=1)) == 48
    assert texts.most_tokens(tmp_path, Network(50)) == 50
    (tmp_path / "tokenizer_config.json").write_text(f'{{"model_max_length": {10**30}}}')
    assert texts.most_tokens(tmp_path, Network(50)) == 50
    (tmp_path / "tokenizer_config.json").write_text('{"model_max_length": 20}')
    assert texts.most_tokens(tmp_path, Network(50)) == 20
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 12}')
    assert texts.most_tokens(tmp_path, Network(50)) == 20
    (tmp_path / "modules.json").write_text("[]")
    assert texts.most_tokens(tmp_path, Network(50)) == 12


def test_what_fills_up_a_text(tmp_path: Path) -> None:
    small.write_tokenizer(tmp_path, pad_token={"content": "[SEP]"}, padding_side="left")
    padding = texts.prepared(tmp_path, Network(), 8, True).tokenizer.padding  # type: ignore[union-attr]
    assert (padding["pad_id"], padding["pad_token"], padding["direction"], padding["length"]) == (3, "[SEP]", "left", 8)
    small.write_tokenizer(tmp_path, pad_token=None)
    assert texts.prepared(tmp_path, Network(pad_token_id=2), 8, True).tokenizer.padding["pad_id"] == 2  # type: ignore[union-attr]
    assert texts.prepared(tmp_path, Network(), 8, True).tokenizer.padding["pad_id"] == 0  # type: ignore[union-attr]
    assert texts.prepared(tmp_path, Network(), 8, False).tokenizer.padding is None  # type: ignore[union-attr]


def test_sentence_transformers_may_make_texts_lower_case(tmp_path: Path) -> None:
    small.write_tokenizer(tmp_path)
    (tmp_path / "modules.json").write_text("[]")
    for lower, first in ((False, 1), (True, 4)):
        (tmp_path / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": lower}))
        made = texts.prepared(tmp_path, Network(), 8, True)
        assert made is not None and made.tokenizer.encode("THE").ids[1] == first


@pytest.mark.parametrize("damage", ["[]", "{", ""])
def test_damaged_settings_are_named(damage: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(damage)
    with pytest.raises(InputError, match=r"tokenizer_config\.json is damaged"):
        texts.settings(tmp_path)
