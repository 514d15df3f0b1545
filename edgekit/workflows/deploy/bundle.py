"""A bundle: everything a program needs to use one artifact on a device, and to check there that it works.

manifest.json     the artifact, its input preprocessing, the labels, and the sha256 of every other file
model/            the artifact's files
predict.py        predictions on the command line, with preprocess.py, table.py, runner.py, for texts text.py, and the
                  runtime's file in runtime/
example.py, .c    a minimal program in each language; in C with preprocess.h, image.h, and the generated preprocessing.h
check/            samples and files, and the outputs of the machine that made the bundle
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import sets, tasks
from edgekit.core import children, registry
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError, os_errors
from edgekit.core.files import sha256
from edgekit.core.printable import printable
from edgekit.core.relative_paths import inside
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature, OutputSignature
from edgekit.core.target import Plan, Target
from edgekit.core.temporary import temporary_folder
from edgekit.devices.shared.bundle import MANIFEST, Bundle
from edgekit.devices.shared.job import RUNNER
from edgekit.measure.execute import execute
from edgekit.measure.verify import saturates
from edgekit.networks.signatures import heads
from edgekit.report.markdown import inert
from edgekit.sets.options import Options, parse_set_spec
from edgekit.sets.preprocessing import array_record
from edgekit.sets.texts import takes_text
from edgekit.workflows.deploy import replay, sbom
from edgekit.workflows.deploy.c_header import image_problem, preprocessing_header

SCHEMA = "edgekit-bundle/1"

ONDEVICE = RUNNER.parent

#: seconds that a bundle's check may take here
CHECK_SECONDS = 600

#: samples in a bundle that its outputs are checked on
CHECKED = 8

#: tolerances: the largest difference from the host's outputs, as a share of their largest absolute value. Other
#: instructions add float sums in another order; OpenVINO on Arm computes float in half precision.
FLOAT, HALF, ROUNDED = 1e-4, 5e-3, 5e-2


def make(
    artifact: Artifact, runtime: str, data: SampleSet, here: Target, like: Target, folder: Path, files: str = ""
) -> Bundle:
    """The bundle of an artifact for one runtime; generated files are written to `folder`.

    `here` computes the expected outputs of the first samples of `data`, and of the files of the SET `files` (""; none),
    which the bundle's own program replays; `like` is the target that the bundle is for. Raises InputError, Missing,
    DeviceError.
    """
    if artifact.kind.format == "torch":
        raise InputError(f"{artifact.name} runs only where edgekit is installed", next="export it: edgekit export")
    samples = sets.take(data, CHECKED)
    expected = execute(artifact, here, samples, Plan(), runtime=runtime, latency=False).outputs
    parts = _files(artifact, runtime)
    for part, arrays in (("inputs", samples.inputs), ("outputs", expected)):
        parts[f"check/{part}.npz"] = _save_npz(arrays, folder / "check" / f"{part}.npz")
    manifest = _manifest(artifact, runtime, tolerance(artifact, here, like))
    if files and (replayed := replay.replay(artifact, files, here, runtime)):
        parts |= replay.write(replayed, folder)
        parts["check/answers.npz"] = _save_npz(replayed.answers, folder / "check" / "answers.npz")
        manifest["check"]["files"] = {**replayed.record(), "answers": "check/answers.npz", "tolerance": ROUNDED}
    if "example.c" in parts:
        scores = artifact.outputs[0].signature
        kind = scores.kind if isinstance(scores, OutputSignature) else ""
        header = preprocessing_header(manifest["preprocessing"], manifest["labels"], kind)
        parts["preprocessing.h"] = _write_text(header, folder / "preprocessing.h")
    parts["README.md"] = _write_text(_readme(manifest, "example.c" in parts), folder / "README.md")
    tokenizers = {"tokenizers"} if manifest["preprocessing"]["kind"] == "text" else set()
    bill = sbom.sbom(artifact, sorted({"numpy", manifest["package"], *tokenizers} - {""}), parts)
    parts[sbom.FILE] = _write_text(json.dumps(bill, indent=1) + "\n", folder / sbom.FILE)
    hashes = {name: {"sha256": sha256(path), "bytes": path.stat().st_size} for name, path in sorted(parts.items())}
    text = json.dumps({**manifest, "files": hashes}, indent=1, sort_keys=True) + "\n"
    parts[MANIFEST] = _write_text(text, folder / MANIFEST)
    return Bundle(hashlib.sha256(text.encode()).hexdigest()[:16], {**manifest, "files": hashes}, parts)


def write(bundle: Bundle, folder: Path) -> None:
    """Write the bundle to a folder, in place of an earlier bundle if there is one.

    Raises InputError if the folder holds anything but a bundle as edgekit wrote it, or is a link.
    """
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - a link is not followed
    if not folder.name:
        raise InputError(f"{folder} is no folder for a bundle", next="name a folder in it")
    old = folder.with_name(f".{folder.name}.old-bundle")
    with os_errors("write", folder):
        if os.path.lexists(old) and os.path.lexists(folder):
            _remove(old)
        elif os.path.lexists(old):
            old.rename(folder)  # killed between the two renames below
        replaces = bool(_files_there(folder))
        folder.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(folder.parent) as part:
            for name, path in bundle.files.items():
                copy = inside(part, name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            part.chmod(0o777 & ~_umask())
            if replaces:
                folder.rename(old)
            part.rename(folder)
        if replaces:
            _remove(old)


def _remove(folder: Path) -> None:
    """Delete a bundle, its manifest last: a part of one can be deleted later. Raises InputError if it is none."""
    names, listed = _files_there(folder), _manifest_of(folder).get("files", {})
    for name in names:
        if name != MANIFEST:
            (folder / name).unlink()
    for parent in sorted({parent for name in listed for parent in Path(name).parents} - {Path()}, reverse=True):
        if (folder / parent).is_dir():
            (folder / parent).rmdir()
    (folder / MANIFEST).unlink(missing_ok=True)
    folder.rmdir()


def _files_there(folder: Path) -> list[str]:
    """The files of the bundle in the folder, which edgekit may replace; none if there is no folder, or an empty one.

    Raises InputError if there is anything else.
    """
    next = "nothing was written; name another folder"
    if folder.is_symlink():
        raise InputError(f"{folder} is a link", next=next)
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return []
    if not folder.is_dir() or not _is_bundle(folder):
        raise InputError(f"{folder} exists already", "it is not a bundle", next)
    hashes = {name: entry["sha256"] for name, entry in _manifest_of(folder)["files"].items()}
    folders = {str(parent) for name in hashes for parent in Path(name).parents}
    names = []
    for path in folder.rglob("*"):
        name = str(path.relative_to(folder))
        is_folder = path.is_dir() and not path.is_symlink()
        if not (name in folders if is_folder else name == MANIFEST or _has_sha256(path, hashes.get(name))):
            why = f"{name} is not a part of the bundle, or was changed"
            raise InputError(f"{folder} holds more than a bundle of edgekit", why, next)
        names += [] if is_folder else [name]
    return names


def _has_sha256(path: Path, digest: str | None) -> bool:
    return path.is_file() and not path.is_symlink() and sha256(path) == digest


def _is_bundle(folder: Path) -> bool:
    files = _manifest_of(folder).get("files")
    return isinstance(files, dict) and all(isinstance(e, dict) and "sha256" in e for e in files.values())


def _manifest_of(folder: Path) -> dict[str, Any]:
    """The manifest of the bundle in a folder; empty if there is none."""
    with suppress(OSError, ValueError, RecursionError):
        manifest = json.loads((folder / MANIFEST).read_bytes()) if not folder.is_symlink() else None
        if isinstance(manifest, dict) and manifest.get("schema") == SCHEMA:
            return manifest
    return {}


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def check(folder: Path) -> Mapping[str, Any]:
    """What the program of the bundle in `folder` says about itself, run here with this Python."""
    command = [sys.executable, str(folder / "predict.py"), "--check"]
    try:
        done = children.run(command, text=True, timeout=CHECK_SECONDS)
    except subprocess.TimeoutExpired:
        return {"ok": False, "why": f"it took longer than {CHECK_SECONDS} s"}
    try:
        result = json.loads(done.stdout)
        if not isinstance(result, dict):
            raise ValueError("it is no object")
        return result
    except ValueError:
        lines = done.stderr.strip().splitlines() or [f"it ended with exit code {done.returncode}"]
        return {"ok": False, "why": lines[-1]}


def tolerance(artifact: Artifact, here: Target, there: Target) -> float:
    """The largest allowed difference between its outputs on the device and here: 0 if only integers are computed.

    The float operators of an int8 model may round to a neighbouring quantization level, and so may ranges that are
    computed at run time; on a machine that saturates the sums of the scheme, no exact outputs can be expected.
    """
    format, precision = artifact.kind.format, artifact.kind.precision
    chosen = artifact.fields.get("keep_float") or artifact.fields.get("weights_only")
    partly = bool(chosen or artifact.details.get("float_operators"))
    if precision == "int8" and format != "openvino" and not partly and not saturates(artifact, here):
        return 0.0
    # activations of int4 products are rounded at run time in LiteRT, and in ONNX Runtime if the step was told so
    at_run_time = (format == "tflite" and precision == "w4") or artifact.details.get("weight_only", {}).get(
        "accuracy_level"
    )
    if precision in ("int8", "dynamic") or at_run_time:
        return ROUNDED
    if format == "openvino" or precision == "fp16":
        return HALF if here.arch == there.arch else 2 * HALF
    return FLOAT


def _manifest(artifact: Artifact, runtime: str, tolerance: float) -> dict[str, Any]:
    loaded = registry.load("runtimes", runtime)
    task = tasks.load(artifact.task) if artifact.task else None
    return {
        "schema": SCHEMA,
        "artifact": artifact.name,
        "artifact_id": artifact.id,
        "format": artifact.kind.format,
        "precision": artifact.kind.precision or "fp32",
        "scheme": artifact.scheme,
        "runtime": runtime,
        "runtime_class": loaded.__name__,
        "runtime_file": f"runtime/{Path(inspect.getfile(loaded)).name}",
        "package": registry.runtime(runtime).package,
        "model": f"model/{registry.load('formats', artifact.kind.format).file}",
        "compute": "fp32",
        "lists": artifact.lists,
        "inputs": [spec.to_json() for spec in artifact.inputs],
        "outputs": [spec.to_json() for spec in artifact.outputs],
        "states": {state.input.name: state.output.name for state in artifact.states},
        "preprocessing": _preprocessing(artifact),
        "signature": artifact.signature.to_table(),
        "labels": list(artifact.signature.classes or (task.classes if task else ())),
        "check": {"inputs": "check/inputs.npz", "outputs": "check/outputs.npz", "tolerance": tolerance},
        "licences": list(artifact.licences),
    }


def _preprocessing(artifact: Artifact) -> dict[str, Any]:
    """What the bundle's program does to files; `assumed`: neither a signature nor the training data says it."""
    if takes_text(artifact.inputs):
        return _text_record(artifact)
    if len(artifact.inputs) != 1:
        return {"kind": "tensor"}
    named = artifact.task and not tasks.has_options(artifact.task)
    options = parse_set_spec(artifact.task).options if named else Options()
    record = array_record(artifact.inputs[0], options)
    if record["kind"] == "text":  # without a tokenizer
        return {"kind": "tensor"}
    assumed = not artifact.task and artifact.inputs[0].signature is None and record["kind"] != "tensor"
    return {**record, "assumed": True} if assumed else record


def _text_record(artifact: Artifact) -> dict[str, Any]:
    """The tokenizer, a file of the bundle, what of its encoding each input takes, and the number of tokens."""
    records = {spec.name: spec.signature for spec in artifact.inputs if isinstance(spec.signature, InputSignature)}
    first = next(record for record in records.values() if record.tokenizer)
    tokens = artifact.inputs[0].shape[1] if len(artifact.inputs[0].shape) == 2 else None
    return {
        "kind": "text",
        "tokenizer": f"model/{Path(first.tokenizer).name}",
        "parts": {name: record.part for name, record in records.items() if record.tokenizer},
        "length": tokens or first.max_length,
    }


def _files(artifact: Artifact, runtime: str) -> dict[str, Path]:
    source = Path(inspect.getfile(registry.load("runtimes", runtime)))
    files = {f"model/{name}": artifact.path / name for name in artifact.files}
    files |= {name: ONDEVICE / name for name in ("predict.py", "preprocess.py", "table.py")}
    if takes_text(artifact.inputs):
        files["text.py"] = ONDEVICE / "text.py"
    if heads.complete(artifact.signature.outputs):
        files["detections.py"] = ONDEVICE / "detections.py"
    files |= {"runner.py": RUNNER, f"runtime/{source.name}": source}
    if artifact.states:
        files["state.py"] = ONDEVICE / "state.py"
    takes_one = not (artifact.states or takes_text(artifact.inputs))  # as the examples do
    for suffix in (".py", ".c") if takes_one else ():
        example = ONDEVICE / "examples" / f"{runtime}{suffix}"
        if example.is_file():
            files[f"example{suffix}"] = example
    if "example.c" in files:
        files |= {"preprocess.h": ONDEVICE / "native" / "preprocess.h", "image.h": ONDEVICE / "examples" / "image.h"}
    return files


def _save_npz(arrays: Mapping[str, NDArray[Any]], path: Path) -> Path:
    """Write a .npz; numpy writes no time into it, so the same arrays give the same file."""
    with os_errors("write", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **{name: np.asarray(array) for name, array in arrays.items()})  # type: ignore[arg-type]
    return path


def _write_text(text: str, path: Path) -> Path:
    with os_errors("write", path):
        path.write_text(text, encoding="utf-8")
    return path


#: how to build the C example of a runtime
BUILD = {
    "onnxruntime": """\
The header is in Debian's libonnxruntime-dev (13 and later) and in releases of ONNX Runtime; the library is in both,
and in the Python package (copy onnxruntime/capi/libonnxruntime.so.VERSION to libonnxruntime.so.1):

    cc -O2 -ffp-contract=off -I/usr/include/onnxruntime example.c -o example -lonnxruntime -lm

ONNX Runtime 1.32 records its use in ~/.cache/Microsoft unless the environment has ORT_DISABLE_TELEMETRY=1.""",
    "litert": """\
Build the library from the sources of TensorFlow or LiteRT (target //tensorflow/lite/c:tensorflowlite_c); the Python
package has no library with this interface:

    cc -O2 -ffp-contract=off example.c -o example -ltensorflowlite_c -lm""",
}


def _readme(manifest: Mapping[str, Any], c: bool) -> str:
    inputs, outputs = (", ".join(map(_tensor, manifest[edge])) for edge in ("inputs", "outputs"))
    text = manifest["preprocessing"]["kind"] == "text"
    parts = [
        f"# {inert(manifest['artifact'])}",
        f"{manifest['format']}, {manifest['precision']}, for {manifest['runtime']}. "
        f"Inputs: {inputs}. Outputs: {outputs}.",
        f"It requires numpy{', `tokenizers`' * text} and `{manifest['package']}`. If `edgekit deploy` installed it, "
        "`./run` starts it with the right Python; otherwise use `python3 predict.py`.",
        f"{_usage(manifest)}"
        "    ./run --json INPUT     the same as JSON, with every output (of a detector, its boxes)\n"
        "    ./run --check          compare the outputs with those of the machine that made this bundle",
        "`manifest.json` holds the input preprocessing, the names of the classes, and each file's sha256; "
        "`sbom.cdx.json` is the bill of materials (CycloneDX).",
        _examples(manifest, c) if not manifest["states"] else "`state.py` keeps the model's states between calls.",
    ]
    if c:
        parts.append(BUILD[manifest["runtime"]])
    return "\n\n".join(filter(None, parts)) + "\n"


def _usage(manifest: Mapping[str, Any]) -> str:
    """What the program makes of an input, and what an input is."""
    text = '"A TEXT"' if manifest["preprocessing"]["kind"] == "text" else "INPUT   "
    what = "the prediction (.npy, .npz, and images, sounds or tables if the model takes them)"
    if manifest["states"]:
        what = "the text that follows a prompt (or a .txt file with a prompt per line, .npy); --new-tokens N"
    elif manifest["preprocessing"]["kind"] == "text":
        what = "the prediction (or a .txt file with a text per line, .npy, .npz)"
    return f"    ./run {text}         {what}\n"


def _examples(manifest: Mapping[str, Any], c: bool) -> str:
    """What the example programs are, and what they read."""
    if manifest["preprocessing"]["kind"] == "text":
        parts = {"": "token ids", "mask": "their mask", "segments": "their segments"}
        takes = ", ".join(f"`{name}`: {parts[part]}" for name, part in manifest["preprocessing"]["parts"].items())
        return (
            "`text.py` makes tokens of a text; `predict.py` shows how the model is run. A program in C gives the model "
            f"token ids by itself ({takes}): there is no tokenizer in C here."
        )
    images = not image_problem(manifest["preprocessing"])
    text = "`example.py` is a minimal program in Python"
    text += ": `python3 example.py PHOTO` prints the outputs and, of class scores, the best class." if images else "."
    if not c:
        return text
    text += " `example.c` is the same in C"
    if not images:
        return f"{text}; it reads the raw values of an input."
    return (
        f"{text}: `./example PHOTO.ppm` prints the best classes as `./run` does, and `./example --values PHOTO.ppm` "
        "prints the first output. It reads .ppm and .pgm images of 8 bits, and the raw values of an input. "
        "`preprocess.h` has no dependencies; `preprocessing.h` holds this model's constants and class names."
    )


def _tensor(spec: Mapping[str, Any]) -> str:
    name = printable(spec["name"]).replace("`", "'")
    return f"`{name}` ({spec['dtype']}, {_sizes(spec['shape'])})"


def _sizes(shape: Any) -> str:
    return " x ".join("?" if size is None else str(size) for size in shape) or "a scalar"
