"""What is compared: the rows of run folders and results files, over one test set, under names that tell runs apart."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from edgekit.core.errors import InputError
from edgekit.core.measurement import Measurement
from edgekit.runs import attempts, references
from edgekit.runs.store import RESULTS, Store, read_results

SourcedRows = Sequence[tuple[str, Measurement]]


def collect(sources: Sequence[str], chosen: str = "") -> list[tuple[str, Measurement]]:
    """(source, row) for every row of the sources, in order; left out: the newest run. `chosen`: the one test set.

    Raises InputError where there are none, and where they are over different test sets.
    """
    words = list(sources) or [str(references.newest_run())]
    found = [(word, m) for word in words for m in rows_of(word)]
    kept = [(word, m) for word, m in found if _is_over(m, chosen)] if chosen else found
    over = _test_sets(kept)
    if chosen and not over:
        there = ", ".join(sha[:12] for sha in _test_sets(found)) or "none has a metric"
        raise InputError(f"nothing here is over a set {chosen}", f"there is {there}", "choose one of them with --set")
    if len(over) > 1:
        raise _different_sets(over, words)
    return kept


def rows_of(word: str) -> list[Measurement]:
    """What a run folder or a results file holds. Raises InputError."""
    path = Path(word)
    if not path.is_dir():
        return read_results(path)
    found = attempts.without_trials(Store(path))
    if not found:
        raise InputError(f"{path} has no measurements", next=f"edgekit bench {path}")
    return found


def _is_over(m: Measurement, chosen: str) -> bool:
    return m.metric is None or m.metric.set_sha256.startswith(chosen)


def _test_sets(found: SourcedRows) -> dict[str, dict[str, int]]:
    """Test set → the sources that have rows over it, with the samples in it."""
    over: dict[str, dict[str, int]] = {}
    for word, m in found:
        if m.metric:
            over.setdefault(m.metric.set_sha256, {})[word] = m.metric.samples
    return over


def _different_sets(over: Mapping[str, Mapping[str, int]], words: Sequence[str]) -> InputError:
    """Names each set with its sources; next: the sources that are over one set, else --set."""
    said = [
        f"{next(iter(found.values())):,} samples of set {sha[:12]} in {', '.join(found)}" for sha, found in over.items()
    ]
    whole = [w for w in words if sum(w in found for found in over.values()) <= 1]
    sha, first = max(over.items(), key=lambda item: sum(w in whole for w in item[1]))
    mine = [w for w in dict.fromkeys(words) if w in first and w in whole]
    alone = f"edgekit compare {' '.join(mine)}, or " if mine else ""
    return InputError(
        "these results are over different test sets",
        "; ".join(said),
        f"{alone}choose one: --set {sha[:12]}",
    )


def disambiguated(found: SourcedRows) -> list[Measurement]:
    """The rows, where one name stands for different artifacts with their runs' names before it: `cars/onnx-int8`."""
    ids: dict[str, dict[str, str]] = defaultdict(dict)
    for word, m in found:
        ids[m.artifact].setdefault(m.id, run_title(word))
    rows = []
    for word, m in found:
        here = run_title(word)

        def name(old: str, run: str = here) -> str:
            return f"{run}/{old}" if len(ids.get(old, ())) > 1 else old

        same = ids[m.artifact]
        own = name(m.artifact, same[m.id])
        if len(same) > 1 and list(same.values()).count(same[m.id]) > 1:
            own = f"{own} ({m.id[:6]})"
        rows.append(
            replace(
                m,
                artifact=own,
                parents=tuple(name(parent) for parent in m.parents),
                metric=replace(m.metric, against=m.metric.against and name(m.metric.against)) if m.metric else None,
                parity=replace(m.parity, against=name(m.parity.against)) if m.parity else None,
            )
        )
    return rows


def run_title(source: str) -> str:
    """The run's name: of the folder, for a results file in it too."""
    path = Path(source).resolve()
    return path.parent.name if path.name == RESULTS else path.stem if path.suffix == ".json" else path.name


def run_folders(sources: Sequence[str]) -> list[Path]:
    """The run folders among the sources, and those that results files lie in."""
    paths = [Path(source) for source in sources] or [references.newest_run()]
    return [path if path.is_dir() else path.parent for path in paths]
