"""How long a method search will take, from the times seen so far."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgekit.core.progress import duration
from edgekit.workflows.quantize.attempts import RANGE_METHODS

#: what a search takes time for besides its methods: one pass over the calibration samples, one session of measuring
CALIBRATE, MEASURE = "calibrate", "measure"


def seconds_left(methods: Sequence[str], seen: Mapping[str, float]) -> float | None:
    """The seconds that the rest of a search takes: these methods, the latencies, and the confirmation.

    `seen`: method, CALIBRATE or MEASURE → its seconds, in this search or one on another format. A method that was not
    seen is taken to cost as much as the dearest one seen of its kind: the range methods share a calibration pass, every
    changed network needs one of its own. QAT, whose training may take any time, is not counted unless it was seen. None
    if neither a method nor a pass was seen.
    """
    ranges = [seconds for method, seconds in seen.items() if method in RANGE_METHODS]
    static = ranges or [seen[part] for part in ("dynamic", CALIBRATE) if part in seen]  # as many samples, about
    if not static:
        return None
    networks = [seen[method] for method in ("equalize", "gptq", "bias") if method in seen]
    unseen = max([*networks, seen.get(CALIBRATE, 0.0) + max(static)])
    left = seen.get(MEASURE, 0.0) + min(static)
    for method in methods:
        if method in seen or method != "qat":
            left += seen.get(method, max(static) if method in RANGE_METHODS else unseen)
    return left


def place_in_search(number: int, methods: Sequence[str], seen: Mapping[str, float]) -> str:
    """ "3 of 7, about 40 s left" for the `number`-th method; `methods`: it, and those that may follow."""
    place = f"{number} of {number + len(methods) - 1}"
    left = seconds_left(methods, seen)
    if left is None or (list(methods) == ["qat"] and "qat" not in seen):
        return place
    more = " and the training" if "qat" in methods and "qat" not in seen else ""
    return f"{place}, about {duration(left)}{more} left"
