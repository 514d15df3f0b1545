"""torchvision's detectors as networks of images, against torchvision's own forward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from outside import FOLDERS, SHIM, outside, torchvision
from torch import Tensor

from edgekit import export, import_model
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.signature import OutputSignature, Resize, plain
from edgekit.networks.torchvision_detectors import as_tensors, is_detector, stacked
from edgekit.ondevice import detections

SIDE = 96
#: one for each way of decoding; the last has anchors in steps of the image
DETECTORS = {
    "RetinaNet": "retinanet_resnet50_fpn",
    "FCOS": "fcos_resnet50_fpn",
    "SSDlite": "ssdlite320_mobilenet_v3_large",
    "SSD": "ssd300_vgg16",
}

NET = f"""{SHIM}
import sys
sys.path += {FOLDERS}
from torchvision.models import detection
from torchvision.models.detection.ssd import SSD, SSDHead
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator

def make():
    torch.manual_seed(0)
    backbone = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 16, 3, 4, 1), torch.nn.ReLU()
    )
    backbone.out_channels = [16]
    anchors = DefaultBoxGenerator([[2]], steps=[8], scales=[0.2, 0.4])
    head = SSDHead([16], anchors.num_anchors_per_location(), 4)
    return SSD(backbone, anchors, (64, 64), num_classes=4, head=head), [torch.rand(3, 64, 64)]
"""


def network(name: str) -> Any:
    """With images that torchvision need not resize, and a head whose numbers are drawn: those of random weights are
    all alike."""
    torchvision()
    detection = outside("torchvision.models.detection", "torchvision")
    torch.manual_seed(0)
    sizes = {} if name.startswith("ssd") else {"min_size": SIDE, "max_size": SIDE}
    made = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=4, **sizes).eval()
    made.head.register_forward_hook(drawn)
    return made


def drawn(module: Any, inputs: Any, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(2)
    made = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in outputs.items()}
    made["cls_logits"][..., 0] = -20  # trained detectors never find the background
    if "bbox_ctrness" in made:
        made["bbox_regression"] = made["bbox_regression"].abs()  # distances
    return {**made, "cls_logits": made["cls_logits"] * 2 - 2}


def greedy(boxes: Tensor, scores: Tensor, labels: Tensor, most: float) -> Tensor:
    """torchvision.ops.batched_nms, whose operator may not be there."""
    order, kept = scores.argsort(descending=True).tolist(), []
    while order:
        best = order.pop(0)
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[order][:, :2])
        high = torch.minimum(boxes[best, 2:], boxes[order][:, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        sides = (boxes[:, 2:] - boxes[:, :2]).prod(1)
        iou = shared / (sides[best] + sides[order] - shared)
        order = [i for i, share in zip(order, iou.tolist(), strict=True) if share <= most or labels[i] != labels[best]]
    return torch.tensor(kept, dtype=torch.long)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_the_boxes_are_those_of_torchvision(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lists after suppression are what the signature's decoder makes of the tensors."""
    own = network(DETECTORS[name])
    assert is_detector(own)
    monkeypatch.setattr(outside("torchvision.ops.boxes"), "batched_nms", greedy)
    size = own.transform.fixed_size[0] if own.transform.fixed_size else SIDE
    own.score_thresh, own.topk_candidates, own.detections_per_img = 0.1, 10_000, 100
    image = torch.rand(3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = own([image])[0]
        found = as_tensors(own).eval()(own.transform.normalize(image)[None])
    signature = as_tensors(own).signature(size, size)
    arrays = [found["boxes"].numpy(), found["scores"].numpy()]
    boxes = detections.decode(
        arrays, [plain(r) for r in signature.outputs], (size, size), own.score_thresh, own.nms_thresh
    )[0]
    boxes = detections.clipped(boxes, (0, 0, size, size))
    sides = expected["boxes"][:, 2:] - expected["boxes"][:, :2]
    expected = {key: values[(sides > 0).all(1)] for key, values in expected.items()}  # some lie beside the image
    boxes = boxes[(boxes[:, 4:] > 0).all(1)]
    count = min(50, len(expected["scores"]))
    assert count > 5, "nothing is compared"
    np.testing.assert_allclose(boxes[:count, 1], expected["scores"][:count], rtol=1e-4)
    corners = np.concatenate([boxes[:, 2:4], boxes[:, 2:4] + boxes[:, 4:]], axis=1)
    np.testing.assert_allclose(corners[:count], expected["boxes"][:count], rtol=1e-3, atol=1e-2)
    np.testing.assert_array_equal(boxes[:count, 0] + 1, expected["labels"][:count], "the background is 0")


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Artifact:
    torchvision()
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return import_model("net.py:make", out="run").artifact


@pytest.mark.slow
def test_it_is_imported_with_its_preprocessing(imported: Artifact) -> None:
    """From torchvision's example, a list of images; the signature says how boxes are decoded, and exports keep both."""
    boxes, scores = imported.outputs
    assert boxes.shape == (None, 256, 4) and scores.shape == (None, 256, 4)
    assert imported.inputs[0].signature.resize == Resize("stretch", 64)  # type: ignore[union-attr]
    assert isinstance(scores.signature, OutputSignature) and scores.signature.background == "first"
    made = export(imported.path.parent, to=["onnx", "openvino"])
    for model in made:
        assert [spec.signature for spec in model.artifact.outputs] == [boxes.signature, scores.signature]


def test_two_stages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision()
    (tmp_path / "net.py").write_text(
        NET.partition("def make")[0] + "def make():\n"
        "    return detection.fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None), "
        "[torch.zeros(3, 64, 64)]\n"
    )
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="returns as many boxes as it finds") as error:
        import_model("net.py:make", out="run")
    assert 'signature="torchvision"' in error.value.next


@pytest.mark.parametrize("name", ["RetinaNet", "FCOS"])
def test_sizes_whose_anchors_would_be_elsewhere_are_refused(name: str) -> None:
    """torchvision pads 100 pixels to 128; without that, a cell of 13 would be 7 pixels wide."""
    with pytest.raises(InputError, match="100 x 128 pixels") as error:
        as_tensors(network(DETECTORS[name]))(torch.zeros(1, 3, 100, 128))
    assert error.value.next == "use 128 x 128"


def test_a_users_own_forward_is_what_runs() -> None:
    torchvision()
    ssd = outside("torchvision.models.detection.ssd", "torchvision")

    class Own(ssd.SSD):  # type: ignore[misc, name-defined]
        def forward(self, x: Tensor) -> Tensor:
            return x

    assert not is_detector(Own.__new__(Own))


def test_parts_of_a_detector_stay_as_they_are() -> None:
    torchvision()
    backbones = outside("torchvision.models.detection.backbone_utils", "torchvision")
    fpn = backbones.mobilenet_backbone("mobilenet_v3_small", fpn=True, weights=None)
    assert as_tensors(fpn) is fpn and not is_detector(fpn)


def test_examples_as_torchvision_takes_them() -> None:
    image = torch.zeros(3, 4, 5)
    assert stacked([image, image]).shape == (2, 3, 4, 5)
    assert stacked([[image]]).shape == stacked(image).shape == (1, 3, 4, 5)
    assert stacked(image[None]).shape == (1, 3, 4, 5)
    with pytest.raises(InputError, match="differ in size"):
        stacked([image, torch.zeros(3, 5, 5)])
