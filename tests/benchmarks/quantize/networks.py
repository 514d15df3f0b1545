"""The benchmark's networks: each is made once through edgekit, kept in the cache, and exported to every format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import detector

from edgekit.core.artifact import Artifact
from edgekit.workflows import export, import_, quantize, train
from edgekit.workflows.quantize.attempts import WITHOUT_SAMPLES
from edgekit.workflows.setup import Say


@dataclass(frozen=True)
class Network:
    """`model`: a network of the task, by name or reference. `train`: fields of the train step; none: it is pretrained.

    `dynamic`: the tools' dynamic quantization is among the rivals, since their guides advise it for such networks.
    """

    name: str
    task: str
    model: str
    train: Mapping[str, Any] = field(default_factory=dict)
    dynamic: bool = False


@dataclass(frozen=True)
class Made:
    """A tool's file as an artifact, how long it took to make, and what else is to be said of it.

    `static`: the best static int8 where another kind was chosen, and its method.
    """

    artifact: Artifact
    seconds: float
    how: str = ""
    static: tuple[Artifact, str] | None = None


NETWORKS = (
    Network("resnet", "fashion-mnist", "resnet", {"epochs": 2, "lr": 0.01}),
    Network("mobilenet-v2", "fashion-mnist", "mobilenet-v2", {"epochs": 2, "lr": 0.01}),
    Network("mobilenet-v3", "fashion-mnist", "mobilenet-v3", {"epochs": 3, "lr": 0.01}),
    Network("transformer", "text.py:Reuters", "text.py:Transformer", {"epochs": 6, "lr": 0.002, "batch": 64}, True),
    Network("gru", "speech.py:Digits", "speech.py:Gru", {"epochs": 40, "lr": 0.003, "batch": 64, "patience": 40}, True),
    Network("crepe-tiny", "pitch.py:Pitch", "pitch.py:tiny"),
    Network("efficientnet-lite0", "photos.py:Photos", "photos.py:lite0"),
    Network("mobilenet-v3-small", "clothes.py:Clothes", "clothes.py:mobilenet_v3_small"),
    Network("efficientnet-b0", "clothes.py:Clothes", "clothes.py:efficientnet_b0"),
    Network("vit-tiny", "clothes.py:Clothes", "clothes.py:vit_tiny", dynamic=True),
    Network("convnext-atto", "clothes.py:Clothes", "clothes.py:convnext_atto", dynamic=True),
    Network("yolov8n", "detector.py:Boxes", "detector.py:yolo"),
)


def made(network: Network, folder: Path, say: Say) -> Artifact:
    """The trained network as a torch artifact in a run folder of its own, reused where nothing has changed.

    Raises InputError where its data, or a pretrained network, is not available.
    """
    out = folder / network.name
    if network.train:
        fields = {"seed": 0, "accelerator": "cpu", **network.train}
        return train.train(network.task, model=network.model, out=out, say=say, **fields).artifacts[0]
    model = detector.yolo() if network.name == "yolov8n" else network.model
    return import_.import_model(model, task=network.task, out=out, say=say).artifacts[0]


def exported(network: Artifact, format: str, say: Say) -> Artifact:
    """The float model in a format, verified; a network that came as a file of that format is one. Raises what broke the
    export."""
    if network.kind.format == format:
        return network
    outcome = export.export(str(network.path), to=[format], say=say)
    if outcome.failures:
        raise outcome.failures[0]
    return outcome.artifacts[-1]


def ours(network: Artifact, format: str, say: Say) -> Made:
    """What `edgekit quantize --int8 --to FORMAT` picks. Raises what broke it."""
    outcome = quantize.quantize(str(network.path), to=[format], say=say)
    found = [artifact for artifact in outcome.artifacts if artifact.kind.format == format and artifact.kind.precision]
    if not found:
        raise outcome.failures[0]
    attempts = [attempt for search in outcome.searches for attempt in search.attempts]
    methods = [search.best.method for search in outcome.searches if search.best]
    static = [a for a in attempts if a.usable and a.artifact and a.artifact.kind.precision == "int8"]
    best = max(static, key=lambda attempt: attempt.rank_key, default=None)
    others = [search for search in outcome.searches if search.best and search.best.method in WITHOUT_SAMPLES]
    other = (best.artifact, best.method) if best and best.artifact and others else None
    return Made(found[-1], sum(attempt.seconds for attempt in attempts), ", ".join(methods), other)


def brought(path: Path, folder: Path, say: Say) -> Artifact:
    """A rival's file as an artifact, so that it is measured by the same benchmark code."""
    return import_.import_model(str(path), out=folder, say=say).artifacts[0]
