"""How artifacts were made and what they answered, as parts of the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edgekit.core.measurement import Measurement
from edgekit.report import curve
from edgekit.report.rows import kilobytes
from edgekit.report.style import safe

#: samples shown of those that were kept
SHOWN = 8
_STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True)
class Link:
    """One artifact of a lineage: the step that made it, with the fields that were set, and from what."""

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
    """How one measured artifact came to be, roots first."""

    artifact: str
    id: str
    links: tuple[Link, ...]
    licences: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sample:
    """One sample: its place in the set, its label in words, and its picture in base64 where it is one."""

    index: int
    label: str
    png: str | None


@dataclass(frozen=True)
class Answers:
    """What one artifact answered for each kept sample: in words, and whether it was right (None: cannot be told)."""

    artifact: str
    runtime: str
    target: str
    said: tuple[tuple[str, bool | None], ...]


@dataclass(frozen=True)
class Exhibits:
    """What a page shows beside measurements: artifact id → lineage, set → its samples and answers."""

    lineages: Mapping[str, Lineage] = field(default_factory=dict)
    answers: Mapping[str, tuple[tuple[Sample, ...], tuple[Answers, ...]]] = field(default_factory=dict)
    #: trained artifact → an entry per epoch
    trainings: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)


def lineages(exhibits: Exhibits, measurements: Sequence[Measurement]) -> str:
    """A line of steps for each artifact, its details folded away; "" where no run folder was at hand."""
    shown = [exhibits.lineages[id] for id in dict.fromkeys(m.id for m in measurements) if id in exhibits.lineages]
    if not shown:
        return ""
    items = "".join(map(_lineage, shown))
    return f'<section id="lineage"><h2>How each artifact was made</h2><div class="folds">{items}</div></section>'


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
    text = str(value)
    return text if len(text) <= 60 else text[:59] + "…"


def trainings(exhibits: Exhibits) -> str:
    """The curve of every training that the shown artifacts came from; the page has its style."""
    figures = "".join(
        f"<figure><figcaption><h3>{safe(name)}</h3></figcaption>{_STYLE.sub('', curve.picture(history))}</figure>"
        for name, history in exhibits.trainings.items()
    )
    return f'<section id="training"><h2>How it was trained</h2>{figures}</section>' if figures else ""


def predictions(exhibits: Exhibits) -> str:
    """A few samples with every model's answer: those that the models disagree on or get wrong come first."""
    parts = [_predictions(samples, answers, sha) for sha, (samples, answers) in exhibits.answers.items()]
    return f'<section id="samples"><h2>A few samples, and what each model says</h2>{"".join(parts)}</section>' * bool(
        parts
    )


def _predictions(samples: Sequence[Sample], answers: Sequence[Answers], sha: str) -> str:
    columns = _telling(samples, answers)
    heads = "".join(f'<th scope="col">{_picture(samples[i])}</th>' for i in columns)
    body = "".join(
        f'<tr><th scope="row">{safe(one.artifact)}</th>'
        + "".join(_said(one.said[i]) if i < len(one.said) else "<td>-</td>" for i in columns)
        + "</tr>"
        for one in answers
    )
    name = f"samples-{safe(sha[:8])}"
    return (
        f'<div class="scroll" role="region" aria-labelledby="{name}" tabindex="0"><table class="answers">'
        f'<caption id="{name}">Samples of set {safe(sha[:8])}, and what each model says</caption>'
        f'<thead><tr><th scope="col">model</th>{heads}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def _telling(samples: Sequence[Sample], answers: Sequence[Answers]) -> list[int]:
    def worth(i: int) -> tuple[int, int, int]:
        said = [one.said[i] for one in answers if i < len(one.said)]
        return -len({text for text, _ in said}), -sum(right is False for _, right in said), i

    return sorted(sorted(range(len(samples)), key=worth)[:SHOWN])


def _picture(sample: Sample) -> str:
    words = f"sample {sample.index}" + (f": {sample.label}" if sample.label else "")
    if sample.png and _BASE64.fullmatch(sample.png):
        image = f'<img alt="{safe(words)}" src="data:image/png;base64,{sample.png}">'
        return f"{image}<small>{safe(sample.label or sample.index)}</small>"
    return safe(words)


def _said(answer: tuple[str, bool | None]) -> str:
    text, right = answer
    if right is False:
        return f'<td class="bad"><span aria-hidden="true">✗</span> {safe(text)}<span class="away"> (wrong)</span></td>'
    return f"<td>{safe(text)}</td>"
