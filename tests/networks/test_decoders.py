"""A decoder with its cache as inputs and outputs computes what transformers does."""

from __future__ import annotations

import numpy as np
import pytest
import small_transformers
import torch

from edgekit.networks.decoders import Decoder

KINDS = ("llama", "qwen3", "mistral", "gpt2", "gemma3")


def _decoder(kind: str) -> Decoder:
    network = small_transformers.network(kind)
    network.set_attn_implementation("eager")
    return Decoder(network).eval()


@pytest.fixture(scope="module")
def tokens() -> torch.Tensor:
    return torch.randint(40, (2, 20), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", KINDS)
def test_is_the_same_with_and_without_a_cache(kind: str, tokens: torch.Tensor) -> None:
    decoder = _decoder(kind)
    with torch.inference_mode():
        expected = decoder.network(input_ids=tokens, use_cache=False).logits
        parts, states = [], decoder.empty(2)
        for first, last in ((0, 7), (7, 9), *((place, place + 1) for place in range(9, 20))):
            logits, *states = decoder(tokens[:, first:last], *states)
            parts.append(logits)
    assert torch.allclose(torch.cat(parts, 1), expected, atol=1e-4)
    assert [tuple(state.shape[::2]) for state in states] == [(2, 20)] * len(decoder.states)


def test_generates_what_transformers_generates(tokens: torch.Tensor) -> None:
    decoder = _decoder("llama")
    with torch.inference_mode():
        expected = decoder.network.generate(tokens[:1, :6], max_new_tokens=8, do_sample=False, eos_token_id=-1)
        text, states = tokens[:1, :6], decoder.empty(1)
        new = text
        for _ in range(8):
            logits, *states = decoder(new, *states)
            new = logits[:, -1:].argmax(-1)
            text = torch.cat([text, new], 1)
    assert text.tolist() == expected.tolist()


def test_states_are_named_by_layer() -> None:
    decoder = _decoder("qwen3")
    assert list(decoder.states.items())[:2] == [
        ("past_key_values.0.key", "present.0.key"),
        ("past_key_values.0.value", "present.0.value"),
    ]
    assert [tuple(state.shape) for state in decoder.empty(3, 5)] == [(3, 2, 5, 8)] * 4


@pytest.mark.slow
def test_an_exported_file_starts_with_an_empty_cache(tokens: torch.Tensor) -> None:
    import onnxruntime
    from torch.export import Dim, export

    decoder = _decoder("gemma3")
    batch, length, past = Dim("batch", min=1), Dim("length", min=1), Dim("past", min=0)
    example = (tokens[:, :3].contiguous(), *decoder.empty(2, 4))
    shapes = ({0: batch, 1: length}, tuple({0: batch, 2: past} for _ in decoder.states))
    names, outputs = ["input_ids", *decoder.states], ["logits", *decoder.states.values()]
    program = torch.onnx.export(
        export(decoder, example, dynamic_shapes=shapes),
        dynamo=True,
        input_names=names,
        output_names=outputs,
        verbose=False,
    )
    assert program is not None
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    states, parts = [state.numpy() for state in decoder.empty(2)], []
    for first, last in ((0, 8), (8, 9), (9, 20)):
        feed = dict(zip(names, [tokens[:, first:last].numpy(), *states], strict=True))
        logits, *states = session.run(outputs, feed)
        parts.append(logits)
    with torch.inference_mode():
        expected = decoder.network(input_ids=tokens, use_cache=False).logits.numpy()
    assert np.abs(np.concatenate(parts, 1) - expected).max() < 1e-4
