"""Sample sets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgekit.core.signature import InputSignature

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SampleSet:
    """Samples: one array per input name, whose first axis is the sample, and labels, if any.

    Arrays keep their compact dtype (images are uint8); a runner casts them to the model's input dtype. Large arrays are
    read-only np.memmap. `skipped`: samples that could not be read, and why; `notes`: how others were changed, one
    sentence each (cropped, resampled). `classes`: the names in the data of the classes that `labels` are indices of,
    if it names them. `decoded`: by input name, how files became its samples. `random`: nobody's data, but random
    numbers. `more`: further samples that a conversion is checked on, of other sizes.
    """

    name: str
    inputs: Mapping[str, NDArray[Any]]
    labels: NDArray[Any] | None
    sha256: str
    skipped: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()
    decoded: Mapping[str, InputSignature] = field(default_factory=dict)
    random: bool = False
    more: tuple[SampleSet, ...] = ()

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values()))) if self.inputs else 0
