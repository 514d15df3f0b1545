"""The path of a chain that makes a network smaller: from its root to what nothing else was made from."""

from __future__ import annotations

from typing import Any

from report.made_up import measurement

from edgekit.core.measurement import Measurement
from edgekit.report import html
from edgekit.report.lineage import Lineage, Link, RunDetails
from edgekit.report.path import paths, section

STEPS = {"torch": "train", "small.torch": "train", "small.torch~prune": "prune", "small.onnx-int8": "qat_onnx"}


def link(name: str, step: str, parents: tuple[str, ...], **fields: Any) -> Link:
    return Link(name, f"id-{name}", step, fields, parents, 1000)


LINKS = (
    link("torch", "train", ()),
    link("small.torch", "train", ("torch",), teacher="torch"),
    link("small.torch~prune", "prune", ("small.torch", "torch")),
    link("small.onnx-int8", "qat_onnx", ("small.torch~prune",)),
)
LINEAGES = {one.id: Lineage(one.name, one.id, LINKS[: index + 1]) for index, one in enumerate(LINKS)}


def measured(name: str, p50: float, **changes: Any) -> Measurement:
    parents = next(one.parents for one in LINKS if one.name == name)
    return measurement(name, p50=p50, id=f"id-{name}", parents=parents, **changes)


ALL = [measured(name, 4.0 / (index + 1)) for index, name in enumerate(STEPS)]


def test_from_the_teacher_to_the_smallest() -> None:
    (path,) = paths(ALL, LINEAGES)
    assert [m.artifact for m in path] == list(STEPS)


def test_the_fastest_valid_measurement_stands_for_an_artifact() -> None:
    slower, spoilt = measured("small.onnx-int8", 9.0), measured("small.onnx-int8", 0.1, invalid=("throttled",))
    (path,) = paths([*ALL[:-1], slower, ALL[-1], spoilt], LINEAGES)
    assert path[-1] is ALL[-1]


def test_a_disturbed_one_stands_where_there_is_no_other() -> None:
    spoilt = measured("small.onnx-int8", 0.1, invalid=("throttled",))
    (path,) = paths([*ALL[:-1], spoilt], LINEAGES)
    assert path[-1] is spoilt


def test_exports_alone_are_no_path() -> None:
    links = (link("torch", "train", ()), link("onnx", "to_onnx", ("torch",)), link("onnx-int8", "onnx_int8", ("onnx",)))
    lineages = {one.id: Lineage(one.name, one.id, links[: index + 1]) for index, one in enumerate(links)}
    found = [measurement(one.name, id=one.id, parents=one.parents) for one in links]
    assert paths(found, lineages) == [] and section(found, RunDetails(lineages)) == ""


def test_without_run_folders_there_is_none() -> None:
    assert section(ALL, RunDetails()) == ""


def test_on_the_page() -> None:
    page = html(ALL, "a run", RunDetails(LINEAGES))
    assert '<section id="path">' in page and 'class="ek-path"' in page and 'href="#path"' in page
