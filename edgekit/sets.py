"""SETs: `task:split`, a calibration manifest, or an `.npz` with one array per input name.

A manifest (`calibration/NAME.toml`) names samples of a split: `ids`, or `count` drawn with `seed`; its sha256 is
checked, so a calibration can be repeated to the byte.
"""

from __future__ import annotations

import hashlib
import random
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import folders, registry, tasks
from edgekit.errors import InputError, RecipeError, os_errors
from edgekit.tables import build, read_toml
from edgekit.types import Artifact, SampleSet, TensorSpec

LABEL = "label"
RANDOM_SAMPLES = 16

#: what numpy and zipfile raise for an archive that is damaged, or is none
_DAMAGED = (ValueError, LookupError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Manifest:
    task: str
    split: str
    ids: tuple[int, ...] = ()
    count: int = 0
    seed: int = 0
    sha256: str = ""
    why: str = ""


def load(text: str, like: Sequence[TensorSpec] = ()) -> SampleSet:
    """The set that `text` names, as a model with the inputs `like` takes it (an image's size and layout).

    Raises InputError for what is not there or not a set.
    """
    if text.endswith(".npz"):
        return _npz(Path(text))
    if ":" in text and not Path(text).exists():
        task, _, split = text.rpartition(":")
        return tasks.load(task).load(split)
    path = Path(text) if text.endswith(".toml") else folders.find("calibration", text)
    if path is not None:
        return _manifest(path)
    hint = registry.suggest(text, folders.names("calibration"))
    raise InputError(f"{text!r} is not a set", "a set is task:split, a manifest, or an .npz file", hint)


def sample_set(name: str, inputs: Mapping[str, NDArray[Any]], labels: NDArray[Any] | None) -> SampleSet:
    """A set with the sha256 over names, dtypes, shapes and bytes of its arrays."""
    digest = hashlib.sha256()
    for key, array in [*sorted(inputs.items()), *([("label", labels)] if labels is not None else [])]:
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return SampleSet(name, inputs, labels, digest.hexdigest())


def stand_in(artifact: Artifact, example: Mapping[str, Sequence[int]]) -> SampleSet:
    """Random inputs for a model that came without data: floats from 0 to 1, integers and truth values 0 or 1.

    `example`: input name → shape, batch first, where the model's own has open axes. Raises InputError for a type
    that cannot be made up.
    """
    rng = np.random.default_rng(0)
    inputs: dict[str, Any] = {}
    for spec in artifact.inputs:
        if spec.dtype in ("string", "sequence"):
            raise InputError(f"input {spec.name!r} is of type {spec.dtype}", "samples cannot be made up", "pass a SET")
        known = example.get(spec.name) or [1] * len(spec.shape)
        shape = [RANDOM_SAMPLES, *(size or k for size, k in zip(spec.shape[1:], known[1:], strict=True))]
        values = rng.random(shape) if "float" in spec.dtype else rng.integers(0, 2, shape)
        inputs[spec.name] = values.astype(spec.dtype)
    return sample_set("random", inputs, None)


def take(data: SampleSet, count: int, name: str = "") -> SampleSet:
    """The first `count` samples (0: all of them) as a set of its own."""
    if not 0 < count < len(data):
        return data
    labels = None if data.labels is None else data.labels[:count]
    return sample_set(name or f"{data.name}[:{count}]", {k: v[:count] for k, v in data.inputs.items()}, labels)


def _manifest(path: Path) -> SampleSet:
    manifest, problems = build(Manifest, read_toml(path), "")
    if manifest is None:
        raise RecipeError(str(path), problems)
    whole = load(f"{manifest.task}:{manifest.split}")
    ids = list(manifest.ids) or random.Random(manifest.seed).sample(range(len(whole)), min(manifest.count, len(whole)))
    if not ids:
        raise InputError(f"{path} names no samples", next="give ids, or count and seed")
    if min(ids) < 0 or max(ids) >= len(whole):
        raise InputError(f"{path} names sample {max(ids)}", f"{whole.name} has {len(whole)} samples")
    labels = None if whole.labels is None else whole.labels[ids]
    chosen = sample_set(path.stem, {k: v[ids] for k, v in whole.inputs.items()}, labels)
    if manifest.sha256 and manifest.sha256 != chosen.sha256:
        raise InputError(
            f"{path} does not match its samples", f"their sha256 is {chosen.sha256}", "was the data changed?"
        )
    return chosen


def _npz(path: Path) -> SampleSet:
    """One array per input name, and `label` where there are labels. Object arrays are refused, never unpickled."""
    arrays = {}
    try:
        with os_errors("read", path), np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                arrays[name] = archive[name]
    except _DAMAGED as error:
        why = str(error).partition("\n")[0] or "it is damaged"
        raise InputError(f"cannot read {path}", why, "save it with numpy.savez") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "biufSU":
            raise InputError(f"{path}: {name!r} is of type {array.dtype}", next="save numbers, truth values or text")
    labels = arrays.pop(LABEL, None)
    if labels is not None and labels.ndim == 0:
        raise InputError(f"{path}: {LABEL!r} is a single value", next="give one label per sample")
    if not arrays or any(a.ndim == 0 or len(a) == 0 for a in arrays.values()):
        raise InputError(f"{path} holds no samples", next="numpy.savez(path, input=array, label=labels)")
    lengths = {name: len(a) for name, a in [*arrays.items(), *([(LABEL, labels)] if labels is not None else [])]}
    if len(set(lengths.values())) > 1:
        raise InputError(f"the arrays in {path} differ in length", ", ".join(f"{k} {v}" for k, v in lengths.items()))
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = int(np.argwhere(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0][0])
            raise InputError(f"{path}: sample {bad} of {name!r} holds NaN or infinity", next="mend or drop it")
    return sample_set(path.name, arrays, labels)
