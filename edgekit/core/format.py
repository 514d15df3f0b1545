"""What a format must and may offer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from edgekit.core.artifact import ModelFacts, TensorSpec
from edgekit.core.signature import Signature


class Format:
    """What a model file holds, read without running it.

    `file`: the name that a model of this format has in an artifact's folder; `suffixes`: endings by which such files
    are known elsewhere. What follows is optional.

    `observer`, `matched_tensors`, `kernels` and `mixed_precision` name modules (`package.module`), imported when first
    used since they need a runtime; "": not supported. `observer` collects activation statistics in the runtime that
    `observed_in` names and has `observe` (see `compression/calibration`). `matched_tensors` compares two models tensor
    by tensor and has `match` (see `workflows/inspect/matched_tensors`). `kernels` interprets the `profile` of a runtime
    and has `kernels`, `reasons` and `NO_TIMES` (see `workflows/inspect/profiles`). `mixed_precision` reads what a
    runtime computes in int8 and in float, and has `execution` and `quantizable` (see
    `workflows/inspect/mixed_precision`).
    `lowers_recurrence`: a recurrent layer of the network may be other operators in the file.
    """

    file: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]] = ()
    observer: ClassVar[str] = ""
    observed_in: ClassVar[str] = ""
    matched_tensors: ClassVar[str] = ""
    kernels: ClassVar[str] = ""
    mixed_precision: ClassVar[str] = ""
    lowers_recurrence: ClassVar[bool] = True

    @staticmethod
    def describe(path: Path) -> ModelFacts:
        """Tensors, sizes and operators of a model file. Raises InputError for what is damaged or not such a file."""
        raise NotImplementedError

    @staticmethod
    def light(path: Path) -> bytes | None:
        """The model without its weights, for a runtime that is asked whether it knows the operators; None: not had."""
        return None

    @staticmethod
    def signature(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> tuple[Signature, str]:
        """What the file's metadata say about its tensors, and whose metadata they are; empty if they say nothing."""
        return Signature(), ""

    @staticmethod
    def sign(path: Path, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
        """Write the tensors' signatures into the file's metadata. What the model computes does not change."""
