"""Peak activation memory of a graph, from tensor lifetimes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence


def peak_bytes(
    inputs: Sequence[str],
    outputs: Sequence[str],
    nodes: Sequence[tuple[Iterable[str], Iterable[str]]],
    bytes_of: Mapping[str, int | None],
) -> int | None:
    """The largest sum of simultaneously live tensors, with operators in the order of the file.

    `nodes` hold the tensors that each operator reads and writes. A tensor is live from the operator that writes it to
    the last one that reads it, inputs from the start, outputs to the end; constants (not in `bytes_of`) do not count.
    None if the size of a used tensor is unknown. This is an estimate: in-place operators need less memory, and
    layout conversions need more.
    """
    steps = [(set(reads), set(writes)) for reads, writes in nodes]
    written = {*inputs}.union(*(writes for _, writes in steps))
    used = {*outputs}.union(*(reads for reads, _ in steps))
    if any(name in bytes_of and bytes_of[name] is None for name in written & used):
        return None
    last_use = {name: index for index, (reads, writes) in enumerate(steps) for name in (*writes, *reads)}
    last_use |= dict.fromkeys(outputs, len(steps))
    freed_after: dict[int, list[str]] = {}
    for name, index in last_use.items():
        freed_after.setdefault(index, []).append(name)
    size = {name: bytes_of.get(name) or 0 for name in written}
    live = {*inputs} & written
    live_bytes = peak = sum(size[name] for name in live)
    for index, (_, writes) in enumerate(steps):
        new = writes - live
        live |= new
        live_bytes += sum(size[name] for name in new)
        peak = max(peak, live_bytes)
        freed = live & set(freed_after.get(index, ()))
        live -= freed
        live_bytes -= sum(size[name] for name in freed)
    return peak
