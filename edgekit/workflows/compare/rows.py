"""The rows to compare: those of run folders and results files, over one test set, with unambiguous names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.core.errors import InputError
from edgekit.core.measurement import Measurement
from edgekit.runs import attempts, references, results
from edgekit.runs.store import ARTIFACT, RESULTS, Store

SourcedRows = Sequence[tuple[str, Measurement]]


def collect(sources: Sequence[str], chosen: str = "", metric: str = "") -> list[tuple[str, Measurement]]:
    """(source, row) for every row of the sources, in order (default: the newest run). `chosen`: one test set only,
    `metric`: one metric only, by its name.

    Raises InputError if there are none, if they are over different test sets, or in different metrics.
    """
    words = list(sources) or [str(references.newest_run())]
    rows = [(word, m) for word in words for m in rows_of(word)]
    selected = [(word, m) for word, m in rows if is_over(m, chosen)] if chosen else rows
    over = _test_sets(selected)
    if chosen and not over:
        known = ", ".join(sha[:12] for sha in _test_sets(rows)) or "none, as no row has a metric"
        raise InputError(f"no row is over a set {chosen}", f"the sets are {known}", "choose one of them with --set")
    if len(over) > 1:
        raise _different_sets(over, words)
    return _in_metric(selected, metric)


def rows_of(word: str) -> list[Measurement]:
    """The measurements of a run folder, of an artifact in it, or of a results file. Raises InputError."""
    path = Path(word)
    if not path.is_dir():
        return results.read(path)
    if is_artifact(path):
        rows = [m for m in attempts.without_trials(Store(path.parent)) if m.artifact == path.resolve().name]
    else:
        rows = attempts.without_trials(Store(path))
    if not rows:
        raise InputError(f"{path} has no measurements", next=f"edgekit bench {path}")
    return rows


def is_over(m: Measurement, chosen: str, metric: str = "") -> bool:
    """Is the row over a test set whose sha256 begins so, and in this metric? Rows without a metric are over any."""
    return m.metric is None or (m.metric.set_sha256.startswith(chosen) and metric in ("", m.metric.name))


def _in_metric(rows: SourcedRows, metric: str) -> list[tuple[str, Measurement]]:
    """Those in the metric; all if it is "". Raises InputError if they are in several."""
    known = sorted({m.metric.name for _, m in rows if m.metric})
    metric = "accuracy" if metric == "top1" and metric not in known else metric  # as `bench --metric` calls it
    if metric and metric not in known:
        raise InputError(f"no row has {metric}", f"the metrics are {', '.join(known) or 'none'}", "choose one of them")
    if not metric and len(known) > 1:
        what, next = f"these results are in different metrics: {', '.join(known)}", f"choose one: --metric {known[0]}"
        raise InputError(what, "they cannot be compared", next)
    return [(word, m) for word, m in rows if is_over(m, "", metric)]


def _test_sets(rows: SourcedRows) -> dict[str, dict[str, int]]:
    """Test set → the sources that have rows over it, with its number of samples."""
    over: dict[str, dict[str, int]] = {}
    for word, m in rows:
        if m.metric:
            over.setdefault(m.metric.set_sha256, {})[word] = m.metric.samples
    return over


def _different_sets(over: Mapping[str, Mapping[str, int]], words: Sequence[str]) -> InputError:
    """The error names each set with its sources; its next command compares the sources of one set, or uses --set."""
    descriptions = [
        f"{next(iter(sizes.values())):,} samples of set {sha[:12]} in {', '.join(sizes)}" for sha, sizes in over.items()
    ]
    with_one_set = [w for w in words if sum(w in sizes for sizes in over.values()) <= 1]
    sha, sizes = max(over.items(), key=lambda item: sum(w in with_one_set for w in item[1]))
    comparable = [w for w in dict.fromkeys(words) if w in sizes and w in with_one_set]
    command = f"edgekit compare {' '.join(comparable)}, or " if comparable else ""
    return InputError(
        "these results are over different test sets",
        "; ".join(descriptions),
        f"{command}choose one set: --set {sha[:12]}",
    )


def disambiguated(sourced_rows: SourcedRows) -> list[Measurement]:
    """The rows; artifacts of one name with different ids get the name of their run as a prefix: `cars/onnx-int8`.

    So does a parent without a row in its source, if another source has one of its name: it may be another artifact.
    """
    ids: dict[str, dict[str, str]] = defaultdict(dict)
    for word, m in sourced_rows:
        ids[m.artifact].setdefault(m.id, run_title(word))
    #: source and artifact → its names; artifact and id → the sources with it
    names: dict[tuple[str, str], set[str]] = defaultdict(set)
    words: dict[tuple[str, str], list[str]] = defaultdict(list)
    for word, m in sourced_rows:
        names[word, m.artifact].add(_name(m, ids[m.artifact]))
        words[m.artifact, m.id].append(word)

    def parent(old: str, word: str, m: Measurement) -> str:
        """The name of the parent `old` of `m`: of the row in its source, or in another one that has `m`, too."""
        found = next((names[w, old] for w in (word, *words[m.artifact, m.id]) if (w, old) in names), None)
        if found and len(found) == 1:
            return next(iter(found))
        return f"{run_title(word)}/{old}" if old in ids else old

    return [
        replace(
            m,
            artifact=_name(m, ids[m.artifact]),
            parents=tuple(parent(old, word, m) for old in m.parents),
            metric=replace(m.metric, against=m.metric.against and parent(m.metric.against, word, m))
            if m.metric
            else None,
            parity=replace(m.parity, against=parent(m.parity.against, word, m)) if m.parity else None,
        )
        for word, m in sourced_rows
    ]


def _name(m: Measurement, runs: Mapping[str, str]) -> str:
    """Its name; `runs`: id → run, of all artifacts with this name."""
    if len(runs) == 1:
        return m.artifact
    name = f"{runs[m.id]}/{m.artifact}"
    return f"{name} ({m.id[:6]})" if list(runs.values()).count(runs[m.id]) > 1 else name


def run_title(source: str) -> str:
    """The name of the run folder, also for an artifact or the results file in it; else that of the results file."""
    path = Path(source).resolve()
    if is_artifact(path):
        return path.parent.name
    return path.parent.name if path.name == RESULTS else path.stem if path.suffix == ".json" else path.name


def run_folders(sources: Sequence[str]) -> list[Path]:
    """The run folders of the sources; for a results file or an artifact, the folder that contains it."""
    paths = [Path(source) for source in sources] or [references.newest_run()]
    return [path if path.is_dir() and not is_artifact(path) else path.parent for path in paths]


def is_artifact(path: Path) -> bool:
    """Is it an artifact's folder?"""
    return (path / ARTIFACT).is_file()
