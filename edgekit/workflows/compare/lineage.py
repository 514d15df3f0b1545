"""What a report shows of run folders besides measurements: the lineage, training and predictions of each artifact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.history import is_history
from edgekit.core.json import read, record
from edgekit.core.measurement import Measurement
from edgekit.core.relative_paths import inside
from edgekit.report.boxes import Box, ByClass
from edgekit.report.confusion import Confusion
from edgekit.report.lineage import Lineage, Link, RunDetails, Sample, SamplePredictions
from edgekit.runs.store import SAMPLES, Store


def gather(folders: Iterable[Path], measurements: Sequence[Measurement]) -> RunDetails:
    """Gather the details of the measured artifacts in these run folders; damaged or missing ones are left out."""
    lineages: dict[str, Lineage] = {}
    predictions: dict[str, list[SamplePredictions]] = {}
    samples: dict[str, tuple[Sample, ...]] = {}
    trainings: dict[str, Sequence[Mapping[str, Any]]] = {}
    for folder in dict.fromkeys(folders):
        store, records = Store(folder), _Records(Store(folder))
        for m in measurements:
            artifact = records.get(_stored_name(m))
            if artifact is None or artifact.id != m.id:
                continue
            if m.id not in lineages:
                lineages[m.id] = Lineage(m.artifact, m.id, tuple(_links(artifact, records)), artifact.licences)
            for ancestor in filter(None, map(records.get, (link.name for link in lineages[m.id].links))):
                history: Any = ancestor.details.get("history") or _pruned(ancestor).get("history")
                if is_history(history):
                    trainings[ancestor.name] = [{**entry, "epoch": number} for number, entry in enumerate(history, 1)]
            stored = _predictions(m, artifact, store)
            if stored is not None and all(other.artifact != m.artifact for other in predictions.get(stored[0], ())):
                predictions.setdefault(stored[0], []).append(stored[1])
                samples.setdefault(stored[0], _samples(store, stored[0]))
    by_set = {
        sha: (samples[sha], tuple(of_set))
        for sha, of_set in predictions.items()
        if samples[sha] or any(model.by_class for model in of_set)
    }
    return RunDetails(lineages, by_set, trainings)


def _stored_name(m: Measurement) -> str:
    """Its artifact's name in the run folder: without what `rows.disambiguated` adds."""
    return m.artifact.rpartition("/")[2].removesuffix(f" ({m.id[:6]})")


@dataclass(frozen=True)
class _Answer:
    text: str
    right: bool | None
    boxes: tuple[Box, ...] | None = None


@dataclass(frozen=True)
class _Answers:
    """One artifact's file of predictions (`measure/sample_predictions`)."""

    set_sha256: str
    answers: tuple[_Answer, ...]
    confusion: Confusion | None = None
    by_class: ByClass | None = None


@dataclass(frozen=True)
class _Samples:
    """The run's file of samples (`measure/sample_predictions`)."""

    samples: tuple[Sample, ...]


def _pruned(artifact: Artifact) -> Mapping[str, Any]:
    pruned = artifact.details.get("pruned")
    return pruned if isinstance(pruned, Mapping) else {}


class _Records:
    """The artifacts of a store, each read once; None for a missing or damaged one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._artifacts: dict[str, Artifact | None] = {}

    def get(self, name: str) -> Artifact | None:
        if name not in self._artifacts:
            self._artifacts[name] = None
            with suppress(InputError):
                self._artifacts[name] = self._store.get(name)
        return self._artifacts[name]


def _links(artifact: Artifact, records: _Records) -> list[Link]:
    """The artifact and all its ancestors, roots first."""
    links: dict[str, Link] = {}
    seen, pending = {artifact.id}, [artifact]
    while pending:
        one = pending[-1]
        ancestors = [records.get(p.name) for p in one.parents]
        unseen = [a for a, p in zip(ancestors, one.parents, strict=True) if a and a.id == p.id and a.id not in seen]
        if unseen:
            seen.add(unseen[0].id)
            pending.append(unseen[0])
            continue
        pending.pop()
        links[one.id] = Link(
            one.name,
            one.id,
            one.step,
            {name: value for name, value in one.fields.items() if value not in (None, "", False, [], {})},
            tuple(parent.name for parent in one.parents),
            one.sizes.total,
            one.scheme,
            dict(one.sets),
            dict(one.tools),
        )
    return list(links.values())


def _predictions(m: Measurement, artifact: Artifact, store: Store) -> tuple[str, SamplePredictions] | None:
    with suppress(InputError):
        path = inside(artifact.path, f"answers-{m.key}.json")
        stored = record(_Answers, read(path), path, newer=True)
        pairs = tuple((answer.text, answer.right) for answer in stored.answers)
        found = tuple(answer.boxes for answer in stored.answers)
        model = SamplePredictions(m.artifact, m.runtime, m.target, pairs, stored.confusion, stored.by_class, found)
        return stored.set_sha256, model
    return None


def _samples(store: Store, set_sha256: str) -> tuple[Sample, ...]:
    with suppress(InputError):
        path = inside(store.path, SAMPLES.format(set_sha256.replace("/", "-")))
        return record(_Samples, read(path), path, newer=True).samples
    return ()
