"""A TFLite file without needless work: padding in the convolution, no copies into another layout and back.

What it computes stays the same to the bit; only a mean of floats is summed in another order. XNNPACK fuses a PAD into
the next convolution by itself; other kernels, those of microcontrollers among them, write the padded tensor.
"""

from __future__ import annotations

from typing import Any

from edgekit.steps.shared.tflite_layout import (
    DenseInPlace,
    KeepReducedAxes,
    MeanInPlace,
    MergeReshapes,
    MergeTransposes,
    ReshapeFirst,
    SinkLayout,
    TransposeOfOnes,
)
from edgekit.steps.shared.tflite_padding import FoldPad, GrowKernel, TrimPad
from edgekit.steps.shared.tflite_rules import Decision, Graph, apply, drop_unread


def slim(model: Any, *, fold_padding: bool = False) -> tuple[Decision, ...]:
    """Rewrite a ModelT in place. `fold_padding`: by a larger kernel, too, where SAME padding differs."""
    rules = [
        FoldPad,
        *([GrowKernel] if fold_padding else []),
        TrimPad,
        MergeTransposes,
        ReshapeFirst,
        SinkLayout,
        MeanInPlace,
        KeepReducedAxes,
        DenseInPlace,
        TransposeOfOnes,
        MergeReshapes,
    ]
    decisions = [each for graph in model.subgraphs for each in apply(rules, Graph(model, graph))]
    drop_unread(model)
    return tuple(decisions)
