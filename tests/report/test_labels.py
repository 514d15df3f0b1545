"""Labels beside their points: none over another, and nearly all of them placed."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.report.labels import Anchor, Box, place

anchors = st.builds(
    Anchor, st.floats(0, 600), st.floats(0, 400), st.floats(1, 25), st.floats(10, 200), st.just(14.0), st.booleans()
)


@given(st.lists(anchors, max_size=30))
@settings(max_examples=60, deadline=None)
def test_labels_never_overlap(points: list[Anchor]) -> None:
    area = Box(0, 0, 600, 400)
    placed = [label for label in place(points, area, []) if label]
    for i, label in enumerate(placed):
        assert area.contains(label.box)
        assert not any(label.box.overlaps(other.box) for other in placed[i + 1 :])
        assert not any(point.touches(label.box, -0.01) for point in points)
