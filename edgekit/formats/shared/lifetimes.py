"""How much memory the activations of a graph need at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def peak_bytes(
    inputs: Sequence[str],
    outputs: Sequence[str],
    nodes: Sequence[tuple[Iterable[str], Iterable[str]]],
    bytes_of: Mapping[str, int | None],
) -> int | None:
    """The largest sum of tensors that live at the same time, operators run in the order of the file.

    `nodes` hold what each operator reads and writes. A tensor lives from the operator that writes it to the last one
    that reads it, inputs from the start, outputs to the end; constants are not counted (leave them out of `bytes_of`).
    None where the size of a tensor that something reads is not known. An estimate: a runtime that works in place needs
    less, and one that keeps copies in a layout of its own needs more.
    """
    steps = [(set(reads), set(writes)) for reads, writes in nodes]
    written = {*inputs}.union(*(writes for _, writes in steps))
    used = {*outputs}.union(*(reads for reads, _ in steps))
    if any(name in bytes_of and bytes_of[name] is None for name in written & used):
        return None
    last = {name: index for index, (reads, writes) in enumerate(steps) for name in (*writes, *reads)}
    last |= dict.fromkeys(outputs, len(steps))
    ends: dict[int, list[str]] = {}
    for name, index in last.items():
        ends.setdefault(index, []).append(name)
    size = {name: bytes_of.get(name) or 0 for name in written}
    live = {*inputs} & written
    now = peak = sum(size[name] for name in live)
    for index, (_, writes) in enumerate(steps):
        fresh = writes - live
        live |= fresh
        now += sum(size[name] for name in fresh)
        peak = max(peak, now)
        gone = live & set(ends.get(index, ()))
        live -= gone
        now -= sum(size[name] for name in gone)
    return peak
