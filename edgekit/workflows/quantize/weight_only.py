"""Weight-only quantization: one artifact per format; with a budget, 4 bits are mixed with 8 until it is kept."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from edgekit.core.errors import EdgekitError
from edgekit.core.progress import Progress
from edgekit.core.target import Plan
from edgekit.measure.context import Outcome
from edgekit.runs.recipe import Gates
from edgekit.runs.references import ModelReference
from edgekit.runs.shapes import Shapes
from edgekit.workflows import make
from edgekit.workflows.chains import extend
from edgekit.workflows.quantize.attempts import QuantizeOutcome
from edgekit.workflows.setup import Say

WEIGHT_ONLY = ("w8", "w4")
#: the shares of the products that are raised to 8 bits, one attempt each
SHARES = (0.0, 0.125, 0.25, 0.5, 1.0)


def quantize(
    ref: ModelReference,
    chains: Mapping[str, Sequence[Sequence[str]]],
    budget: bool,
    gates: Gates,
    target: str,
    val: str,
    fields: Mapping[str, Any],
    progress: Progress,
    say: Say,
    shapes: Shapes | None,
    metric: str,
) -> QuantizeOutcome:
    """Make the chains of each format. With a `budget`, those of 4 bits are made again with more of the products in 8,
    the most sensitive first, until it is kept; else the last attempt is kept. The failure of one format does not end
    the others."""
    total = QuantizeOutcome()

    def attempt(chain: Sequence[Sequence[str]], raised: int) -> Outcome:
        more = {"raised": raised} if raised else {}
        return extend(
            ref, chain, Plan(), gates, target, val, {**fields, **more}, progress, say, shapes, metric, from_half=True
        )

    for chain in chains.values():
        mixed = budget and chain[-1][-1].endswith("_w4") and not {"raised", "max_mb"} & set(fields)
        try:
            outcome = attempt(chain, 0)
            for share in SHARES[1:] if mixed else ():
                if not _missed(outcome):
                    break
                products = outcome.artifacts[-1].details["weight_only"]["matrices"]
                say(f"  the budget is missed: {math.ceil(share * products)} of {products} products in 8 bits …")
                outcome = attempt(chain, math.ceil(share * products))
        except EdgekitError as error:
            if len(chains) == 1 or isinstance(error, make.ENDING):
                raise
            total.failures.append(error)
            continue
        _add(outcome, total)
    make.raise_only(total)
    return total


def _missed(outcome: Outcome) -> bool:
    """Was the last artifact made, and did it fail its check by what more bits may change?"""
    made = outcome.artifacts[-1] if outcome.artifacts else None
    last = outcome.findings[-1] if outcome.findings else None
    return bool(made and last and last.id == made.id and last.failed in ("budget", "floor"))


def _add(outcome: Outcome, total: Outcome) -> None:
    for field in dataclasses.fields(Outcome):
        value, before = getattr(outcome, field.name), getattr(total, field.name)
        setattr(total, field.name, before + value)
    total.notes = list(dict.fromkeys(total.notes))
