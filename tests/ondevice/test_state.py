"""States on the device: one call and many give the same, and a request is greedy decoding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgekit.ondevice.state import Stateful

STATES = {"sum_in": "sum_out", "seen_in": "seen_out"}
SETTINGS = {"states": STATES}
WORDS = 7


class Counter:
    """A session whose logits at a position are for (sum of all tokens so far + their number) modulo WORDS."""

    inputs = (
        {"name": "tokens", "dtype": "int64", "shape": [None, None]},
        {"name": "sum_in", "dtype": "int64", "shape": [None, 1]},
        {"name": "seen_in", "dtype": "float32", "shape": [None, 2, None]},
    )
    outputs = (
        {"name": "seen_out", "dtype": "float32", "shape": [None, 2, None]},
        {"name": "logits", "dtype": "float32", "shape": [None, None, WORDS]},
        {"name": "sum_out", "dtype": "int64", "shape": [None, 1]},
    )

    def bind(self, feeds: Any) -> Any:
        def call() -> list[Any]:
            tokens, before, seen = feeds["tokens"], feeds["sum_in"], feeds["seen_in"]
            sums = before + tokens.cumsum(axis=1)
            counts = seen.shape[2] + 1 + np.arange(tokens.shape[1])
            logits = np.eye(WORDS, dtype=np.float32)[(sums + counts) % WORDS]
            more = np.repeat(tokens[:, None, :], 2, axis=1).astype(np.float32)
            return [np.concatenate([seen, more], axis=2), logits, sums[:, -1:]]

        return call

    def facts(self) -> dict[str, str]:
        return {"runtime_version": "0"}


def expected(tokens: list[int], count: int) -> list[int]:
    tokens = list(tokens)
    for _ in range(count):
        tokens.append((sum(tokens) + len(tokens)) % WORDS)
    return tokens[-count:]


@pytest.fixture
def session() -> Stateful:
    return Stateful(Counter(), SETTINGS)


def test_states_are_hidden(session: Stateful) -> None:
    assert [spec["name"] for spec in session.inputs] == ["tokens"]
    assert [spec["name"] for spec in session.outputs] == ["logits"]
    assert session.facts() == {"runtime_version": "0"}


def test_a_call_starts_empty_each_time(session: Stateful) -> None:
    tokens = np.array([[1, 2, 3]])
    call = session.bind({"tokens": tokens})
    first, second = call(), call()
    assert len(first) == 1 and np.array_equal(first[0], second[0])


@pytest.mark.parametrize("first", [1, 2, 4, 5])
def test_step_by_step(session: Stateful, first: int) -> None:
    feeds = {"tokens": np.array([[1, 2, 3, 4, 5], [5, 5, 1, 0, 2]])}
    (whole,) = session.bind(feeds)()
    (steps,) = session.stepwise(first).bind(feeds)()
    assert np.array_equal(whole, steps)


def test_a_request_is_greedy_decoding(session: Stateful) -> None:
    prompt = np.array([[1, 2, 3], [6, 0, 4]])
    tokens, first_ns = session.request({"tokens": prompt}, 6)
    assert tokens.tolist() == [expected(row, 6) for row in prompt.tolist()] and first_ns > 0
    generating = session.generating(3)
    (again,) = generating.bind({"tokens": prompt})()
    assert again.tolist() == tokens[:, :3].tolist() and generating.outputs[0]["shape"] == [None, 3]


def test_empty_states_for_a_profile(session: Stateful) -> None:
    feeds = session.with_states({"tokens": np.array([[1], [2]])}, Counter.inputs)
    assert feeds["sum_in"].shape == (2, 1) and feeds["seen_in"].shape == (2, 2, 0)
    assert feeds["sum_in"].dtype == np.int64 and not feeds["sum_in"].any()


def test_a_runtime_may_keep_them_itself() -> None:
    class Keeping(Counter):
        def keep(self, states: Any) -> Any:
            assert states == STATES

            class Kept:
                def run(self, feeds: Any, fresh: bool) -> list[Any]:
                    return [feeds["tokens"], fresh]

            return Kept()

    assert Stateful(Keeping(), SETTINGS).bind({"tokens": 1})() == [1, True]
