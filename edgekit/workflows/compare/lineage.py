"""What a report shows of run folders besides measurements: the lineage, training and predictions of each artifact."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.measurement import Measurement
from edgekit.core.relative_paths import inside
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
            artifact = records.get(m.artifact)
            if artifact is None or artifact.id != m.id:
                continue
            if m.id not in lineages:
                lineages[m.id] = Lineage(m.artifact, m.id, tuple(_links(artifact, records)), artifact.licences)
            for ancestor in filter(None, map(records.get, (link.name for link in lineages[m.id].links))):
                history: Any = ancestor.details.get("history") or (ancestor.details.get("pruned") or {}).get("history")
                if _is_history(history):
                    trainings[ancestor.name] = [{**entry, "epoch": number} for number, entry in enumerate(history, 1)]
            stored = _predictions(m, artifact, store)
            if stored is not None and all(other.artifact != m.artifact for other in predictions.get(stored[0], ())):
                predictions.setdefault(stored[0], []).append(stored[1])
                samples.setdefault(stored[0], _samples(store, stored[0]))
    by_set = {sha: (samples[sha], tuple(of_set)) for sha, of_set in predictions.items() if samples[sha]}
    return RunDetails(lineages, by_set, trainings)


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

    def visit(one: Artifact) -> None:
        for parent in one.parents:
            ancestor = records.get(parent.name)
            if ancestor is not None and ancestor.id == parent.id and ancestor.id not in links:
                visit(ancestor)
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

    visit(artifact)
    return list(links.values())


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(e, dict) and "epoch" in e for e in value)


def _predictions(m: Measurement, artifact: Artifact, store: Store) -> tuple[str, SamplePredictions] | None:
    document = _document(artifact.path, f"answers-{m.key}.json")
    with suppress(KeyError, TypeError, AttributeError):
        pairs = tuple((str(entry["text"]), entry["right"]) for entry in document["answers"])
        return str(document["set_sha256"]), SamplePredictions(m.artifact, m.runtime, m.target, pairs)
    return None


def _samples(store: Store, set_sha256: str) -> tuple[Sample, ...]:
    document = _document(store.path, SAMPLES.format(set_sha256.replace("/", "-")))
    with suppress(KeyError, TypeError, AttributeError):
        return tuple(Sample(int(s["index"]), str(s["label"]), s["png"]) for s in document["samples"])
    return ()


def _document(folder: Path, name: str) -> Mapping[str, Any]:
    with suppress(OSError, ValueError, InputError):
        document = json.loads(inside(folder, name).read_bytes())
        return document if isinstance(document, dict) else {}
    return {}
