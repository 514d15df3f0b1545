"""Measurements → one page that stands alone: no request leaves it, and without its script it reads the same.

Its content-security policy allows its own style and scripts by their hashes and nothing else, so even a name that
slipped through escaping could neither run nor load anything.
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
from edgekit.report.advice import Advice, advice
from edgekit.report.devices import devices
from edgekit.report.explore import data, explore
from edgekit.report.lineage import Exhibits, lineages, predictions, trainings
from edgekit.report.matrix import matrix
from edgekit.report.pareto import unbeaten
from edgekit.report.picture import NARROW, WIDE, inline
from edgekit.report.rows import Gain, Scope, gains, scopes
from edgekit.report.style import PAGE, PICTURE, safe, variables
from edgekit.report.table import table

ASSETS = Path(__file__).parent / "assets"
LIBRARY, SCRIPT = "chart.umd.min.js", "page.js"


def html(measurements: Sequence[Measurement], title: str, exhibits: Exhibits | None = None) -> str:
    """The whole page; `exhibits` are what the run folders hold beside the measurements."""
    beside = exhibits or Exhibits()
    style = variables() + PICTURE + PAGE
    scripts = [_asset(LIBRARY), _asset(SCRIPT)] if scopes(measurements) else [_asset(SCRIPT)]
    sections = [
        _advice(measurements),
        _pictures(measurements),
        table(measurements) if measurements else "",
        matrix(measurements),
        _gains(measurements),
        path.section(measurements, beside),
        _sustained(measurements),
        predictions(beside),
        trainings(beside),
        lineages(beside, measurements),
        devices(measurements),
    ]
    points = f'<script type="application/json" id="points">{data(measurements)}</script>' if len(scripts) > 1 else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(style, scripts)}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>{safe(title)}</title>\n<link rel="icon" href="data:,">\n<style>{style}</style>\n</head>\n'
        f'<body>\n<a class="skip" href="#main">To the content</a>\n'
        f"<header><h1>{safe(title)}</h1><p>{safe(_summary(measurements))}</p>{_contents(sections)}</header>\n"
        f'<main id="main">{"".join(sections)}</main>\n{points}'
        f"{''.join(f'<script>{script}</script>' for script in scripts)}\n</body>\n</html>\n"
    )


@cache
def _asset(name: str) -> str:
    """A script, without the line that would have a browser's inspector ask for its source map."""
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
    "plot": "Plot",
    "all": "Every measurement",
    "matrix": "Device × runtime × model",
    "gains": "Gained",
    "path": "The path",
    "sustained": "Long loads",
    "samples": "Samples",
    "training": "Training",
    "lineage": "How it was made",
    "devices": "Devices",
}


def _contents(sections: Sequence[str]) -> str:
    body = "".join(sections)
    links = "".join(
        f'<li><a href="#{id}">{words}</a></li>' for id, words in CONTENTS.items() if f'<section id="{id}"' in body
    )
    return f'<nav aria-label="Contents"><ul>{links}</ul></nav>' if links else ""


def _summary(measurements: Sequence[Measurement]) -> str:
    if not measurements:
        return "Nothing was measured."
    targets = list(dict.fromkeys(m.target for m in measurements))
    invalid = sum(bool(m.invalid) for m in measurements)
    text = f"{_count(len(measurements), 'measurement')} on {_count(len(targets), 'target')}: {', '.join(targets)}"
    return text + (f"; {invalid} invalid, shown grey and not ranked" if invalid else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def _advice(measurements: Sequence[Measurement]) -> str:
    found = advice(measurements)
    if not found:
        return ""
    return f'<section id="ship"><h2>What to ship</h2><div class="cards">{"".join(map(_card, found))}</div></section>'


def _card(item: Advice) -> str:
    said = "".join(f"<p>{safe(text)}</p>" for text in item.ship[1:])
    costs = "".join(f"<li>{safe(text)}</li>" for text in item.costs)
    doubts = "".join(f"<li>{safe(text[:1].upper() + text[1:])}</li>" for text in item.unproven)
    return (
        f"<article><h3>{safe(item.target)}{safe(item.plan)}</h3><p><strong>{safe(item.ship[0])}</strong></p>{said}"
        f"{f'<h4>What it costs</h4><ul>{costs}</ul>' if costs else ''}"
        f"{f'<h4>What is not proven</h4><ul>{doubts}</ul>' if doubts else ''}</article>"
    )


def _pictures(measurements: Sequence[Measurement]) -> str:
    found = scopes(measurements)
    if not found:
        return ""
    figures = "".join(_figure(scope, shown, i) for i, (scope, shown) in enumerate(found.items()))
    return f'<section id="plot"><h2>Metric, latency and size</h2>{explore(measurements)}{figures}</section>'


def _figure(scope: Scope, measurements: Sequence[Measurement], number: int) -> str:
    """Drawn twice, for a wide window and for a phone, for who runs no scripts; the style shows the one that fits."""
    wide, narrow = inline(scope, measurements, WIDE, f"p{number}w"), inline(scope, measurements, NARROW, f"p{number}n")
    reached = [
        f"Nothing beats these in {scope.metric}, p50, file and memory together ({provenance}), fastest first: "
        f"{', '.join(m.artifact for m in front)}."
        for provenance, front in unbeaten(measurements).items()
    ]
    return (
        f'<figure data-scope="{number}"><figcaption><h3>{safe(scope.target)}</h3>'
        f'<p class="soft">{safe(scope)}</p></figcaption>'
        f'<div class="still"><div class="wide">{wide}</div><div class="narrow">{narrow}</div></div>'
        f"{''.join(f'<p>{safe(line)}</p>' for line in reached)}</figure>"
    )


def _gains(measurements: Sequence[Measurement]) -> str:
    found = gains(measurements)
    if not found:
        return ""
    several = len({m.target for m in measurements}) > 1
    items = "".join(f"<li>{_gain(gain, several)}</li>" for gain in found)
    return f'<section id="gains"><h2>What compression gained</h2><ul>{items}</ul></section>'


def _gain(gain: Gain, several: bool) -> str:
    changes = ", ".join(
        f'{name} <strong class="bad">{safe(text.lower())}</strong>' if worse else f"{name} {safe(text)}"
        for name, text, worse in gain.parts()
    )
    where = f" on {safe(gain.target)}" if several else ""
    return f"<b>{safe(gain.artifact)}</b> against {safe(gain.against)}{where}: {changes}."


def _sustained(measurements: Sequence[Measurement]) -> str:
    shown = [m for m in measurements if isinstance(m.facts.get("sustained"), Mapping)]
    figures = "".join(_long(m, m.facts["sustained"]) for m in shown)
    return f'<section id="sustained"><h2>Under a long load</h2>{figures}</section>' if shown else ""


def _long(m: Measurement, found: Mapping[str, Any]) -> str:
    energy = ""
    if m.facts.get("energy_mj") is not None:
        words = f"{m.facts['energy_mj']:.3g} mJ per inference ({m.facts.get('energy_source', '?')})."
        energy = f"<p>{safe(words)}</p>"
    title = f"{m.artifact} on {m.target}, {m.runtime}"
    return (
        f"<figure><figcaption><h3>{safe(title)}</h3><p>{safe(sustained.summary(found))}.</p></figcaption>"
        f"{sustained.picture(found, title, page=False)}{energy}</figure>"
    )
