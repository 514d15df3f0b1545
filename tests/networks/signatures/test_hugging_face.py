"""Hugging Face's image processors, as objects and as files; what they do to a picture is what the signature says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgekit.core.artifact import TensorSpec
from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature, OutputSignature, Resize
from edgekit.networks import signatures
from edgekit.networks.signatures import hugging_face

pytestmark = pytest.mark.usefixtures("own_code")

VIT: dict[str, Any] = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
HALF = (0.5, 0.5, 0.5)
RECORD = InputSignature(
    "image", colour="RGB", exif=True, resize=Resize("stretch", 224), scale=1 / 255, mean=HALF, std=HALF
)


def written(folder: Path, values: dict[str, Any], config: dict[str, Any] | None = None) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(values))
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder / "preprocessor_config.json"


def test_files(tmp_path: Path) -> None:
    path = written(tmp_path, VIT)
    assert signatures.read(str(path)).inputs == signatures.read(str(tmp_path)).inputs == (RECORD,)
    config = {"architectures": ["ViTForImageClassification"], "id2label": {"1": "dog", "0": "cat"}}
    written(tmp_path, VIT, config)
    assert signatures.read(str(tmp_path)).outputs == (OutputSignature("logits", classes=("cat", "dog")),)
    written(tmp_path, VIT, {**config, "id2label": {"0": "LABEL_0", "1": "LABEL_1"}})
    assert signatures.read(str(tmp_path)).classes == ()


@pytest.mark.parametrize(
    ("change", "config"),
    [
        ({"rescale_factor": "x"}, {}),
        ({"size": {"shortest_edge": []}}, {}),
        ({"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 9}, "crop_pct": "x"}, {}),
        ({}, {"id2label": {"a": "cat"}}),
        ({}, {"architectures": 3}),
    ],
)
def test_files_of_wrong_types(change: dict[str, Any], config: dict[str, Any], tmp_path: Path) -> None:
    known = {"architectures": ["ViTForImageClassification"], "id2label": {"0": "cat"}}
    written(tmp_path, {**VIT, **change}, {**known, **config})
    with pytest.raises(InputError, match=str(tmp_path)):
        signatures.read(str(tmp_path))


@pytest.mark.parametrize(
    ("change", "record"),
    [
        ({"size": 224}, {"resize": Resize("stretch", 224)}),
        ({"do_resize": False}, {"resize": None}),
        ({"do_rescale": False, "do_normalize": False}, {"scale": 1.0, "mean": (), "std": ()}),
        (
            {"image_processor_type": "CLIPImageProcessor", "size": 240, "crop_size": 224, "resample": 3},
            {"resize": Resize("shortest", 240), "crop": 224, "crop_offset": "down", "interpolation": "bicubic"},
        ),
        (
            {"image_processor_type": "ConvNextImageProcessorFast", "size": {"shortest_edge": 224}, "crop_pct": 0.875},
            {"resize": Resize("shortest", 256), "crop": 224, "crop_offset": "down"},
        ),
        (
            {"image_processor_type": "ConvNextFeatureExtractor", "size": {"shortest_edge": 384}},
            {"resize": Resize("stretch", 384), "crop": None},
        ),
        ({"do_flip_channel_order": True}, {"colour": "BGR"}),
    ],
)
def test_what_processors_differ_in(change: dict[str, Any], record: dict[str, Any], tmp_path: Path) -> None:
    signature = hugging_face.of_files(written(tmp_path, {**VIT, **change}))
    assert {key: getattr(signature.inputs[0], key) for key in record} == record


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_processor_type": "DetrImageProcessor"}, "DetrImageProcessor cannot be expressed: edgekit knows"),
        ({"image_processor_type": ""}, "names no image processor"),
        ({"do_pad": True}, "it pads images"),
        ({"size": {"shortest_edge": 800, "longest_edge": 1333}}, "its size is"),
        ({"size": None}, "its size is None"),
        ({"resample": 9}, "its resample is 9"),
        ({"image_mean": "x"}, "its image_mean is 'x'"),
        ({"do_center_crop": True}, "its crop_size is None"),
    ],
)
def test_what_cannot_be_expressed_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        hugging_face.of_files(written(tmp_path, {**VIT, **change}))
    assert said in str(caught.value) and caught.value.next


@pytest.mark.parametrize(("text", "said"), [("[]", "not hold a JSON object"), ("{", "not JSON")])
def test_damaged_files_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(InputError, match=said):
        hugging_face.of_files(tmp_path)
    with pytest.raises(InputError, match="holds no preprocessor_config"):
        hugging_face.of_files(tmp_path / "..")


def test_processors_of_transformers(tmp_path: Path) -> None:
    """An object says the same as the file that it writes."""
    transformers = pytest.importorskip("transformers")
    for name, size in (("ViT", None), ("CLIP", {"shortest_edge": 40}), ("ConvNext", None), ("MobileViT", None)):
        processor = getattr(transformers, f"{name}ImageProcessor")(**({"size": size} if size else {}))
        processor.save_pretrained(tmp_path)
        record = hugging_face.of_processor(processor)
        assert signatures.of_object(processor, "x").inputs == (record,)
        assert InputSignature(**{**vars(record), "crop_offset": "down"}) == InputSignature(
            **{**vars(hugging_face.of_files(tmp_path).inputs[0]), "crop_offset": "down"}
        )
    assert hugging_face.of_processor(transformers.ViTImageProcessor()) == RECORD


def test_a_network_carries_its_classes(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    labels = {0: "cat", 1: "dog"}
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    config = transformers.ViTConfig(**sizes, image_size=32, patch_size=16, id2label=labels)
    network = transformers.ViTForImageClassification(config)
    specs = (TensorSpec("pixel_values", "float32", (None, 3, 32, 32)),), (TensorSpec("output", "float32", (None, 2)),)
    signature, source = signatures.of_network(network, *specs)
    assert (signature.inputs, signature.classes) == ((), ("cat", "dog"))
    assert source == "the network's config.id2label"
    network.save_pretrained(tmp_path)
    written(tmp_path, VIT)
    again = transformers.ViTForImageClassification.from_pretrained(tmp_path)
    signature, source = signatures.of_network(again, *specs)
    assert (signature.inputs, signature.classes) == ((RECORD,), ("cat", "dog"))
    assert "preprocessor_config.json" in source
