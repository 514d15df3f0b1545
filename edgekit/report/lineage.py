"""The page's sections on lineage, sample predictions and training curves."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgekit.core.local_paths import names_only
from edgekit.core.measurement import Measurement
from edgekit.report import boxes, confusion, curve
from edgekit.report.advice import recommended
from edgekit.report.boxes import Box, Boxed, ByClass
from edgekit.report.confusion import Confusion
from edgekit.report.rows import kilobytes
from edgekit.report.style import safe

#: the most samples shown
MAX_SAMPLES = 8
_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class Link:
    """One artifact of a lineage: the step that made it, the step's fields, and its parents."""

    name: str
    id: str
    step: str
    fields: Mapping[str, Any]
    parents: tuple[str, ...]
    size_bytes: int
    scheme: str = ""
    sets: Mapping[str, str] = field(default_factory=dict)
    tools: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Lineage:
    """The chain of artifacts behind a measured one, roots first."""

    artifact: str
    id: str
    links: tuple[Link, ...]
    licences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One sample: its index in the set, its label as text or its true boxes, and a base64 PNG if it is an image."""

    index: int
    label: str
    png: str | None
    boxes: tuple[Box, ...] | None = None


@dataclass(frozen=True)
class SamplePredictions:
    """One artifact's prediction for each stored sample: as text, and whether it is right (None: unknown); or boxes."""

    artifact: str
    runtime: str
    target: str
    predictions: tuple[tuple[str, bool | None], ...]
    confusion: Confusion | None = None
    by_class: ByClass | None = None
    boxes: tuple[tuple[Box, ...] | None, ...] = ()


@dataclass(frozen=True)
class RunDetails:
    """Details from run folders: artifact id → lineage, set → its samples and their predictions."""

    lineages: Mapping[str, Lineage] = field(default_factory=dict)
    predictions: Mapping[str, tuple[tuple[Sample, ...], tuple[SamplePredictions, ...]]] = field(default_factory=dict)
    #: trained artifact → its history, one entry per epoch
    trainings: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def lineages(details: RunDetails, measurements: Sequence[Measurement]) -> str:
    """A line of steps for each artifact, with collapsed details; "" without run folders."""
    selected = [details.lineages[id] for id in dict.fromkeys(m.id for m in measurements) if id in details.lineages]
    if not selected:
        return ""
    items = "".join(map(_lineage, selected))
    return f'<section id="lineage"><h2>Lineage of each artifact</h2><div class="folds">{items}</div></section>'


def _lineage(lineage: Lineage) -> str:
    path = " → ".join(safe(link.step) for link in lineage.links)
    links = "".join(map(_link, lineage.links))
    licences = f'<p class="soft">Licences: {safe(", ".join(lineage.licences))}.</p>' if lineage.licences else ""
    return f"<details><summary><b>{safe(lineage.artifact)}</b> {path}</summary><ol>{links}</ol>{licences}</details>"


def _link(link: Link) -> str:
    fields = ", ".join(f"{name} {_short(value)}" for name, value in link.fields.items())
    parts = [f"from {', '.join(link.parents)}"] if link.parents else []
    parts += [fields] if fields else []
    parts += [f"over {role} set {sha[:12]}" for role, sha in link.sets.items()]
    parts += [link.scheme] if link.scheme else []
    tools = ", ".join(f"{name} {version}" for name, version in link.tools.items())
    return (
        f"<li><b>{safe(link.name)}</b> by {safe(link.step)}, {kilobytes(link.size_bytes)} kB, "
        f"<code>{safe(link.id)}</code><br>{safe('; '.join(parts))}"
        f"{f'<small>{safe(tools)}</small>' if tools else ''}</li>"
    )


def _short(value: Any) -> str:
    text = str(names_only(str(value)))
    return text if len(text) <= 60 else text[:59] + "…"


def trainings(details: RunDetails) -> str:
    """The training curves of the shown artifacts; the page has the style."""
    figures = "".join(
        f"<figure><figcaption><h3>{safe(name)}</h3></figcaption>{_STYLE.sub('', curve.picture(history))}</figure>"
        for name, history in details.trainings.items()
    )
    return f'<section id="training"><h2>Training curves</h2>{figures}</section>' if figures else ""


def predictions(details: RunDetails) -> str:
    """Samples with each model's prediction; those with disagreement or errors are preferred."""
    parts = []
    for sha, (samples, models) in details.predictions.items():
        told = [model for model in models if any(text for text, _ in model.predictions)]
        parts += [_predictions(samples, told, sha)] if told and samples else []
    return f'<section id="samples"><h2>Sample predictions</h2>{"".join(parts)}</section>' if parts else ""


def confusions(details: RunDetails) -> str:
    """The confusion matrix of each model that predicts one class per sample."""
    models = [(_title(model), model.confusion) for model in _models(details) if model.confusion]
    return confusion.section(models)


def metrics_by_class(details: RunDetails) -> str:
    """The metric of each class, for each detector and segmentation model."""
    return boxes.by_class([(model.artifact, model.by_class) for model in _models(details) if model.by_class])


def boxed(details: RunDetails, measurements: Sequence[Measurement]) -> str:
    """Images with the boxes of what is recommended; of the first detector if nothing is."""
    chosen = recommended(measurements)
    names = {m.artifact for m in measurements if id(m) in chosen}
    detectors = [
        (model, samples)
        for samples, models in details.predictions.values()
        for model in models
        if any(each is not None for each in model.boxes)
    ]
    shown = [pair for pair in detectors if pair[0].artifact in names] or detectors[:1]
    return boxes.pictures([(_title(model), _images(model, samples)) for model, samples in shown])


def _images(model: SamplePredictions, samples: Sequence[Sample]) -> list[Boxed]:
    return [
        Boxed(sample.index, sample.png, sample.boxes, predicted)
        for sample, predicted in zip(samples, model.boxes, strict=False)
        if sample.boxes is not None and predicted is not None
    ]


def _models(details: RunDetails) -> list[SamplePredictions]:
    return [model for _, models in details.predictions.values() for model in models]


def _title(model: SamplePredictions) -> str:
    return f"{model.artifact} on {model.target}, {model.runtime}"


def _predictions(samples: Sequence[Sample], models: Sequence[SamplePredictions], sha: str) -> str:
    columns = _most_informative(samples, models)
    heads = "".join(f'<th scope="col">{_picture(samples[i])}</th>' for i in columns)
    body = "".join(
        f'<tr><th scope="row">{safe(model.artifact)}</th>'
        + "".join(_prediction_cell(model, i) for i in columns)
        + "</tr>"
        for model in models
    )
    name = f"samples-{safe(sha[:8])}"
    return (
        f'<div class="scroll" role="region" aria-labelledby="{name}" tabindex="0"><table class="answers">'
        f'<caption id="{name}">Predictions of each model for samples of set {safe(sha[:8])}</caption>'
        f'<thead><tr><th scope="col">model</th>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _most_informative(samples: Sequence[Sample], models: Sequence[SamplePredictions]) -> list[int]:
    def rank(i: int) -> tuple[int, int, int]:
        predictions = [model.predictions[i] for model in models if i < len(model.predictions)]
        return -len({text for text, _ in predictions}), -sum(is_correct is False for _, is_correct in predictions), i

    return sorted(sorted(range(len(samples)), key=rank)[:MAX_SAMPLES])


def _picture(sample: Sample) -> str:
    words = f"sample {sample.index}" + (f": {sample.label}" if sample.label else "")
    if sample.png and _BASE64.fullmatch(sample.png):
        image = f'<img alt="{safe(words)}" src="data:image/png;base64,{sample.png}">'
        return f"{image}<small>{safe(sample.label or sample.index)}</small>"
    return safe(words)


def _prediction_cell(model: SamplePredictions, index: int) -> str:
    if index >= len(model.predictions):
        return "<td>-</td>"
    text, is_correct = model.predictions[index]
    if is_correct is False:
        return f'<td class="bad"><span aria-hidden="true">✗</span> {safe(text)}<span class="away"> (wrong)</span></td>'
    return f"<td>{safe(text)}</td>"
