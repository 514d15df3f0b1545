"""One answer for one input, through the same door as every measurement."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import refs, sets, targets, tasks
from edgekit.errors import InputError, Missing, os_errors
from edgekit.execute import execute
from edgekit.types import Artifact, Plan, SampleSet, TensorSpec

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".pgm", ".ppm")


def predict(word: str, inputs: Sequence[str], target: str, top: int) -> list[dict[str, Any]]:
    """For each input: the `top` classes where the output is one row of classes, and the raw output."""
    from edgekit import api

    ref = api.stored(refs.resolve(word))
    artifact = ref.store.get(ref.name or refs.float_root(ref.store))
    task = tasks.load(artifact.task) if artifact.task else None
    classes: tuple[str, ...] = task.classes if task else ()
    samples = [_sample(text, artifact) for text in inputs]
    names = samples[0].keys()
    stacked = {name: np.concatenate([sample[name] for sample in samples]) for name in names}
    data = sets.sample_set("inputs", stacked, None)
    run = execute(artifact, targets.load(target), data, Plan(), latency=False)
    counts = [len(next(iter(sample.values()))) for sample in samples]
    labels = [
        f"{text}[{i}]" if count > 1 else text for text, count in zip(inputs, counts, strict=True) for i in range(count)
    ]
    first = next(iter(run.outputs.values()))
    return [
        _entry(label, {k: v[i] for k, v in run.outputs.items()}, first[i], classes, top)
        for i, label in enumerate(labels)
    ]


def _entry(
    label: str, outputs: dict[str, Any], first: NDArray[Any], classes: tuple[str, ...], top: int
) -> dict[str, Any]:
    entry: dict[str, Any] = {"input": label, "outputs": {name: value.tolist() for name, value in outputs.items()}}
    if first.ndim != 1 or len(first) < 2:
        return {**entry, "text": ", ".join(f"{name} {np.array2string(value)}" for name, value in outputs.items())}
    shifted = np.exp(np.asarray(first, np.float64) - first.max())
    share = shifted / shifted.sum()
    order = np.argsort(-share)[:top]
    names = [classes[i] if i < len(classes) else str(i) for i in order]
    entry["classes"] = [{"class": n, "share": float(share[i])} for n, i in zip(names, order, strict=True)]
    return {**entry, "text": ", ".join(f"{n} {share[i]:.1%}" for n, i in zip(names, order, strict=True))}


def _sample(text: str, artifact: Artifact) -> dict[str, NDArray[Any]]:
    """Input name → (1 or more, …) array. Raises InputError for what cannot be read or does not fit."""
    path = Path(text)
    only = artifact.inputs[0]
    if path.suffix == ".npz":
        return dict(sets.load(text).inputs)
    if path.suffix == ".npy":
        try:
            with os_errors("read", path):
                array = np.load(path, allow_pickle=False)
        except (ValueError, EOFError) as error:
            why = str(error).partition("\n")[0] or "it is damaged"
            raise InputError(f"cannot read {path}", why, "save it with numpy.save") from error
        return {only.name: array if array.ndim == len(only.shape) else array[None]}
    if path.suffix.lower() in IMAGES:
        return {only.name: _image(path, only)}
    name, _, index = text.rpartition(":")
    if name and index.isdigit() and ":" in name:
        data: SampleSet = sets.load(name)
        if int(index) >= len(data):
            raise InputError(f"{name} has no sample {index}", f"it has {len(data)}", "count from 0")
        return {key: value[int(index) : int(index) + 1] for key, value in data.inputs.items()}
    known = ", ".join((".npy", ".npz", *IMAGES))
    raise InputError(f"{text!r} is not an input", f"an input is a file ({known}) or task:split:number")


def _image(path: Path, spec: TensorSpec) -> NDArray[Any]:
    """An image as (1, C, H, W), resized to what the model takes."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise Missing.install("reading images", "pillow", "images") from error
    if len(spec.shape) != 4 or spec.shape[1] not in (1, 3):
        raise InputError(f"{path} is an image", f"the model takes {spec}", "give a .npy file")
    channels, height, width = spec.shape[1:]
    try:
        with os_errors("read", path), Image.open(path) as image:
            picture = image.convert("L" if channels == 1 else "RGB")
            if height and width:
                picture = picture.resize((width, height))
            array = np.asarray(picture)
    except UnidentifiedImageError as error:
        raise InputError(f"cannot read {path}", "not an image", "give a .png or .jpg file") from error
    return array[None, None] if channels == 1 else array.transpose(2, 0, 1)[None]
