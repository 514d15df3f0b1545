"""The rivals: each makes an int8 file of a float model, from the same calibration samples, the way its guide says."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.metadata import version
from pathlib import Path
from typing import Any

from olive_peer import olive

from edgekit.core.artifact import Artifact

#: input name → array of one sample, with a batch axis
Feed = Mapping[str, Any]
#: float model, calibration samples, an empty folder → the int8 file in that folder
Peer = Callable[[Artifact, Sequence[Feed], Path], Path]


def ort_defaults(model: Artifact, feeds: Sequence[Feed], out: Path) -> Path:
    """`quantize_static` with nothing but its required arguments."""
    from onnxruntime.quantization import quantize_static

    quantize_static(str(model.path / "model.onnx"), str(out / "model.onnx"), _Reader(feeds))
    return out / "model.onnx"


def ort_best(model: Artifact, feeds: Sequence[Feed], out: Path) -> Path:
    """As its documentation advises for x86 with VNNI: pre-processed, QDQ, per channel, u8 activations, s8 weights."""
    return _ort_static(model, feeds, out, "MinMax")


def ort_percentile(model: Artifact, feeds: Sequence[Feed], out: Path) -> Path:
    """The same with percentile calibration, which holds every activation of every sample."""
    return _ort_static(model, feeds, out, "Percentile")


def _ort_static(model: Artifact, feeds: Sequence[Feed], out: Path, method: str) -> Path:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    quantize_static(
        str(_preprocessed(model, out)),
        str(out / "model.onnx"),
        _Reader(feeds),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[method],
    )
    return out / "model.onnx"


def ort_dynamic(model: Artifact, feeds: Sequence[Feed], out: Path) -> Path:
    """`quantize_dynamic` of the pre-processed model, else with its defaults."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(_preprocessed(model, out)), str(out / "model.onnx"))
    return out / "model.onnx"


def _preprocessed(model: Artifact, out: Path) -> Path:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    ready = out / "ready.onnx"
    quant_pre_process(str(model.path / "model.onnx"), str(ready))
    return ready


class _Reader:
    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> Feed | None:
        return next(self._feeds, None)


def aeq_static(model: Artifact, feeds: Sequence[Feed], out: Path) -> Path:
    """ai-edge-quantizer's `static_wi8_ai8` with its own calibration."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    path = model.path / "model.tflite"
    (signature,) = Interpreter(str(path)).get_signature_list()
    tool = quantizer.Quantizer(str(path), recipe.static_wi8_ai8())
    tool.quantize(tool.calibrate({signature: feeds})).export_model(str(out / "model.tflite"))
    return out / "model.tflite"


def aeq_dynamic(model: Artifact, feeds: Sequence[Feed], out: Path) -> Path:
    """ai-edge-quantizer's `dynamic_wi8_afp32`: int8 weights, activations quantized on the fly."""
    from ai_edge_quantizer import quantizer, recipe

    tool = quantizer.Quantizer(str(model.path / "model.tflite"), recipe.dynamic_wi8_afp32())
    tool.quantize().export_model(str(out / "model.tflite"))
    return out / "model.tflite"


def nncf_static(model: Artifact, feeds: Sequence[Feed], out: Path) -> Path:
    """`nncf.quantize` with its defaults, saved as OpenVINO saves by default: what stays float becomes float16."""
    from edgekit.runtimes.openvino import no_telemetry

    no_telemetry()
    import nncf
    import openvino

    quantized = nncf.quantize(openvino.Core().read_model(model.path / "model.xml"), nncf.Dataset(list(feeds)))
    openvino.save_model(quantized, out / "model.xml")
    return out / "model.xml"


def nncf_weights(model: Artifact, feeds: Sequence[Feed], out: Path) -> Path:
    """`nncf.compress_weights` with its defaults: int8 weights, float activations."""
    from edgekit.runtimes.openvino import no_telemetry

    no_telemetry()
    import nncf
    import openvino

    compressed = nncf.compress_weights(openvino.Core().read_model(model.path / "model.xml"))
    openvino.save_model(compressed, out / "model.xml")
    return out / "model.xml"


#: format → name → rival
STATIC: Mapping[str, Mapping[str, Peer]] = {
    "onnx": {
        "ORT, all defaults": ort_defaults,
        "ORT, best-known flags": ort_best,
        "ORT, percentile": ort_percentile,
        "Olive": olive,
    },
    "tflite": {"ai-edge-quantizer": aeq_static},
    "openvino": {"NNCF": nncf_static},
}
DYNAMIC: Mapping[str, Mapping[str, Peer]] = {
    "onnx": {"ORT, dynamic": ort_dynamic},
    "tflite": {"ai-edge-quantizer, dynamic": aeq_dynamic},
    "openvino": {"NNCF, weights only": nncf_weights},
}
#: whose versions decide what a rival makes
TOOLS = ("onnxruntime", "ai-edge-quantizer", "nncf", "openvino")
SECONDS = "seconds.txt"


def peers(format: str, dynamic: bool) -> Mapping[str, Peer]:
    """The rivals in a format by name; with `dynamic` those that calibrate nothing as well."""
    return {**STATIC[format], **(DYNAMIC[format] if dynamic else {})}


def made(peer: Peer, model: Artifact, feeds: Sequence[Feed], folder: Path) -> tuple[Path, float]:
    """The rival's file and the seconds it took; kept from an earlier run where model and tools are the same.

    Raises RuntimeError with what the rival said, or that it took too much memory.
    """
    versions = "-".join(version(name) for name in TOOLS)
    place = folder / f"{peer.__name__}-{model.id}-{len(feeds)}-{versions}"
    file = f"model.{ {'openvino': 'xml'}.get(model.kind.format, model.kind.format) }"
    if not (place / file).is_file():
        making = place.with_name(f".making-{place.name}")
        shutil.rmtree(making, ignore_errors=True)
        making.mkdir(parents=True)
        (making / SECONDS).write_text(f"{_in_a_process(peer, model, feeds, making):.1f}")
        shutil.rmtree(place, ignore_errors=True)
        making.rename(place)
    return place / file, float((place / SECONDS).read_text())


def _in_a_process(peer: Peer, model: Artifact, feeds: Sequence[Feed], out: Path) -> float:
    """Run a rival in a process with three quarters of the memory: some keep every activation of every sample.

    The seconds that it took, without the start of the process. Raises RuntimeError.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_limited) as pool:
        try:
            return pool.submit(_timed, peer, model, feeds, out).result()
        except BrokenProcessPool:
            raise RuntimeError("its process was killed") from None


def _limited() -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    resource.setrlimit(resource.RLIMIT_AS, (memory * 3 // 4, resource.RLIM_INFINITY))
    for stream in (1, 2):  # the tools print much
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)


def _timed(peer: Peer, model: Artifact, feeds: Sequence[Feed], out: Path) -> float:
    started = time.monotonic()
    try:
        peer(model, feeds, out)
    except MemoryError:
        raise RuntimeError("it takes more than three quarters of this machine's memory") from None
    except Exception as error:  # of any class, which may not survive the way back
        raise RuntimeError(" ".join(str(error).split()) or type(error).__name__) from None
    return time.monotonic() - started
