"""openvino → openvino[int8]: static quantization by NNCF, per-channel weights, calibrated on training data."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from edgekit.errors import CannotConvert, EdgekitError
from edgekit.runtimes.openvino import no_telemetry
from edgekit.steps._calibrated import CalibratedStep
from edgekit.steps._export import quiet
from edgekit.types import Artifact, Context, Kind, Notes, Target, kinds

if TYPE_CHECKING:
    from openvino import Model


@dataclass(frozen=True)
class OpenvinoInt8(CalibratedStep):
    """NNCF with true min-max ranges and its slower bias correction. Inputs and outputs stay float32.

    NNCF's defaults take the *mean* of the samples' extremes as the range, which clips, and lose 12 to 25 dB by it.
    `scheme` is activations x weights; "" takes what the target's instruction set computes exactly: u8s8, with 7-bit
    weights on x86 without VNNI (its sums would saturate; those of a depthwise convolution are too short to).
    `calibration`: a SET; "" takes `samples` samples of the task's training split.
    `correct_biases` makes up for the mean error of each layer; it runs the model once more per layer.
    """

    takes: ClassVar = kinds("openvino")
    gives: ClassVar[Kind] = Kind("openvino", frozenset({"int8"}))
    needs: ClassVar[str] = "openvino"
    tools: ClassVar[tuple[str, ...]] = ("openvino", "nncf")

    scheme: Literal["", "u8s8", "u8s8-reduced"] = ""
    correct_biases: bool = True

    def resolve(self, target: Target) -> Self:
        return replace(self, scheme=self.scheme or ("u8s8-reduced" if target.isa_class == "x86" else "u8s8"))

    def apply(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Notes:
        no_telemetry()
        import openvino

        parent = inputs["parent"]
        samples = _Samples(lambda: self.feeds(parent, ctx), self.count(ctx))
        with quiet(ctx.log), _nncf_to(ctx.log):
            model = openvino.Core().read_model(parent.path / "model.xml")
            try:
                quantized = self._quantize(model, samples)
            except (EdgekitError, OSError, MemoryError):
                raise
            except Exception as error:  # OpenVINO's and NNCF's own, and plain ones from inside
                why = " ".join(str(error).split())[:300] or type(error).__name__
                raise CannotConvert(f"NNCF cannot quantize {parent.name}", why, "try openvino_fp16") from error
            if not any(operation.get_type_name() == "FakeQuantize" for operation in quantized.get_ops()):
                why = "it has no operator with weights that int8 is for"
                raise CannotConvert(f"nothing of {parent.name} was quantized", why, "use it as it is")
            openvino.save_model(quantized, out / "model.xml", compress_to_fp16=False)
        corrected = ", biases corrected" if self.correct_biases else ""
        scheme = f"{self.scheme or 'u8s8'} per-channel NNCF, min-max over {len(samples)} samples{corrected}"
        return Notes(scheme=scheme, tensors={s.name: s.name for s in (*parent.inputs, *parent.outputs)})

    def _quantize(self, model: Model, samples: _Samples) -> Model:
        """Asymmetric activations, symmetric weights: what NNCF calls mixed."""
        import nncf
        from nncf.quantization.advanced_parameters import OverflowFix
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet

        reduced = self.scheme == "u8s8-reduced"
        return nncf.quantize(
            model,
            nncf.Dataset(samples),
            preset=nncf.QuantizationPreset.MIXED,
            subset_size=len(samples),
            fast_bias_correction=False,
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                overflow_fix=OverflowFix.ENABLE if reduced else OverflowFix.DISABLE,
                disable_bias_correction=not self.correct_biases,
                activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
            ),
        )


class _Samples:
    """The calibration samples, which NNCF goes through several times, with progress shown each time."""

    def __init__(self, feeds: Callable[[], Iterator[Mapping[str, Any]]], count: int) -> None:
        self._feeds, self._count = feeds, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return self._feeds()


class _Forward(logging.Handler):
    def __init__(self, log: logging.Logger) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        self._log.debug("nncf: %s", record.getMessage())


@contextlib.contextmanager
def _nncf_to(log: logging.Logger) -> Iterator[None]:
    """NNCF's own logger prints to the stdout it found when it was imported; let it write to `log` instead."""
    import nncf  # noqa: F401  (its import sets up the logger)

    own = logging.getLogger("nncf")
    handlers, own.handlers = own.handlers, [_Forward(log)]
    try:
        yield
    finally:
        own.handlers = handlers
