"""openvino → openvino[int8]: NNCF places the quantizers, edgekit's calibration chooses their ranges."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from edgekit import sets
from edgekit.compression.calibration.openvino import read
from edgekit.compression.openvino_ranges import quantizers, set_ranges, weighs_channels
from edgekit.core.arrays import array_errors
from edgekit.core.artifact import Artifact, Kind, kinds
from edgekit.core.errors import CannotConvert, EdgekitError, InputError
from edgekit.core.mute import forwarded, muted
from edgekit.core.progress import quiet as no_progress
from edgekit.core.step import Context, StepResult
from edgekit.core.target import Target
from edgekit.core.task import Task
from edgekit.sets.random_inputs import SEQUENCE_LENGTH
from edgekit.steps import openvino_dynamic
from edgekit.steps.shared.calibrated import SAMPLE, StaticInt8Step
from edgekit.steps.shared.openvino_tables import halve_tables

if TYPE_CHECKING:
    from openvino import Model

#: operators that NNCF would quantize, though int8 makes them less accurate and no faster
_FLOAT = frozenset(
    "Divide Subtract Power SquaredDifference FloorMod MVN GroupNormalization "
    "Less LessEqual Greater GreaterEqual Equal NotEqual".split()
)
#: and, in a model without convolutions to fuse a sum into, these
_FLOAT_ALONE = _FLOAT | {"Add", "AvgPool", "ReduceMean"}

#: a float32 that no sum with an activation shows
NEXT_TO_NOTHING = 1e-30


@dataclass(frozen=True)
class OpenvinoInt8(StaticInt8Step):
    """NNCF's placement with ranges from edgekit's calibration. Inputs and outputs stay float32.

    NNCF's own ranges are the *mean* of the samples' extremes, which clips, and take several passes. Norms,
    comparisons and most products of activations stay float; sums too, in a network without convolutions.
    `scheme` is activations x weights; "" takes what the target's instruction set computes exactly: u8s8, with bounded
    weights on x86 without VNNI (its sums would saturate; see `compression/bounded_weights.py`).
    `calibration`: a SET; "" takes `samples` samples of the task's training split, and `method` chooses ranges from
    them; or `ranges` names an artifact of the calibrate step. `keep_float`: operators, by name, that stay in float.
    `correct_biases` lets NNCF correct the mean error of each layer, which takes a pass per layer.
    """

    accepts: ClassVar = kinds("openvino")
    produces: ClassVar[Kind] = Kind("openvino", frozenset({"int8"}))
    extra: ClassVar[str] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("openvino", "nncf")

    scheme: Literal["", "u8s8", "u8s8-reduced"] = ""
    correct_biases: bool = False

    def check(self, task: Task | None) -> Iterator[str]:
        yield from super().check(task)
        if self.ranges and self.correct_biases:
            yield "correct_biases runs the model on samples: name a set in calibration in place of ranges"

    def resolve(self, target: Target) -> Self:
        return replace(self, scheme=self.scheme or ("u8s8-reduced" if target.isa_class == "x86" else "u8s8"))

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> StepResult:
        """Raises InputError for samples or ranges that do not fit, CannotConvert if NNCF fails."""
        parent = inputs["parent"]
        with muted(ctx.log), _nncf_to(ctx.log):
            import openvino

            model = read(parent.path / "model.xml")
            if halves := [spec.name for spec in parent.inputs if spec.dtype == "float16"]:
                why = f"its input {halves[0]!r} is float16, and int8 is calibrated in float32"
                raise CannotConvert(f"{parent.name} cannot be quantized", why, "export the model in float32 again")
            kept = self.kept(operators(model), parent)
            statistics = self.statistics(inputs, ctx)
            try:
                quantized = self._placed(model, kept, inputs, ctx)
                if not quantizers(quantized):
                    why = "it has no operator with weights that int8 is for"
                    raise CannotConvert(f"nothing of {parent.name} was quantized", why, "use it as it is")
                set_ranges(quantized, statistics, self.method, _symmetric(model), self.scheme == "u8s8-reduced")
                _store_weights(quantized)
                openvino_dynamic.compress(quantized, frozenset(self.weights_only) - {*self.keep_float})
                halve_tables(quantized)
                keep_scales_apart(quantized)
            except (EdgekitError, OSError, MemoryError):
                raise
            except Exception as error:  # OpenVINO's and NNCF's own, and plain ones from inside
                why = " ".join(str(error).split())[:300] or type(error).__name__
                raise CannotConvert(f"NNCF cannot quantize {parent.name}", why, "try openvino_fp16") from error
            centred = ", symmetric activations" if _symmetric(model) else ""
            openvino.save_model(quantized, out / "model.xml", compress_to_fp16=False)
        corrected = ", biases corrected" if self.correct_biases else ""
        scheme = f"{self.scheme or 'u8s8'} per-channel NNCF placement, {self.described(statistics)}{centred}{corrected}"
        return StepResult(scheme=scheme, tensors=parent.identity_map())

    def _placed(self, model: Model, kept: tuple[str, ...], inputs: Mapping[str, Artifact], ctx: Context) -> Model:
        """The model with the FakeQuantize nodes that NNCF places, weights still float; the ranges it sets are replaced.

        Asymmetric activations, symmetric weights: what NNCF calls mixed; in a transformer all are symmetric.
        """
        import nncf
        from nncf.quantization.advanced_parameters import OverflowFix
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        types = _types(model)
        branches, alone = "If" in types, _alone(types)
        products = [node for node in model.get_ops() if node.get_type_name() == "Multiply"]
        # with squeeze-and-excite's in float a MobileNetV3 took 1.08 times as long; in int8 it costs 1.4 dB
        names = [*kept, *(node.get_friendly_name() for node in products if not weighs_channels(node))]
        presets = nncf.QuantizationPreset
        samples = self._samples(branches, inputs, ctx)
        return nncf.quantize(
            model,
            nncf.Dataset(samples),
            preset=presets.PERFORMANCE if _symmetric(model) else presets.MIXED,
            subset_size=len(samples),
            fast_bias_correction=branches,  # the other kind does not support them
            ignored_scope=nncf.IgnoredScope(
                names=names, types=sorted(types & (_FLOAT_ALONE if alone else _FLOAT)), validate=False
            ),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.DISABLE,
                disable_bias_correction=not self.correct_biases,
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                backend_params={"compress_weights": False},
            ),
        )

    def _samples(self, branches: bool, inputs: Mapping[str, Artifact], ctx: Context) -> _Samples:
        """The samples that NNCF runs the model on: a single one for placement only, that of the ranges; else all."""
        calibration, parent = ctx.sets.get("calibration"), inputs["parent"]
        if branches and calibration is None:
            why = "its branches are quantized by NNCF's own ranges, which need samples"
            raise InputError(f"{parent.name} cannot be quantized from ranges", why, "name a set in calibration instead")
        if self.correct_biases or branches:
            return _Samples(lambda: self.feeds(parent, ctx), self.count(ctx))
        ranges = inputs.get("ranges")
        if calibration is None and ranges is not None and (ranges.path / SAMPLE).is_file():
            path = ranges.path / SAMPLE
            with array_errors(path, f"make {ranges.name} again"), np.load(path, allow_pickle=False) as arrays:
                sample = dict(arrays)
            return _Samples(lambda: iter([sample]), 1)
        data = calibration
        if data is None:
            data = sets.random_inputs(parent, parent, open_length=SEQUENCE_LENGTH)
        one = dataclasses.replace(ctx, sets={"calibration": sets.take(data, 1)}, progress=no_progress)
        return _Samples(lambda: self.feeds(parent, one), 1)


def _types(model: Model) -> set[str]:
    return {node.get_type_name() for node in model.get_ops()}


def _alone(types: set[str]) -> bool:
    """Are there no convolutions to fuse a sum into?"""
    return "MVN" in types or not any("Convolution" in kind for kind in types)


def _symmetric(model: Model) -> bool:
    """Has it attention? With zero points in its activations a transformer took 1.3 times as long, and was no closer to
    float."""
    types = _types(model)
    return _alone(types) and bool(types & {"Softmax", "ScaledDotProductAttention"})


def operators(model: Model) -> Iterator[str]:
    """Their names, as the format's reader gives them."""
    nodes = model.get_ordered_ops()
    yield from (n.get_friendly_name() for n in nodes if n.get_type_name() not in ("Constant", "Parameter", "Result"))


def _store_weights(model: Model) -> None:
    """Replace each FakeQuantize of weights by the integers that it rounds to, and their scale."""
    from openvino._offline_transformations import compress_quantize_weights_transformation

    compress_quantize_weights_transformation(model)


def keep_scales_apart(model: Model) -> None:
    """Add a bias of next to nothing to int8 convolutions that have none and whose output a sum and others read.

    OpenVINO 2026.4 moves the convolution's scale behind the sum, and applies it to the other readers as well: their
    values were ten thousand times too small. A bias of zero is removed before.
    """
    import openvino.opset13 as ops

    for node in model.get_ordered_ops():
        if node.get_type_name() not in ("Convolution", "GroupConvolution"):
            continue
        readers = list(node.output(0).get_target_inputs())
        channels = node.output(0).get_partial_shape()[1]
        summed = any(reader.get_node().get_type_name() == "Add" for reader in readers)
        if len(readers) > 1 and summed and channels.is_static:
            rank = node.output(0).get_partial_shape().rank.get_length()
            shape = (1, channels.get_length(), *[1] * (rank - 2))
            biased = ops.add(node.output(0), np.full(shape, NEXT_TO_NOTHING, np.float32))
            for reader in readers:
                reader.replace_source_output(biased.output(0))


class _Samples:
    """The calibration samples, which NNCF iterates several times, with progress shown each time."""

    def __init__(self, feeds: Callable[[], Iterator[Mapping[str, Any]]], count: int) -> None:
        self._feeds, self._count = feeds, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return self._feeds()


@contextlib.contextmanager
def _nncf_to(log: logging.Logger) -> Iterator[None]:
    """Redirect NNCF's logger, which prints to the stdout of its import time, to `log`."""
    import nncf  # noqa: F401  (its import sets up the logger)

    with forwarded(log, "nncf"):
        yield
