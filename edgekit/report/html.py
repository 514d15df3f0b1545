"""Measurements → one self-contained HTML page that makes no requests and is complete without scripts.

Its content security policy allows only its own style and scripts, by hash, so that unescaped text could neither run
nor load anything.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from edgekit.core.measurement import Measurement
from edgekit.report import path, sustained
from edgekit.report.advice import Advice, recommended
from edgekit.report.devices import devices, measured_on
from edgekit.report.explore import data, explore
from edgekit.report.headline import Headline, headlines
from edgekit.report.lineage import (
    RunDetails,
    boxed,
    confusions,
    lineages,
    metrics_by_class,
    predictions,
    trainings,
)
from edgekit.report.matrix import matrix
from edgekit.report.pareto import unbeaten
from edgekit.report.picture import NARROW, WIDE, inline
from edgekit.report.rows import Gain, Scope, common_notes, facts, gains, rows, scopes
from edgekit.report.style import PAGE, PICTURE, safe, variables
from edgekit.report.table import table

ASSETS = Path(__file__).parent / "assets"
LIBRARY, SCRIPT = "chart.umd.min.js", "page.js"


def html(measurements: Sequence[Measurement], title: str, details: RunDetails | None = None) -> str:
    """The whole page; `details` are lineages, predictions and training curves from the run folders."""
    run_details = details or RunDetails()
    style = variables() + PICTURE + PAGE
    scripts = [_asset(LIBRARY), _asset(SCRIPT)] if scopes(measurements) else [_asset(SCRIPT)]
    all_headlines = headlines(measurements)
    sections = [
        _ship(all_headlines, measurements),
        _pictures(measurements),
        table(measurements) if measurements else "",
    ]
    folds = {
        "matrix": matrix(measurements),
        "gains": _gains(measurements),
        "path": path.section(measurements, run_details),
        "sustained": _sustained(measurements),
        "confusion": confusions(run_details),
        "classes": metrics_by_class(run_details),
        "boxes": boxed(run_details, measurements),
        "samples": predictions(run_details),
        "training": trainings(run_details),
        "lineage": lineages(run_details, measurements),
        "devices": devices(measurements),
    }
    sections += [_fold(id, section) for id, section in folds.items() if section]
    points = f'<script type="application/json" id="points">{data(measurements)}</script>' if len(scripts) > 1 else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, scripts)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{safe(title)}</title>\n<link rel="icon" href="data:,">\n<style>{style}</style>\n</head>\n'
        f'<body>\n<a class="skip" href="#main">To the content</a>\n'
        f'<header><p class="soft">{safe(_about(measurements, title))}</p>'
        f"<h1>{safe(all_headlines[0].sentence if all_headlines else 'No measurements.')}</h1></header>\n"
        f'<main id="main">{"".join(sections)}</main>\n{_contents(sections)}{points}'
        f"{''.join(f'<script>{script}</script>' for script in scripts)}\n</body>\n</html>\n"
    )


def _fold(id: str, section: str) -> str:
    """A section behind a fold; a link to it opens it. The fold's title replaces the section's heading."""
    return f'<details class="fold"><summary>{CONTENTS[id]}</summary>{section}</details>'


@cache
def _asset(name: str) -> str:
    """A script without its source map line, which would make browser tools request it."""
    text = (ASSETS / name).read_text(encoding="utf-8")
    return text.partition("\n//# sourceMappingURL")[0]


def _policy(style: str, scripts: Sequence[str]) -> str:
    allowed = " ".join(f"'{_hash(script)}'" for script in scripts)
    return (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src {allowed}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


#: section → its name in the page's contents
CONTENTS = {
    "ship": "What to ship",
    "plot": "Metric, latency and size",
    "all": "Every measurement",
    "matrix": "Device × runtime × model",
    "gains": "Compression gains",
    "path": "Compression path",
    "sustained": "Sustained load",
    "confusion": "Confusion matrix",
    "classes": "Metric by class",
    "boxes": "Boxes in test images",
    "samples": "Sample predictions",
    "training": "Training curves",
    "lineage": "Lineage of each artifact",
    "devices": "How it was measured",
}


def _contents(sections: Sequence[str]) -> str:
    body = "".join(sections)
    links = "".join(
        f'<li><a href="#{id}">{words}</a></li>' for id, words in CONTENTS.items() if f'<section id="{id}"' in body
    )
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if links else ""


def _about(measurements: Sequence[Measurement], title: str) -> str:
    """The title, the devices, and when they were measured."""
    targets = list(dict.fromkeys(m.target for m in measurements))
    invalid = sum(bool(m.invalid) for m in measurements)
    parts = [
        title,
        f"{_count(len(measurements), 'measurement')} on {', '.join(targets)}" if measurements else "",
        f"{invalid} invalid, not ranked" if invalid else "",
        measured_on(measurements),
    ]
    return " · ".join(filter(None, parts))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def _ship(all_headlines: Sequence[Headline], measurements: Sequence[Measurement]) -> str:
    """The recommendation of the first device in full, and a card for each other one."""
    if not all_headlines:
        return ""
    first, *others = all_headlines
    lines = [line for line in facts(measurements) if line.startswith(f"{first.advice.target}:")]
    how = "".join(f"<p>{safe(line)}.</p>" for line in (*lines, *common_notes(rows(measurements))))
    cards = "".join(
        f"<article><h3>{safe(other.advice.target)}{safe(other.advice.plan)}</h3><p>{safe(other.sentence)}</p>"
        f"{_numbers(other)}{_reasons(other.advice)}</article>"
        for other in others
    )
    more = f'<h2>Other devices and plans</h2><div class="cards">{cards}</div>' if cards else ""
    return (
        f'<section id="ship"><h2 class="away">What to ship</h2>{_numbers(first)}'
        f'<div class="soft">{how}</div>{_reasons(first.advice)}{more}</section>'
    )


def _numbers(headline: Headline) -> str:
    tiles = "".join(
        f'<li class="{figure.tone}"><b>{safe(figure.value)}</b><span>{safe(figure.label)}</span>'
        f"{f'<small>{safe(figure.detail)}</small>' if figure.detail else ''}</li>"
        for figure in headline.figures
    )
    return f'<ul class="numbers">{tiles}</ul>' if tiles else ""


def _reasons(item: Advice) -> str:
    """Why, what it costs, and what is not proven; the first sentence of a device without a headline is above."""
    why = "".join(f"<p>{safe(text)}</p>" for text in (item.ship if item.measurement else item.ship[1:]))
    costs = "".join(f"<li>{safe(text)}</li>" for text in item.costs)
    unproven = "".join(f"<li>{safe(text[:1].upper() + text[1:])}</li>" for text in item.unproven)
    fold = why + (f"<h4>What it costs</h4><ul>{costs}</ul>" if costs else "")
    return (f"<h4>What is not proven</h4><ul>{unproven}</ul>" if unproven else "") + (
        f"<details><summary>Why, and what it costs</summary>{fold}</details>" if fold else ""
    )


def _pictures(measurements: Sequence[Measurement]) -> str:
    scoped = scopes(measurements)
    if not scoped:
        return ""
    chosen = recommended(measurements)
    figures = "".join(_figure(scope, ms, i, chosen) for i, (scope, ms) in enumerate(scoped.items()))
    return f'<section id="plot"><h2>Metric, latency and size</h2>{explore(measurements)}{figures}</section>'


def _figure(scope: Scope, measurements: Sequence[Measurement], number: int, chosen: frozenset[int]) -> str:
    """The static picture in two widths, for readers without scripts; the style shows the one that fits."""
    wide, narrow = (inline(scope, measurements, width, f"p{number}-{width}", chosen=chosen) for width in (WIDE, NARROW))
    unbeaten_lines = [
        f"Pareto-optimal in {scope.metric}, p50, file and memory ({provenance}), fastest first: "
        f"{', '.join(m.artifact for m in front)}."
        for provenance, front in unbeaten(measurements).items()
    ]
    return (
        f'<figure data-scope="{number}"><figcaption><h3>{safe(scope.target)}</h3>'
        f'<p class="soft">{safe(scope)}</p></figcaption>'
        f'<div class="still"><div class="wide">{wide}</div><div class="narrow">{narrow}</div></div>'
        f"{''.join(f'<p>{safe(line)}</p>' for line in unbeaten_lines)}</figure>"
    )


def _gains(measurements: Sequence[Measurement]) -> str:
    all_gains = gains(measurements)
    if not all_gains:
        return ""
    several = len({m.target for m in measurements}) > 1
    items = "".join(f"<li>{_gain(gain, several)}</li>" for gain in all_gains)
    return f'<section id="gains"><h2>Compression gains</h2><ul>{items}</ul></section>'


def _gain(gain: Gain, several: bool) -> str:
    changes = ", ".join(
        f'{name} <strong class="bad">{safe(text.lower())}</strong>' if worse else f"{name} {safe(text)}"
        for name, text, worse in gain.parts()
    )
    where = f" on {safe(gain.target)}" if several else ""
    return f"<b>{safe(gain.artifact)}</b> against {safe(gain.against)}{where}: {changes}."


def _sustained(measurements: Sequence[Measurement]) -> str:
    loaded = [m for m in measurements if isinstance(m.facts.get("sustained"), Mapping)]
    figures = "".join(_long(m, m.facts["sustained"]) for m in loaded)
    return f'<section id="sustained"><h2>Sustained load</h2>{figures}</section>' if loaded else ""


def _long(m: Measurement, load: Mapping[str, Any]) -> str:
    energy = ""
    if m.facts.get("energy_mj") is not None:
        words = f"{m.facts['energy_mj']:.3g} mJ per inference ({m.facts.get('energy_source', '?')})."
        energy = f"<p>{safe(words)}</p>"
    title = f"{m.artifact} on {m.target}, {m.runtime}"
    return (
        f"<figure><figcaption><h3>{safe(title)}</h3><p>{safe(sustained.summary(load))}.</p></figcaption>"
        f"{sustained.picture(load, title, page=False)}{energy}</figure>"
    )
