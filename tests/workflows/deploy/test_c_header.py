"""A bundle's programs on image files: in C and in Python, they answer as `predict.py` does."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from workflows.deploy.test_deploy import header

from edgekit.core.artifact import Artifact
from edgekit.core.printable import printable
from edgekit.core.signature import InputSignature, OutputSignature, Resize
from edgekit.measure import targets
from edgekit.ondevice import predict, preprocess
from edgekit.runs.store import Store
from edgekit.tasks.shared.cutouts import PACKAGE, STAMPS
from edgekit.workflows import export, import_, setup
from edgekit.workflows.deploy import bundle
from edgekit.workflows.deploy.c_header import c_float, c_string, preprocessing_header

NATIVE = Path(preprocess.__file__).parent / "native"

NET = """
import torch
from torch import nn


def make():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 5, 2), nn.ReLU(), nn.Conv2d(16, 6, 5, 2))
    for parameter in net.parameters():
        parameter.data *= 3
    return nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten()), torch.zeros(1, 3, 32, 24)
"""

CLASSES = ('"quoted"', "back\\slash", "??/ 7", "größe", "two\nlines", "100%d; system()")

PHOTO = InputSignature("image", layout="NCHW", colour="RGB", scale=1 / 255)
NORMALIZED = replace(PHOTO, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
WHOLE = (32, 24)
SIGNATURES = {
    "stretch": replace(NORMALIZED, resize=Resize("stretch", WHOLE)),
    "shortest": replace(NORMALIZED, resize=Resize("shortest", 36), crop=WHOLE, interpolation="bicubic"),
    "shortest, crop down": replace(NORMALIZED, resize=Resize("shortest", 37), crop=WHOLE, crop_offset="down"),
    "letterbox": replace(PHOTO, resize=Resize("letterbox", WHOLE, 114.0)),
    "letterbox in the corner": replace(PHOTO, resize=Resize("letterbox-corner", WHOLE, 114.0)),
    "crop": replace(NORMALIZED, crop=WHOLE),
    "none": replace(NORMALIZED, mean=(0.5,), std=(0.25,)),
    "raw levels": InputSignature("image", colour="RGB", resize=Resize("stretch", WHOLE)),
    "blue first": replace(NORMALIZED, colour="BGR", resize=Resize("stretch", WHOLE)),
    "gray": replace(PHOTO, colour="gray", resize=Resize("stretch", WHOLE), interpolation="lanczos"),
    "without antialias": replace(PHOTO, resize=Resize("stretch", WHOLE), antialias=False),
}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("network")
    (folder / "net.py").write_text(NET)
    import_.import_model(f"{folder}/net.py:make", out=folder / "run")
    export.export(str(folder / "run"), to=["onnx", "tflite", "openvino"])
    return Store(folder / "run").get("onnx")


def signed(artifact: Artifact, signature: InputSignature) -> Artifact:
    inputs = (replace(artifact.inputs[0], signature=signature),)
    outputs = (replace(artifact.outputs[0], signature=OutputSignature("logits", classes=CLASSES)),)
    return replace(artifact, inputs=inputs, outputs=outputs)


def bundle_of(artifact: Artifact, folder: Path, runtime: str = "onnxruntime") -> Path:
    host = targets.load("host")
    samples = setup.random_inputs(Store(artifact.path.parent), artifact)
    made = bundle.make(artifact, runtime, samples, host, host, folder)
    bundle.write(made, folder / "bundle")
    return folder / "bundle"


def compiled(folder: Path) -> Path:
    """The bundle's example.c, built against the header of a package, linked to the library of the Python package."""
    compiler, include = shutil.which("gcc") or pytest.skip("no C compiler"), header()
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    (folder / "libonnxruntime.so.1").symlink_to(library)
    flags = ["-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", f"-I{include}"]
    command = [compiler, *flags, "example.c", "-o", "example", "./libonnxruntime.so.1", f"-Wl,-rpath,{folder}", "-lm"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "example"


def run(program: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """From the bundle's folder."""
    quiet = {"ORT_DISABLE_TELEMETRY": "1"}
    return subprocess.run(
        [program, *map(str, words)], cwd=program.parent, env=quiet, capture_output=True, encoding="utf-8"
    )


def predicted(folder: Path, photos: Sequence[Path]) -> tuple[list[Any], list[str]]:
    """predict.py's outputs and sentences."""
    command = [sys.executable, "predict.py"]
    as_json = subprocess.run([*command, "--json", *photos], cwd=folder, check=True, capture_output=True, text=True)
    entries = [json.loads(line) for line in as_json.stdout.splitlines()]
    return [next(iter(entry["outputs"].values())) for entry in entries], [printable(entry["text"]) for entry in entries]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Wide, tall, gray, and smaller than the input."""
    stamps = [path for name in ("animals", "food", "town") for path in sorted((STAMPS / name).rglob("*.png"))[:3]]
    if not stamps:
        pytest.skip(f"needs photographs: sudo apt install {PACKAGE}")
    folder = tmp_path_factory.mktemp("photos")
    images = [Image.open(path).convert("RGB") for path in stamps]
    images += [images[0].convert("L"), images[1].crop((0, 0, 90, 41)), images[2].resize((19, 50))]
    paths = [folder / f"{index:02}.{'pgm' if image.mode == 'L' else 'ppm'}" for index, image in enumerate(images)]
    for path, image in zip(paths, images, strict=True):
        image.save(path)
    return paths


@pytest.mark.parametrize("case", SIGNATURES)
def test_the_c_program_answers_as_predict(case: str, network: Artifact, photos: list[Path], tmp_path: Path) -> None:
    folder = bundle_of(signed(network, SIGNATURES[case]), tmp_path)
    program = compiled(folder)
    outputs, texts = predicted(folder, photos)
    for photo, output, text in zip(photos, outputs, texts, strict=True):
        values = run(program, "--values", "model/model.onnx", photo)
        assert values.returncode == 0, values.stderr
        got = np.array(values.stdout.split(), np.float32)
        np.testing.assert_allclose(got, output, atol=1e-5 * np.abs(output).max(), rtol=1e-5)
        assert run(program, photo).stdout == f"{photo}: {text}\n"
    assert len({tuple(np.round(output, 4)) for output in outputs}) >= len(photos) - 1, "one is another one in gray"


def test_it_refuses_what_is_no_image(network: Artifact, photos: list[Path], tmp_path: Path) -> None:
    program = compiled(bundle_of(signed(network, SIGNATURES["stretch"]), tmp_path))
    (tmp_path / "text.ppm").write_text("text")
    (tmp_path / "short.ppm").write_bytes(photos[0].read_bytes()[:-1])
    for name, why in (("text", "8 bits"), ("short", "truncated"), ("none", "cannot be opened")):
        ended = run(program, tmp_path / f"{name}.ppm")
        assert ended.returncode == 2 and why in ended.stderr and len(ended.stderr.splitlines()) == 1
    assert run(program).returncode == 2


def test_a_bundle_without_image_preprocessing_takes_raw_values(
    network: Artifact, photos: list[Path], tmp_path: Path
) -> None:
    folder = bundle_of(signed(network, InputSignature("tensor", range=(0.0, 1.0))), tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "preprocessing.h").write_text(preprocessing_header({"kind": "audio"}, manifest["labels"]))
    program = compiled(folder)
    ended = run(program, photos[0])
    assert ended.returncode == 2 and "takes sounds, which only predict.py reads" in ended.stderr
    inputs, outputs = (np.load(folder / "check" / f"{part}.npz") for part in ("inputs", "outputs"))
    next(iter(inputs.values()))[:1].astype(np.float32).tofile(tmp_path / "input.bin")
    expected = next(iter(outputs.values()))[0]
    got = np.array(run(program, tmp_path / "input.bin").stdout.split(), np.float32)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_an_assumed_preprocessing_is_said(network: Artifact, photos: list[Path], tmp_path: Path) -> None:
    unsigned = replace(signed(network, PHOTO), task="", inputs=(replace(network.inputs[0], signature=None),))
    folder = bundle_of(unsigned, tmp_path)
    ended = run(compiled(folder), "--values", photos[0])
    assert ended.returncode == 0 and "preprocessing is not known" in ended.stderr
    np.testing.assert_allclose(
        np.array(ended.stdout.split(), np.float32), predicted(folder, photos[:1])[0][0], rtol=1e-5, atol=1e-4
    )


@pytest.mark.parametrize(("format", "runtime"), [("onnx", "onnxruntime"), ("tflite", "litert"), ("openvino",) * 2])
def test_the_python_example_reads_images(
    format: str, runtime: str, network: Artifact, photos: list[Path], tmp_path: Path
) -> None:
    artifact = Store(network.path.parent).get(format)
    folder = bundle_of(signed(artifact, SIGNATURES["shortest"]), tmp_path, runtime)
    (output,), _ = predicted(folder, photos[:1])
    ended = subprocess.run([sys.executable, folder / "example.py", photos[0]], capture_output=True, encoding="utf-8")
    assert ended.returncode == 0, ended.stderr
    values, _, name = ended.stdout.partition("]]\n")
    values = values.rpartition("[[")[2]
    np.testing.assert_allclose(np.array(values.split(), float), output, rtol=1e-4, atol=1e-4)
    assert name == f"{CLASSES[int(np.argmax(output))]}\n"


def test_the_readme_says_what_the_programs_read(network: Artifact, tmp_path: Path) -> None:
    (tmp_path / "photo").mkdir()
    (tmp_path / "array").mkdir()
    photo = bundle_of(signed(network, PHOTO), tmp_path / "photo")
    array = bundle_of(signed(network, InputSignature("text")), tmp_path / "array")
    assert "./example PHOTO.ppm" in (photo / "README.md").read_text()
    assert "PHOTO" not in (array / "README.md").read_text()
    assert {"preprocess.h", "preprocessing.h", "image.h"} <= set(
        json.loads((photo / "manifest.json").read_text())["files"]
    )


def test_the_header_holds_no_text_as_code(tmp_path: Path) -> None:
    names = (*CLASSES, '");}', "*/ #error", "\\0", "x" * 300, "\x1b[31m", "日本")
    record = {"kind": "image", "colour": "RGB", "channels": 3, "input": '*/ "', "scale": 1e-30, "mean": [1.0]}
    (tmp_path / "preprocessing.h").write_text(preprocessing_header(record, names))
    assert (tmp_path / "preprocessing.h").read_text().isascii()
    (tmp_path / "main.c").write_text(
        '#include "preprocessing.h"\n'
        "int main(void) { for (int i = 0; i < CLASS_COUNT; i++) fwrite(CLASSES[i], 1, strlen(CLASSES[i]) + 1, stdout);"
        "return *IMAGE_PROBLEM || *IMAGE_WARNING || preprocessing().channels != 3 || preprocessing().scale != 1e-30f; }"
    )
    compiler = shutil.which("gcc") or pytest.skip("no C compiler")
    command = [compiler, "-trigraphs", f"-I{NATIVE}", "main.c", "-o", "main", "-lm"]
    subprocess.run(command, cwd=tmp_path, check=True)
    ended = subprocess.run([tmp_path / "main"], capture_output=True, check=True)
    assert tuple(ended.stdout.decode().split("\0")[:-1]) == tuple(map(printable, names)), "a terminal is not steered"


def test_names_are_inert_in_the_readme() -> None:
    edge = [{"name": "x`\n# [y](javascript:z)\x1b[31m", "dtype": "float32", "shape": (None, 3)}]
    manifest = {
        "artifact": "<img src=x>[a](javascript:b)",
        **dict.fromkeys(("format", "precision", "runtime", "package"), "w"),
        "inputs": edge,
        "outputs": edge,
        "preprocessing": {"kind": "tensor"},
        "states": {},
    }
    text = bundle._readme(manifest, c=False)
    assert text.startswith("# &lt;img src=x>\\[a\\](javascript:b)\n")
    assert "`x'\ufffd# [y](javascript:z)\ufffd[31m` (float32, ? x 3)" in text


def test_the_bundles_program_prints_no_escape_codes() -> None:
    assert predict.printable("Größe \x1b[31m\u202e\n") == "Größe ?[31m??"


def test_constants() -> None:
    assert c_float(1 / 255) == "0.00392156886f" and c_float(2) == "2.0f"
    assert c_string('a"\\?\n7ü') == r'"a\042\134\077\0127\303\274"'
