"""`predict`: run an artifact on single inputs, with the same code as every measurement."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgekit import sets, tasks
from edgekit.core.arrays import array_errors
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError, os_errors
from edgekit.core.progress import quiet
from edgekit.core.signature import plain
from edgekit.core.signature_check import AXES
from edgekit.core.target import Plan, Target
from edgekit.core.task import Task
from edgekit.core.user_code import typed_by_user
from edgekit.measure import generation, targets
from edgekit.measure.execute import execute, execute_steps
from edgekit.networks.signatures import heads
from edgekit.ondevice import detections, preprocess
from edgekit.ondevice.predict import shares
from edgekit.report import boxes_drawn
from edgekit.runs import named_sets, references
from edgekit.sets import audio, images, options, reading, tables, texts
from edgekit.sets.options import Options, SetSpec
from edgekit.sets.preprocessing import image_record, image_signature
from edgekit.sets.reading import UnreadableSample
from edgekit.workflows import import_

#: said with every answer to a file for a model that came without a signature
UNKNOWN = "the model's preprocessing is not known: values are taken as they are; import it with --signature"


@typed_by_user
def predict(
    word: str, inputs: Sequence[str], target: str, top: int, draw: Path | None = None, new_tokens: int = 32
) -> list[dict[str, Any]]:
    """For each input: the raw outputs, and the `top` classes if the output is one row of class scores; for a detector
    the boxes, for a model that generates text the `new_tokens` that follow. `draw`: the folder that images with their
    boxes are written into.

    Raises InputError if an input cannot be read or does not fit the model, or if there are no boxes to draw.
    """
    ref = import_.ensure_imported(references.resolve(word))
    artifact = ref.artifact()
    if artifact.states:
        return _generated(artifact, ref.store.root(artifact), inputs, targets.load(target), new_tokens)
    task = tasks.load(artifact.task) if artifact.task else None
    classes = artifact.signature.classes or (task.classes if task else ())
    kind = artifact.signature.outputs[0].kind if artifact.signature.outputs else ""
    detector = task is None and heads.complete(artifact.signature.outputs)
    if draw is not None and not detector:
        why = "its signature does not say how its outputs become boxes"
        raise InputError(
            f"{artifact.name} has no boxes to draw", why, "import it with --signature, or leave out --draw"
        )
    read = [_sample(text, artifact, task) for text in inputs]
    samples, notes = [sample for sample, _ in read], [sample_notes for _, sample_notes in read]
    names = samples[0].keys()
    stacked = {name: np.concatenate([sample[name] for sample in samples]) for name in names}
    data = reading.sample_set("inputs", stacked, None)
    run = execute(artifact, targets.load(target), data, Plan(), latency=False)
    counts = [len(next(iter(sample.values()))) for sample in samples]
    labels = [
        (f"{text}[{i}]" if count > 1 else text, sample_notes)
        for text, count, sample_notes in zip(inputs, counts, notes, strict=True)
        for i in range(count)
    ]
    entries = []
    for index, (label, sample_notes) in enumerate(labels):
        outputs = {name: value[index] for name, value in run.outputs.items()}
        if detector:
            image = Path(label) if label in inputs and _is_image(label) else None
            sample = next(iter(data.inputs.values()))[index]
            entries.append(_boxes(label, outputs, artifact, image, sample, sample_notes, draw))
            continue
        if task is not None and task.tell is not None:
            sample = {name: value[index] for name, value in data.inputs.items()}
            entry = {"input": label, **task.tell(outputs, sample, artifact.path)}
        else:
            entry = _entry(label, outputs, next(iter(outputs.values())), classes, kind, top)
        if sample_notes:
            entry |= {"notes": list(sample_notes), "text": f"{entry['text']} ({'; '.join(sample_notes)})"}
        entries.append(entry)
    return entries


def _generated(
    artifact: Artifact, root: Artifact, inputs: Sequence[str], target: Target, new_tokens: int
) -> list[dict[str, Any]]:
    """For each prompt the text that follows it, greedily; of an artifact without a tokenizer, token ids."""
    task = tasks.load(artifact.task) if artifact.task else None
    entries = []
    for text in inputs:
        prompt, notes = _sample(text, artifact, task)
        length = next(iter(prompt.values())).shape[1]
        plan = Plan(prompt=length, new_tokens=new_tokens)
        generation.check(artifact, root, plan, int(targets.device(target).facts().get("memory_bytes") or 0))
        data = reading.sample_set("inputs", prompt, None)
        for tokens in execute_steps(artifact, target, data, new_tokens=new_tokens)["tokens"]:
            if task is not None and task.tell is not None:
                entry = dict(task.tell({"tokens": tokens}, {}, artifact.path))
            else:
                entry = {"outputs": {"tokens": tokens.tolist()}, "text": texts.generated(artifact.inputs, tokens)}
            entries.append({"input": text, **entry, **({"notes": list(notes)} if notes else {})})
    return entries


def _boxes(
    label: str,
    outputs: dict[str, Any],
    artifact: Artifact,
    image: Path | None,
    sample: NDArray[Any],
    notes: tuple[str, ...],
    draw: Path | None,
) -> dict[str, Any]:
    """The boxes of one sample, in pixels of the image if it is one, else of the model's input."""
    spec = artifact.inputs[0]
    front = image_record(image_signature(spec, options.parse_set_spec(label).options, label), spec)
    axes = AXES[front.get("layout") or "NCHW"]
    size = sample.shape[axes[1] - 1], sample.shape[axes[2] - 1]
    arrays = [value[None] for value in outputs.values()]
    records = [plain(record) for record in artifact.signature.outputs]
    try:
        if why := detections.doubt(arrays, records, size):
            raise ValueError(why)
        found = detections.decode(arrays, records, size)[0]
    except ValueError as error:
        raise InputError(
            "the outputs are not those that the signature describes", str(error), "import it with another --signature"
        ) from error
    if image is not None:
        height, width = preprocess.image_size(str(image), front)
        found = detections.in_image(found, preprocess.placement(front, height, width), (height, width))
    told = detections.entries(found, artifact.signature.classes)
    where = "" if image or not told else " (in pixels of the model's input)"
    text = detections.text(told) + where
    entry = {"input": label, "boxes": told, "pixels_of": "image" if image else "input", "text": text}
    if draw is not None:
        if image is None:
            raise InputError(f"{label} is no image file", "boxes are drawn on images", "leave out --draw")
        entry["drawn"] = str(boxes_drawn.draw(image, told, draw, bool(front.get("exif"))))
    return entry | ({"notes": list(notes), "text": f"{entry['text']} ({'; '.join(notes)})"} if notes else {})


def _is_image(text: str) -> bool:
    return Path(text).suffix.lower() in images.SUFFIXES


def _entry(
    label: str, outputs: dict[str, Any], first: NDArray[Any], classes: tuple[str, ...], kind: str, top: int
) -> dict[str, Any]:
    entry: dict[str, Any] = {"input": label, "outputs": {name: value.tolist() for name, value in outputs.items()}}
    if first.ndim != 1 or len(first) < 2:
        return {**entry, "text": ", ".join(f"{name} {np.array2string(value)}" for name, value in outputs.items())}
    share = shares(first, kind)
    order = np.argsort(-share)[:top]
    names = [classes[i] if i < len(classes) else str(i) for i in order]
    entry["classes"] = [{"class": n, "share": float(share[i])} for n, i in zip(names, order, strict=True)]
    return {**entry, "text": ", ".join(f"{n} {share[i]:.1%}" for n, i in zip(names, order, strict=True))}


def _sample(text: str, artifact: Artifact, task: Task | None) -> tuple[Mapping[str, NDArray[Any]], tuple[str, ...]]:
    """Input name → (1 or more, …) array, and notes on how it was read; a task may read its inputs itself."""
    word, colon, index = text.rpartition(":")
    numbered = colon and re.fullmatch("[0-9]{1,15}", index) and (sets.is_data(word.partition("?")[0]) or ":" in word)
    if (
        task is not None
        and task.read is not None
        and not numbered
        and Path(text).suffix.lower() not in (".npz", ".npy")
    ):
        return task.read(text, artifact.path)  # type: ignore[no-any-return]
    if texts.takes_text(artifact.inputs) and _is_text(text):
        return _text(text, artifact)
    unknown = not artifact.task and all(spec.signature is None for spec in artifact.inputs)
    files = Path(options.parse_set_spec(text).path).suffix.lower() in (*images.SUFFIXES, *audio.SUFFIXES)
    notes = (UNKNOWN,) if unknown and files and "?" not in text else ()
    return _array(text, artifact), notes


def _spec(text: str) -> SetSpec:
    return SetSpec(text.partition("?")[0], Options())


def _is_text(text: str) -> bool:
    """Is it no file and no sample of a set?"""
    word, _, index = text.rpartition(":")
    if re.fullmatch("[0-9]{1,15}", index) and sets.is_data(_spec(word).path):
        return False
    return not (sets.is_data(_spec(text).path) or Path(text).suffix.lower() == ".npy")


def _text(text: str, artifact: Artifact) -> tuple[Mapping[str, NDArray[Any]], tuple[str, ...]]:
    """A text, or two separated by a tab, as the model's tokens. Raises InputError if it is empty."""
    encode = texts.Encoder(artifact.inputs)
    first, is_pair, second = text.partition("\t")
    try:
        return encode((first, second) if is_pair else text), encode.note(1)
    except ValueError as error:
        raise InputError(f"cannot read {text!r}", str(error), "enter at least one word") from error


def _array(text: str, artifact: Artifact) -> Mapping[str, NDArray[Any]]:
    """Input name → (1 or more, …) array. Raises InputError if it cannot be read or does not fit the model."""
    path, suffix = Path(text), Path(text).suffix.lower()
    word, colon, index = text.rpartition(":")
    if colon and re.fullmatch("[0-9]{1,15}", index):
        return named_sets.load_sample(word, int(index), artifact.inputs)
    if suffix == ".npz":
        return named_sets.load(text, artifact.inputs).inputs
    if suffix == ".npy":
        only = artifact.inputs[0]
        with array_errors(path, "write it with numpy.save"):
            array = np.load(path, allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise ValueError("it is an archive of arrays")
        return {only.name: array if array.ndim == len(only.shape) else array[None]}
    spec = options.parse_set_spec(text)
    file = spec.path
    suffix = Path(file).suffix.lower()
    if suffix in (*tables.SUFFIXES, texts.LINES) or Path(file).is_dir():
        if text == file and len(artifact.inputs) == 1 and tables.columns_of(artifact.inputs[0]):
            return {artifact.inputs[0].name: tables.read_rows(Path(file), artifact.inputs[0])}
        return _rows(text, spec, artifact)
    if suffix in (*images.SUFFIXES, *audio.SUFFIXES):
        with os_errors("read", file), Path(file).open("rb"):
            kind = images.ImageDecoder if suffix in images.SUFFIXES else audio.AudioDecoder
        decode = kind(file, _options(text, artifact), artifact.inputs)
        try:
            return {decode.input: decode(Path(file), file)[None]}
        except UnreadableSample as error:
            raise InputError(f"cannot read {file}", str(error), "name another file") from error
    known = ", ".join((".npy", ".npz", *tables.SUFFIXES, *images.SUFFIXES, *audio.SUFFIXES))
    next = f"name a file ({known}) or SET:number, such as mnist:test:3"
    raise InputError(f"{text!r} is not an input", "it is neither a file nor a sample of a set", next)


def _rows(text: str, spec: SetSpec, artifact: Artifact) -> Mapping[str, NDArray[Any]]:
    """The rows of a table, all of them, so that the numbers of the answers are theirs; labels are not needed."""
    reader = sets.reader_of(spec, artifact.inputs)
    reader.labelled = False
    data = reading.collect(text, reader, spec.options, spec.split, quiet)
    if data.skipped:
        raise InputError(f"cannot read all rows of {text}", data.skipped[0], "fix or remove it")
    return data.inputs


def _options(text: str, artifact: Artifact) -> Options:
    """The options in the text, else those of the training data, so that inputs are preprocessed as in training."""
    own = options.parse_set_spec(text).options
    return (
        own
        if "?" in text or not artifact.task or tasks.has_options(artifact.task)
        else options.parse_set_spec(artifact.task).options
    )
