"""How the weights of a file are stored, by operator: float, or integers of some bits in blocks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Encoding:
    """Integers of `bits` (0: floats). `block`: how many weights share a scale (0: a whole channel). `table`: it is
    looked up (an embedding), not multiplied with."""

    bits: int = 0
    block: int = 0
    symmetric: bool = True
    table: bool = False

    def __str__(self) -> str:
        where = f"blocks of {self.block}" if self.block else "per channel"
        return f"int{self.bits} {where}, {'symmetric' if self.symmetric else 'asymmetric'}"


def trait(encodings: Iterable[Encoding]) -> str:
    """w4 or w8: what most operators with stored weights have; "" if most are floats.

    Tables count only where there is nothing else: half of a small language model is its embedding.
    """
    every = list(encodings)
    counts = Counter(e.bits for e in every if not e.table) or Counter(e.bits for e in every)
    integers = {bits: count for bits, count in counts.items() if bits}
    if not integers or sum(integers.values()) < counts[0]:
        return ""
    bits = min(integers, key=lambda bits: (-integers[bits], bits))
    return {4: "w4", 8: "w8"}.get(bits, "")


def described(encodings: Iterable[Encoding]) -> str:
    """ "weight-only: 36 int4 blocks of 32, asymmetric; 1 int8 blocks of 128, symmetric (embedding)"."""
    counts = Counter(e for e in encodings if e.bits)
    parts = [f"{count} {e}{' (embedding)' * e.table}" for e, count in counts.most_common()]
    return f"weight-only: {'; '.join(parts)}" if parts else ""
