"""Which epoch's weights were kept."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edgekit.core.history import best

LOSSES = st.lists(st.floats(0, 10), min_size=1)


def test_the_last_one_that_was_kept() -> None:
    history = [{"epoch": 1, "val_loss": 0.1, "kept": True}, {"epoch": 2, "val_loss": 0.5, "kept": True}]
    assert best([*history, {"epoch": 3, "val_loss": 0.01}])["epoch"] == 2


@given(LOSSES)
def test_else_the_first_of_the_lowest_loss(losses: list[float]) -> None:
    history = [{"epoch": index, "val_loss": loss} for index, loss in enumerate(losses)]
    assert best(history)["epoch"] == losses.index(min(losses))
