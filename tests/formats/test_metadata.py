"""Signatures in files' metadata: edgekit reads what it wrote, other tools read it, and it reads theirs."""

from __future__ import annotations

import dataclasses
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outside import outside

from edgekit.core import registry
from edgekit.core.artifact import TensorSpec
from edgekit.core.signature import InputSignature, OutputSignature, Resize, Signature
from edgekit.core.signature_check import signed

SIDE = 8
CLASSES = ("cat", "big bird", "ä, \"'&<>\\", "{0: 'x'}")
IMAGE = InputSignature(
    "image",
    layout="NCHW",
    colour="RGB",
    resize=Resize("shortest", 12),
    crop=SIDE,
    scale=1 / 255,
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)
MEANING = OutputSignature("logits", classes=CLASSES)


def onnx_model(path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, real = onnx.helper, onnx.TensorProto.FLOAT
    weight = onnx.numpy_helper.from_array(_weight(), "w")
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    ends = [helper.make_tensor_value_info(*end) for end in (("x", real, [1, 3, SIDE, SIDE]), ("y", real, [1, 4]))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


def tflite_model(path: Path) -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    from formats.test_tflite import Written

    from edgekit.formats.tflite import packed

    written = Written()
    x = written.tensor("x", (1, 3, SIDE, SIDE))
    shape = written.tensor("shape", (2,), 2, np.int32([1, 3 * SIDE * SIDE]))
    flat, weight = written.tensor("f", (1, 3 * SIDE * SIDE)), written.tensor("w", (4, 3 * SIDE * SIDE), 0, _weight().T)
    y = written.tensor("y", (1, 4))
    written.operator(schema.BuiltinOperator.RESHAPE, [x, shape], [flat])
    written.operator(schema.BuiltinOperator.FULLY_CONNECTED, [flat, weight, -1], [y])
    written.graph.operators[1].builtinOptions = schema.FullyConnectedOptionsT()
    written.graph.operators[1].builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    written.graph.inputs, written.graph.outputs = [x], [y]
    written.metadata("kept", b"as it is")
    path.write_bytes(packed(written.model))


def openvino_model(path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as ops

    x = ops.parameter([1, 3, SIDE, SIDE], np.float32, name="x")
    y = ops.matmul(ops.reshape(x, [1, -1], special_zero=False), ops.constant(_weight()), False, False)
    x.output(0).set_names({"x"})
    y.output(0).set_names({"y"})
    openvino.save_model(openvino.Model([y], [x], "m"), str(path), compress_to_fp16=False)


def _weight() -> Any:
    return np.random.default_rng(0).standard_normal((3 * SIDE * SIDE, 4)).astype(np.float32)


def onnx_outputs(path: Path, x: Any) -> Any:
    return pytest.importorskip("onnxruntime").InferenceSession(str(path)).run(None, {"x": x})[0]


def tflite_outputs(path: Path, x: Any) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def openvino_outputs(path: Path, x: Any) -> Any:
    import openvino

    return openvino.compile_model(str(path), "CPU")(x)[0]


FORMATS: Mapping[str, tuple[Callable[[Path], None], Callable[[Path, Any], Any]]] = {
    "onnx": (onnx_model, onnx_outputs),
    "tflite": (tflite_model, tflite_outputs),
    "openvino": (openvino_model, openvino_outputs),
}


@pytest.fixture(scope="module", params=FORMATS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A format, and a model of it; its tests may sign it, and sign it again."""
    path = tmp_path_factory.mktemp(request.param) / registry.load("formats", request.param).file
    FORMATS[request.param][0](path)
    return request.param, path


def made(format: str, folder: Path) -> Path:
    path = folder / str(registry.load("formats", format).file)
    FORMATS[format][0](path)
    return path


def sign(format: str, path: Path, signature: Signature) -> None:
    member = registry.load("formats", format)
    facts = member.describe(path)
    member.sign(path, *signed(facts.inputs, facts.outputs, signature))


def carried(format: str, path: Path) -> tuple[Signature, str]:
    member = registry.load("formats", format)
    facts = member.describe(path)
    result: tuple[Signature, str] = member.signature(path, facts.inputs, facts.outputs)
    return result


words = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1, max_size=8)
numbers = st.floats(0.01, 300).map(lambda value: round(value, 4))
resizes = st.one_of(
    st.builds(Resize, st.just("shortest"), st.integers(1, 99)),
    st.just(Resize("stretch", SIDE)),
    st.builds(Resize, st.just("letterbox"), st.just((SIDE, SIDE)), st.floats(0, 255).map(round)),
)
images = st.builds(
    InputSignature,
    kind=st.just("image"),
    layout=st.just("NCHW"),
    colour=st.sampled_from(["RGB", "BGR"]),
    exif=st.booleans(),
    resize=resizes,
    crop=st.just(SIDE),
    interpolation=st.sampled_from(["bilinear", "bicubic", "nearest"]),
    antialias=st.booleans(),
    scale=st.sampled_from([1.0, 1 / 255]),
    mean=st.one_of(st.just(()), st.tuples(numbers), st.tuples(numbers, numbers, numbers)),
    std=st.one_of(st.just(()), st.tuples(numbers), st.tuples(numbers, numbers, numbers)),
).filter(lambda record: not list(record.problems()))
meanings = st.builds(
    OutputSignature,
    kind=st.sampled_from(["", "logits", "probabilities"]),
    classes=st.one_of(st.just(()), st.lists(words, min_size=4, max_size=4, unique=True).map(tuple)),
)


@given(image=images, meaning=meanings)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(model: tuple[str, Path], image: InputSignature, meaning: OutputSignature) -> None:
    """Again and again into the same file: what was there is replaced."""
    format, path = model
    signature = Signature((image,), (meaning,))
    sign(format, path, signature)
    assert carried(format, path) == (signature, "edgekit's metadata")


def test_the_model_computes_the_same(model: tuple[str, Path], tmp_path: Path) -> None:
    format, _ = model
    path = made(format, tmp_path)
    x = np.random.default_rng(1).standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)
    member, before = registry.load("formats", format), FORMATS[format][1](path, x)
    facts = member.describe(path)
    sign(format, path, Signature((IMAGE,), (MEANING,)))
    assert np.array_equal(FORMATS[format][1](path, x), before)
    after = member.describe(path)
    assert (after.inputs, after.outputs, after.operators) == (facts.inputs, facts.outputs, facts.operators)
    assert after.sizes.metadata > facts.sizes.metadata and after.sizes.weights == facts.sizes.weights
    first = path.read_bytes()
    sign(format, path, Signature((IMAGE,), (MEANING,)))
    assert path.read_bytes() == first


def test_nothing_is_known_of_other_files(model: tuple[str, Path], tmp_path: Path) -> None:
    assert carried(model[0], made(model[0], tmp_path)) == (Signature(), "")


def test_only_signed_models_are_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nothing is known about keeps its bytes; so does an imported file, whatever is known about it."""
    torch = pytest.importorskip("torch")
    from edgekit.workflows import export, import_

    (tmp_path / "net.py").write_text(
        "import torch\n\n\ndef make():\n    return torch.nn.Linear(3, 4), torch.zeros(1, 3)\n"
    )
    (tmp_path / "sig.toml").write_text('[[output]]\nkind = "logits"\n')
    monkeypatch.chdir(tmp_path)
    signed_files: list[Path] = []
    member = registry.load("formats", "onnx")
    monkeypatch.setattr(member, "sign", staticmethod(lambda path, *specs: signed_files.append(path)))
    assert torch
    for signature, count in (("", 0), ("sig.toml", 1)):
        import_.import_model("net.py:make", signature=signature, out=Path("run"))
        artifact = export.export("run/torch", to=["onnx"], out=Path("run")).artifacts[-1]
        assert len(signed_files) == count and bool(artifact.signature) == bool(count)
    import_.import_model("run/onnx/model.onnx", signature="sig.toml", out=Path("other"))
    assert len(signed_files) == 1


# --- ONNX --------------------------------------------------------------------------------------------------------


def with_props(path: Path, **props: str) -> Path:
    onnx = pytest.importorskip("onnx")
    onnx_model(path)
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, props)
    onnx.save(model, str(path))
    return path


def test_ultralytics(tmp_path: Path) -> None:
    """As its exporter writes it: Python literals as text."""
    names = "{0: 'person', 1: 'bicycle', 2: 'car', 3: 'bus'}"
    props = {"author": "Ultralytics", "names": names, "imgsz": f"[{SIDE}, {SIDE}]"}
    signature, source = carried("onnx", with_props(tmp_path / "a.onnx", **props, task="detect"))
    assert source == "Ultralytics' metadata"
    letterbox = Resize("letterbox", SIDE, 114.0)
    assert signature.inputs == (
        InputSignature("image", colour="RGB", exif=True, resize=letterbox, antialias=False, scale=1 / 255),
    )
    assert signature.outputs == (OutputSignature("boxes", classes=("person", "bicycle", "car", "bus"), boxes="cxcywh"),)
    ended = carried("onnx", with_props(tmp_path / "c.onnx", **props, task="detect", args="{'nms': True}"))[0]
    assert ended.outputs[0].boxes == "xyxy"
    signature, _ = carried("onnx", with_props(tmp_path / "b.onnx", **props, task="classify"))
    assert signature.inputs[0].crop == SIDE and signature.outputs[0].kind == "probabilities"


@pytest.mark.parametrize("names", ["", "{", "__import__('os')", "{1: 'a'}", "['a']", "{}", "(" * 9999])
def test_names_that_are_none(names: str, tmp_path: Path) -> None:
    assert carried("onnx", with_props(tmp_path / "a.onnx", names=names)) == (Signature(), "")


def test_onnx_has_the_names_that_others_read(tmp_path: Path) -> None:
    path = made("onnx", tmp_path)
    sign("onnx", path, Signature((IMAGE,), (MEANING,)))
    import ast

    import onnxruntime

    props = onnxruntime.InferenceSession(str(path)).get_modelmeta().custom_metadata_map
    assert ast.literal_eval(props.pop("names")) == dict(enumerate(CLASSES))
    assert set(props) == {"edgekit.signature"}
    unnamed = with_props(tmp_path / "a.onnx", names=str(dict(enumerate("abcd"))), **{"edgekit.signature": "[]"})
    assert carried("onnx", unnamed)[0].classes == ("a", "b", "c", "d")


# --- TFLite ------------------------------------------------------------------------------------------------------


def test_tflite_support_reads_it(tmp_path: Path) -> None:
    """Google's own reader, on what edgekit wrote."""
    metadata = outside("tensorflow_lite_support.metadata.python.metadata", "tflite-support")
    import json

    path = made("tflite", tmp_path)
    sign("tflite", path, Signature((IMAGE,), (MEANING,)))
    displayer = metadata.MetadataDisplayer.with_model_file(str(path))
    assert displayer.get_packed_associated_file_list() == ["labels.txt"]
    assert displayer.get_associated_file_buffer("labels.txt").decode().splitlines() == list(CLASSES)
    (graph,) = json.loads(displayer.get_metadata_json())["subgraph_metadata"]
    (image,), (output,) = graph["input_tensor_metadata"], graph["output_tensor_metadata"]
    assert (image["name"], image["content"]["content_properties"]["color_space"]) == ("x", "RGB")
    options = image["process_units"][0]["options"]
    assert np.allclose(options["mean"], [123.675, 116.28, 103.53])
    assert np.allclose(options["std"], [58.395, 57.12, 57.375])
    assert output["associated_files"] == [{"name": "labels.txt", "type": "TENSOR_AXIS_LABELS"}]


def test_what_tflite_support_writes_is_read(tmp_path: Path) -> None:
    writer = outside("tensorflow_lite_support.metadata.python.metadata_writers.image_classifier", "tflite-support")
    utils = outside("tensorflow_lite_support.metadata.python.metadata_writers.writer_utils", "tflite-support")
    path = tmp_path / "model.tflite"
    tflite_model(path)
    (tmp_path / "labels.txt").write_text("a\nb\nb\nc\n")
    info = writer.MetadataWriter.create_for_inference(
        utils.load_file(str(path)), [127.5], [127.5], [str(tmp_path / "labels.txt")]
    )
    path.write_bytes(info.populate())
    signature, source = carried("tflite", path)
    assert source == "its TFLite Metadata"
    assert signature.classes == ("a", "b", "b (2)", "c")
    assert (signature.inputs[0].mean, signature.inputs[0].std) == ((127.5,), (127.5,))
    assert (signature.inputs[0].colour, signature.inputs[0].resize) == ("RGB", Resize("stretch", SIDE))


def test_google_metadata_alone(tmp_path: Path) -> None:
    """Without edgekit's entry: what Google's format can hold, without another tool."""
    from edgekit.formats.shared import tflite_metadata as tflite

    path = made("tflite", tmp_path)
    facts = registry.load("formats", "tflite").describe(path)
    inputs, outputs = signed(facts.inputs, facts.outputs, Signature((IMAGE,), (MEANING,)))
    tflite.append_labels(path, outputs)
    entries = {tflite.METADATA: tflite.entries(inputs, outputs)[tflite.METADATA]}
    signature, _ = tflite.read(entries, path, inputs, outputs)
    assert signature.classes == CLASSES
    assert np.allclose(signature.inputs[0].mean, np.array(IMAGE.mean) * 255)
    audio = (TensorSpec("x", "float32", (1, 16000), signature=InputSignature("audio", rate=16000, seconds=1.0)),)
    signature, _ = tflite.read({tflite.METADATA: tflite.entries(audio, ())[tflite.METADATA]}, path, audio, ())
    assert signature.inputs == (InputSignature("audio", rate=16000),)


@given(data=st.binary(max_size=200), at=st.integers(0, 400))
@settings(max_examples=100, deadline=None)
def test_damaged_google_metadata_say_nothing(data: bytes, at: int) -> None:
    """No crash, whatever is in them."""
    from edgekit.formats.shared import tflite_metadata as tflite

    specs = (TensorSpec("x", "float32", (1, 3, SIDE, SIDE), signature=IMAGE),)
    whole = tflite.entries(specs, ())[tflite.METADATA]
    for buffer in (data, whole[:at] + data, whole[:4] + b"M001" + data):
        tflite.read({tflite.METADATA: buffer}, Path("absent"), specs, specs)


def test_several_outputs_have_a_file_each(tmp_path: Path) -> None:
    from edgekit.formats.shared import tflite_metadata as tflite

    outputs = tuple(TensorSpec(name, "float32", (1, 4), signature=MEANING) for name in "ab")
    path = tmp_path / "model"
    path.write_bytes(b"model")
    tflite.append_labels(path, outputs)
    with zipfile.ZipFile(io.BytesIO(path.read_bytes())) as archive:
        assert archive.namelist() == ["labels_0.txt", "labels_1.txt"]
    assert path.read_bytes().startswith(b"model")
    assert tflite.appended_bytes(path) == path.stat().st_size - len(b"model")


# --- OpenVINO ----------------------------------------------------------------------------------------------------


def test_model_api_reads_it(tmp_path: Path) -> None:
    """OpenVINO's own wrapper, without any configuration."""
    models = outside("model_api.models", "openvino-model-api opencv-python-headless")
    path = made("openvino", tmp_path)
    sign("openvino", path, Signature((IMAGE,), (MEANING,)))
    classifier = models.Model.create_model(str(path), device="CPU")
    assert type(classifier).__name__ == "ClassificationModel"
    assert classifier.params.labels == ["cat", "big_bird", "ä,_\"'&<>\\", "{0:_'x'}"]
    assert np.allclose(classifier.params.mean_values, np.array(IMAGE.mean) * 255)
    assert np.allclose(classifier.params.scale_values, np.array(IMAGE.std) * 255)
    assert (classifier.params.resize_type, classifier.params.reverse_input_channels) == ("crop", True)
    assert classifier(np.zeros((30, 20, 3), np.uint8)).top_labels


def with_info(path: Path, **info: str) -> Path:
    openvino = pytest.importorskip("openvino")
    openvino_model(path)
    model = openvino.Core().read_model(str(path))
    for name, value in info.items():
        model.set_rt_info(value, ["model_info", name])
    path = path.with_name("b.xml")
    openvino.save_model(model, str(path), compress_to_fp16=False)
    return path


def test_model_info(tmp_path: Path) -> None:
    info = {"model_type": "Classification", "labels": "a b c d", "mean_values": "123.675 116.28 103.53"}
    info |= {"scale_values": "58.395 57.12 57.375", "reverse_input_channels": "YES"}
    signature, source = carried("openvino", with_info(tmp_path / "a.xml", **info))
    assert source == "OpenVINO's model_info"
    expected = InputSignature(
        "image",
        colour="RGB",
        resize=Resize("stretch", SIDE),
        antialias=False,
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
    )
    assert signature == Signature((expected,), (OutputSignature(classes=("a", "b", "c", "d")),))


@pytest.mark.parametrize(
    ("info", "record"),
    [
        ({"resize_type": "crop"}, {"resize": Resize("shortest", SIDE), "crop": SIDE}),
        ({"resize_type": "fit_to_window_letterbox", "pad_value": "114"}, {"resize": Resize("letterbox", SIDE, 114.0)}),
        ({"intensity_mode": "scale_to_unit"}, {"scale": 1 / 255}),
        ({"resize_type": "fit_to_window"}, None),
        ({"embedded_processing": "True"}, None),
        ({"intensity_mode": "window"}, None),
        ({"input_dtype": "u16"}, None),
    ],
)
def test_what_model_info_may_say(info: dict[str, str], record: dict[str, Any] | None, tmp_path: Path) -> None:
    """What a signature cannot express is left out, and the classes are known all the same."""
    signature, _ = carried("openvino", with_info(tmp_path / "a.xml", labels="a b c d", **info))
    assert signature.classes == ("a", "b", "c", "d")
    known = [{key: getattr(image, key) for key in record or {}} for image in signature.inputs]
    assert known == ([record] if record else [])


def test_openvino_knows_edgekits_entry(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    path = made("openvino", tmp_path)
    sign("openvino", path, Signature((dataclasses.replace(IMAGE, colour="BGR"),), (MEANING,)))
    model = openvino.Core().read_model(str(path))
    assert "big bird" in model.get_rt_info(["edgekit", "signature"]).astype(str)
    assert model.get_rt_info(["model_info", "reverse_input_channels"]).astype(str) == "False"
