"""Of a network's outputs those that a file gets; texts as one vector."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edgekit.core.errors import InputError
from edgekit.networks.transformers_ import Outputs, Pooled


class Network(nn.Module):
    """Gives its tokens as vectors of two values; says whether it was asked for a cache."""

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, use_cache: bool = True, return_dict: bool = False
    ) -> dict[str, Tensor]:
        assert return_dict and not use_cache
        return {"last_hidden_state": torch.stack([input_ids, 2.0 * input_ids + 1], -1), "other": attention_mask}


IDS, MASK = torch.tensor([[1, 2, 3], [4, 6, 9]]), torch.tensor([[1, 1, 1], [1, 1, 0]])


def test_named_outputs_only() -> None:
    assert list(Outputs(Network(), ["other"])(input_ids=IDS, attention_mask=MASK)) == ["other"]
    with pytest.raises(InputError, match="Network has no output logits") as caught:
        Outputs(Network(), ["logits"])(input_ids=IDS, attention_mask=MASK)
    assert caught.value.why == "it has last_hidden_state, other"


def test_the_mean_leaves_padding_out() -> None:
    (vector,) = Pooled(Network(), "mean", False)(input_ids=IDS, attention_mask=MASK).values()
    assert vector.tolist() == [[2.0, 5.0], [5.0, 11.0]]


def test_the_first_token_and_length_one() -> None:
    (vector,) = Pooled(Network(), "cls", True)(input_ids=IDS, attention_mask=MASK).values()
    assert torch.allclose(vector, nn.functional.normalize(torch.tensor([[1.0, 3.0], [4.0, 9.0]]), dim=1))


def test_a_text_of_padding_alone_is_no_division_by_zero() -> None:
    (vector,) = Pooled(Network(), "mean", True)(input_ids=IDS, attention_mask=0 * MASK).values()
    assert not vector.any() and vector.isfinite().all()
