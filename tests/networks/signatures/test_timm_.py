"""timm's data configurations and networks; where timm is there, what its own transform does."""

from __future__ import annotations

from typing import Any

import pytest
from outside import timm

from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature, OutputSignature, Resize, Signature
from edgekit.networks import signatures
from edgekit.networks.signatures import timm_, torchvision_

CONFIG: dict[str, Any] = {
    "input_size": (3, 224, 224),
    "interpolation": "bicubic",
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "crop_pct": 0.9,
    "crop_mode": "center",
}
RECORD = InputSignature(
    "image",
    colour="RGB",
    resize=Resize("shortest", 248),  # floor(224 / 0.9)
    crop=224,
    interpolation="bicubic",
    scale=1 / 255,
    mean=CONFIG["mean"],
    std=CONFIG["std"],
)


def test_a_configuration() -> None:
    assert timm_.of_config(CONFIG) == Signature((RECORD,))
    assert signatures.of_object(CONFIG, "net.py:config") == Signature((RECORD,))
    squashed = timm_.of_config({**CONFIG, "crop_mode": "squash", "input_size": (1, 20, 30)}).inputs[0]
    assert (squashed.resize, squashed.crop, squashed.colour) == (Resize("stretch", (22, 33)), (20, 30), "gray")


def test_classes() -> None:
    labels = ["cat", "crane", "crane"]
    classes = timm_.of_config({**CONFIG, "num_classes": 3, "label_names": labels}).outputs
    assert classes == (OutputSignature("logits", classes=("cat", "crane", "crane (2)")),)
    assert timm_.of_config({**CONFIG, "num_classes": 4, "label_names": labels}).outputs[0].classes == ()
    assert timm_.of_config({**CONFIG, "num_classes": 0}).outputs == (OutputSignature("embedding"),)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"crop_mode": "border"}, "crop_mode 'border' cannot be expressed"),
        ({"interpolation": "random"}, "'random' cannot be expressed"),
        ({"input_size": (3, 224, 192)}, "no square"),
    ],
)
def test_what_cannot_be_expressed_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        timm_.of_config({**CONFIG, **change})


@pytest.mark.parametrize("model", ["mobilenetv3_small_100", "deit_tiny_patch16_224", "convnext_atto"])
def test_networks_of_timm(model: str) -> None:
    """The signature is that of the transform which timm makes for the network."""
    library = timm()
    network = library.create_model(model)
    from timm.data import create_transform, resolve_data_config

    config = resolve_data_config({}, model=network)
    signature, source = signatures.of_network(network, (), ())
    assert source == "the network's pretrained_cfg"
    transform = torchvision_.of_transform(create_transform(**config))
    assert signature.inputs[0] == InputSignature(**{**vars(transform), "colour": "RGB"})
    assert signature.outputs == (OutputSignature("logits"),)
    assert signatures.of_object(config, "x").inputs == signature.inputs
    assert timm_.of_network(library.create_model(model, num_classes=0)).outputs == (OutputSignature("embedding"),)
