"""openvino → openvino[w4]: weights of products and embeddings in 4 bits; activations stay float32."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.steps.shared.openvino_weights import OpenvinoWeights
from edgekit.steps.shared.weight_only_step import WeightOnlyStep


@dataclass(frozen=True)
class OpenvinoW4(WeightOnlyStep):
    """Integers of edgekit's in constants that OpenVINO keeps as they are when it loads the model."""

    accepts: ClassVar = kinds("openvino")
    produces: ClassVar[Kind] = Kind("openvino", frozenset({"w4"}))
    extra: ClassVar[str] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("openvino",)
    bits: ClassVar[int] = 4

    def weights(self, path: Path, parent: Artifact) -> OpenvinoWeights:
        return OpenvinoWeights(path)
