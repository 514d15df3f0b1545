"""torchvision's transforms as signatures: its own objects, and everything that has no words in one."""

from __future__ import annotations

from typing import Any

import pytest
from outside import torchvision

from edgekit.core.errors import InputError
from edgekit.core.signature import InputSignature, Resize
from edgekit.networks import signatures
from edgekit.networks.signatures import torchvision_

pytestmark = pytest.mark.usefixtures("own_code")

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNIT = 1 / 255


@pytest.fixture(params=["v1", "v2"])
def transforms(request: pytest.FixtureRequest) -> Any:
    torchvision()
    from torchvision import transforms
    from torchvision.transforms import v2

    return {"v1": transforms, "v2": v2}[request.param]


def test_evaluation_on_imagenet(transforms: Any) -> None:
    steps = [transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    expected = InputSignature("image", resize=Resize("shortest", 256), crop=224, scale=UNIT, mean=MEAN, std=STD)
    assert torchvision_.of_transform(transforms.Compose(steps)) == expected
    assert torchvision_.of_transform(transforms.Compose([transforms.Compose(steps[:2]), *steps[2:]])) == expected


def test_what_is_done_on_tensors(transforms: Any) -> None:
    """There the filter widens only if it was asked to; bytes become fractions where the type changes."""
    import torch

    resize = transforms.Resize((20, 30), interpolation=transforms.InterpolationMode.BICUBIC, antialias=False)
    compose = transforms.Compose([transforms.PILToTensor(), resize, transforms.ConvertImageDtype(torch.float32)])
    expected = InputSignature(
        "image", resize=Resize("stretch", (20, 30)), interpolation="bicubic", antialias=False, scale=UNIT
    )
    assert torchvision_.of_transform(compose) == expected
    assert torchvision_.of_transform(transforms.PILToTensor()) == InputSignature("image")
    assert torchvision_.of_transform(transforms.Compose([resize])).antialias  # Pillow's filters always widen


def test_gray_and_modules_in_a_row(transforms: Any) -> None:
    from torch import nn

    row = nn.Sequential(transforms.Resize(28), transforms.CenterCrop((28, 20)), nn.Identity(), transforms.Grayscale())
    record = torchvision_.of_transform(row)
    assert (record.colour, record.crop, record.resize) == ("gray", (28, 20), Resize("shortest", 28))


def test_types_of_v2() -> None:
    torchvision()
    import torch
    from torchvision.transforms import v2

    scaled = v2.Compose([v2.ToImage(), v2.RGB(), v2.ToDtype(torch.float32, scale=True), v2.ToPureTensor()])
    assert torchvision_.of_transform(scaled) == InputSignature("image", colour="RGB", scale=UNIT)
    plain = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=False), v2.Normalize([127.5], [127.5])])
    assert torchvision_.of_transform(plain) == InputSignature("image", mean=(127.5,), std=(127.5,))


def test_weights_have_their_classes() -> None:
    torchvision()
    signature = signatures.read("torchvision.models:ResNet18_Weights.IMAGENET1K_V1")
    assert (len(signature.classes), signature.classes[0], signature.outputs[0].kind) == (1000, "tench", "logits")
    assert (signature.inputs[0].resize, signature.inputs[0].crop) == (Resize("shortest", 256), 224)
    assert (signature.inputs[0].mean, signature.inputs[0].antialias) == (MEAN, True)
    segmentation = signatures.read("torchvision.models.segmentation:LRASPP_MobileNet_V3_Large_Weights.DEFAULT")
    assert (segmentation.outputs[0].kind, segmentation.inputs[0].crop) == ("mask", None)


def test_every_classifier_of_torchvision() -> None:
    torchvision()
    from torchvision.models import get_model_weights, list_models

    for name in list_models():
        for weights in get_model_weights(name):
            if type(weights.transforms()).__name__ == "ImageClassification":
                signature = torchvision_.of_weights(weights)
                assert signature.inputs[0].crop == weights.transforms().crop_size[0]
                assert not list(signature.outputs[0].problems())


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda t: t.RandomHorizontalFlip(), "RandomHorizontalFlip cannot be expressed: it is for training"),
        (lambda t: t.Compose([t.Resize(8), t.RandomResizedCrop(8)]), "RandomResizedCrop cannot be expressed"),
        (lambda t: t.ColorJitter(), "ColorJitter cannot be expressed: it is for training"),
        (lambda t: t.Compose([t.Lambda(lambda x: x)]), "Lambda cannot be expressed"),
        (lambda t: t.Compose([sorted]), "sorted cannot be expressed: it is a function"),
        (lambda t: t.Pad(3), "Pad cannot be expressed"),
        (lambda t: t.FiveCrop(3), "FiveCrop cannot be expressed"),
        (lambda t: t.Resize(8, max_size=9), "Resize cannot be expressed: max_size is 9"),
        (lambda t: t.Compose([t.Resize(8), t.Resize(9)]), "it follows another resize or a crop"),
        (lambda t: t.Compose([t.CenterCrop(8), t.Resize(9)]), "it follows another resize or a crop"),
        (lambda t: t.Compose([t.CenterCrop(8), t.CenterCrop(9)]), "it follows another crop"),
        (lambda t: t.Compose([t.Normalize([0.5], [0.5])] * 2), "Normalize cannot be expressed: it is the second"),
        (lambda t: t.Compose([t.Normalize([0.5], [0.5]), t.Grayscale()]), "it follows Normalize"),
        (
            lambda t: t.Compose([t.PILToTensor(), t.Resize(8, interpolation=t.InterpolationMode.NEAREST)]),
            "its interpolation is nearest",
        ),
    ],
)
def test_what_cannot_be_expressed_is_refused(transforms: Any, make: Any, said: str) -> None:
    with pytest.raises(InputError) as caught:
        torchvision_.of_transform(make(transforms))
    assert said in str(caught.value)
    assert caught.value.next in ("write a signature file", "name the transform of validation")
