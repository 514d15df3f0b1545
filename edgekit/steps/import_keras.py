"""nothing → torch: import a Keras 3 model, on Keras's torch backend and in its safe mode."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgekit.core.artifact import Artifact
from edgekit.core.step import Context, StepResult
from edgekit.networks import keras, write
from edgekit.steps.shared.imported_torch import ImportTorchStep, finish, noted


@dataclass(frozen=True)
class ImportKeras(ImportTorchStep):
    """`path`: a .keras file. Images stay NHWC, as Keras has them; layers that hold code are refused."""

    suffixes: ClassVar[tuple[str, ...]] = (".keras",)
    extra: ClassVar[str] = "keras"
    tools: ClassVar[tuple[str, ...]] = ("keras", "torch", "safetensors")

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises Missing without Keras, InputError where the file is damaged or could run code."""
        from edgekit.networks.interface import example_shapes

        path = Path(self.path)
        network = keras.read(path)
        shutil.copyfile(path, out / keras.FILE)
        interface, example = keras.interface(network, path)
        entries = {**interface.to_json(), "example": example_shapes(example), "tensors": keras.tensors(network)}
        write(out, "keras", entries)
        done = noted(finish(out, path.name, network, example, keras.load), interface.notes)
        return self.signed(done, network, interface, ctx)
