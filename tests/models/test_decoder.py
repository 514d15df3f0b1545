"""The decoder: with the states of what came before it computes what it computes from the whole text."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from edgekit.models.decoder import Decoder  # noqa: E402


@pytest.fixture
def network() -> Decoder:
    torch.manual_seed(0)
    return Decoder(words=50, length=32, blocks=2, heads=4, size=8, hidden=48).eval()


@pytest.mark.parametrize("parts", [[9], [1, 8], [5, 1, 1, 1, 1], [4, 5]], ids=str)
def test_any_division_into_calls_gives_the_same_logits(network: Decoder, parts: list[int]) -> None:
    tokens = torch.randint(50, (2, 9))
    with torch.inference_mode():
        whole = network(tokens)
        states = [torch.zeros(2, 2, 0, 8)] * 4
        logits = []
        for part in tokens.split(parts, dim=1):
            one, *states = network(part, *states)
            logits.append(one)
    assert (torch.cat(logits, dim=1) - whole).abs().max() < 1e-4
    assert all(state.shape == (2, 2, 9, 8) for state in states)


def test_no_position_sees_what_follows_it(network: Decoder) -> None:
    tokens = torch.randint(50, (1, 9))
    changed = tokens.clone()
    changed[:, 6:] = (changed[:, 6:] + 1) % 50
    with torch.inference_mode():
        before, after = network(tokens), network(changed)
    assert torch.equal(before[:, :6], after[:, :6]) and not torch.allclose(before[:, 6:], after[:, 6:])


def test_positions_are_relative_and_matter(network: Decoder) -> None:
    """The same two tokens in another order give other logits for what follows."""
    with torch.inference_mode():
        one, other = network(torch.tensor([[3, 4, 5]])), network(torch.tensor([[4, 3, 5]]))
    assert not torch.allclose(one[:, 2], other[:, 2], atol=1e-3)


def test_tokens_and_logits_share_one_matrix(network: Decoder) -> None:
    names = [name for name, _ in network.named_parameters()]
    assert names.count("embed.weight") == 1 and not any("head" in name for name in names)


def test_the_example_has_a_past(network: Decoder) -> None:
    states = network.example_states(2)
    assert list(states) == ["0.key", "0.value", "1.key", "1.value"]
    assert all(state.shape[0] == 2 and state.shape[2] > 1 for state in states.values())
