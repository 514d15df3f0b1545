"""Run folders: `RUN/NAME/{artifact.json, model.*}`, written atomically and reused if nothing has changed.

An artifact is built in a hidden folder, synced, and moved into place by one rename; `artifact.json` is written last. So
an incomplete artifact never counts, and killing the program loses no finished one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgekit import networks, tasks
from edgekit.core import errors, identity, registry
from edgekit.core.artifact import SCHEMA, Artifact, Kind, ModelFacts, Parent, Sizes, TensorSpec
from edgekit.core.errors import EdgekitError, InputError, Locked, is_disk_full, no_space, os_errors
from edgekit.core.files import sha256, sync, write_atomically
from edgekit.core.local_paths import names_only, portable, resolved
from edgekit.core.measurement import Measurement
from edgekit.core.progress import Progress, quiet
from edgekit.core.registry import step_name
from edgekit.core.samples import SampleSet
from edgekit.core.step import Context, Step, StepResult, references
from edgekit.core.task import Task
from edgekit.formats import model_file
from edgekit.runs import inherited_signature, named_sets, results
from edgekit.runs.results import OtherSchema

ARTIFACT, RESULTS, REPORT = "artifact.json", "results.json", "report.html"

LOG, RECIPE, LOCK = "log.txt", "recipe.toml", ".lock"

#: some samples of a set, for the report
SAMPLES = "samples-{}.json"


class Store:
    """One run folder. Opening it creates nothing; `lock` creates it, and is required before anything is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._sets: dict[tuple[str, tuple[TensorSpec, ...]], SampleSet] = {}

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the folder. Raises Locked if another edgekit process holds the lock, NoPermission, NoSpace."""
        from filelock import FileLock, Timeout

        with os_errors("write", self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / LOCK)
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise Locked(
                    f"another edgekit is working in {self.path}", "it holds the lock", "wait for it, or use --out RUN"
                ) from error
        try:
            self._recover()
            yield
        finally:
            lock.release()

    def names(self) -> tuple[str, ...]:
        """The artifacts in the folder, oldest first."""
        if not self.path.is_dir():
            return ()
        folders = [p for p in self.path.iterdir() if not p.name.startswith(".") and (p / ARTIFACT).is_file()]
        return tuple(p.name for p in sorted(folders, key=lambda p: ((p / ARTIFACT).stat().st_mtime_ns, p.name)))

    def get(self, name: str) -> Artifact:
        """A stored artifact. Raises InputError if it does not exist or is damaged."""
        path = self.path / name
        if not (path / ARTIFACT).is_file():
            hint = errors.suggest(name, self.names())
            raise InputError(f"there is no artifact {name!r} in {self.path}", next=hint)
        artifact = _read(path)
        for file, digest in artifact.files.items():
            if not (path / file).is_file() or sha256(path / file) != digest:
                what = f"{path / file} is not the file that edgekit wrote"
                raise InputError(what, "its sha256 differs", "run the command again that made it")
        return artifact

    def parent(self, artifact: Artifact, role: str = "parent") -> Artifact | None:
        """The artifact it was made from, None for a root. Raises InputError if that one has been replaced since."""
        link = artifact.parent(role)
        if link is None:
            return None
        parent = self.get(link.name)
        if parent.id != link.id:
            what = f"{artifact.name} was made from an earlier {parent.name}"
            raise InputError(what, f"{parent.name} has been replaced since", f"make {artifact.name} again")
        return parent

    def root(self, artifact: Artifact) -> Artifact:
        """The float root of the artifact's chain: its first ancestor, or that of its teacher.

        A student replaces its teacher, so its accuracy drop is relative to the teacher's root.
        """
        parent = self.parent(artifact) or self.parent(artifact, "teacher")
        return self.root(parent) if parent else artifact

    def current(self) -> tuple[Artifact, ...]:
        """Every undamaged artifact whose ancestors are unchanged; parents before children."""
        artifacts = []
        for name in self.names():
            try:
                self.root(artifact := self.get(name))
            except InputError:
                continue
            artifacts.append(artifact)
        return tuple(artifacts)

    def reusable(self, name: str, id: str) -> Artifact | None:
        """The stored artifact if it is undamaged and has this id, else None."""
        try:
            artifact = self.get(name)
        except EdgekitError:
            return None
        return artifact if artifact.id == id else None

    def id(self, step: Step, inputs: Mapping[str, Artifact], context: Context) -> str:
        """Hash of the step, its fields and the code behind it, all parents' ids, the sets' sha256, and the versions of
        the tools.
        """
        what = {
            "schema": SCHEMA,
            "step": step_name(step),
            "code": _code(step, inputs, context.task),
            "fields": _fields(step),
            "parents": {role: artifact.id for role, artifact in inputs.items()},
            "files": {role: sha256(Path(getattr(step, role))) for role in _file_roles(step, inputs)},
            "further files": [sha256(path) for path in step.files()],
            "sets": {role: data.sha256 for role, data in context.sets.items()},
            "task": context.task.name if context.task else "",
            "tools": tools(step),
        }
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    def make(self, name: str, step: Step, inputs: Mapping[str, Artifact], context: Context) -> Artifact:
        """Apply the step and store its artifact, replacing an outdated artifact of that name."""
        making, scratch = self.path / f".making-{name}", self.path / f".scratch-{self.id(step, inputs, context)}"
        context = replace(context, scratch=scratch)
        with os_errors("write", making):
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            scratch.mkdir(exist_ok=True)
        try:
            with os_errors("write", making), _disk_full(making):
                notes = step.apply(inputs, making, context)
                if step.produces.is_model and context.task is not None and context.task.ship is not None:
                    context.task.ship(making, inputs)
                artifact = self._record(name, step, inputs, context, notes, making)
                _write_json(making / ARTIFACT, _to_json(artifact))
                _sync(making)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            with suppress(OSError):
                scratch.rmdir()  # what an interrupted step left in it stays
            raise
        with os_errors("write", artifact.path):
            self._swap(making, artifact.path)
        shutil.rmtree(scratch, ignore_errors=True)
        return artifact

    def copy(self, artifact: Artifact, name: str) -> Artifact:
        """Copy the artifact to another name, without its measurements and checks."""
        if existing := self.reusable(name, artifact.id):
            return existing
        making = self.path / f".making-{name}"
        copied = replace(artifact, name=name, path=self.path / name)
        with os_errors("write", making):
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            for file in artifact.files:
                (making / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(artifact.path / file, making / file)
            _write_json(making / ARTIFACT, _to_json(copied))
            _sync(making)
            self._swap(making, copied.path)
        return copied

    def set(self, text: str, like: tuple[TensorSpec, ...] = (), progress: Progress = quiet) -> SampleSet:
        """A SET, loaded once, decoded for a model with the inputs `like`."""
        if (text, like) not in self._sets:
            self._sets[text, like] = named_sets.load(text, like, progress)
        return self._sets[text, like]

    def has(self, text: str, like: tuple[TensorSpec, ...] = ()) -> bool:
        """Has this SET been loaded?"""
        return (text, like) in self._sets

    def measurements(self) -> dict[str, Measurement]:
        """Every stored measurement by its key, except those of artifacts that have changed since."""
        current = set()
        for name in self.names():
            with suppress(InputError):
                current.add((name, _read(self.path / name).id))
        stored = read_results(self.path / RESULTS) if (self.path / RESULTS).is_file() else []
        return {m.key: m for m in stored if (m.artifact, m.id) in current}

    def add(self, measurement: Measurement) -> None:
        """Store a measurement, replacing one with the same key."""
        measurements = {**self.measurements(), measurement.key: measurement}
        document = {"schema": SCHEMA, "measurements": [dataclasses.asdict(m) for m in measurements.values()]}
        write_atomically(self.path / RESULTS, json.dumps(names_only(document), indent=1) + "\n")

    def _record(
        self, name: str, step: Step, inputs: Mapping[str, Artifact], context: Context, notes: StepResult, folder: Path
    ) -> Artifact:
        format, file = registry.load("formats", step.produces.format), model_file(step.produces, folder)
        facts: ModelFacts = format.describe(file)
        inherited = [licence for parent in inputs.values() for licence in parent.licences]
        licences = tuple(dict.fromkeys([*inherited, *(context.task.licences if context.task else ())]))
        model_inputs, model_outputs = inherited_signature.specs(facts, notes, inputs, context)
        is_signed = any(spec.signature for spec in (*model_inputs, *model_outputs))
        if inputs and step.produces.is_model and is_signed:  # an imported file stays as it is
            format.sign(file, model_inputs, model_outputs)
            facts = format.describe(file)
        return Artifact(
            name=name,
            id=self.id(step, inputs, context),
            kind=step.produces,
            step=step_name(step),
            fields=_fields(step),
            parents=tuple(Parent(role, parent.name, parent.id) for role, parent in inputs.items()),
            task=context.task.name if context.task else "",
            inputs=model_inputs,
            outputs=model_outputs,
            sizes=facts.sizes,
            files={str(p.relative_to(folder)): sha256(p) for p in sorted(folder.rglob("*")) if p.is_file()},
            path=self.path / name,
            scheme=names_only(notes.scheme),
            tools=tools(step),
            sets={role: data.sha256 for role, data in context.sets.items()},
            tensors=notes.tensors,
            licences=licences,
            details=names_only({**notes.details, **inherited_signature.details(step.produces, context.sets)}),
        )

    def _swap(self, new: Path, path: Path) -> None:
        old = path.with_name(f".old-{path.name}")
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)
            path.rename(old)
        new.rename(path)
        sync(self.path)
        shutil.rmtree(old, ignore_errors=True)

    def _recover(self) -> None:
        """Finish or undo what a killed process left; it leaves only hidden folders and files."""
        for old in self.path.glob(".old-*"):
            path = old.with_name(old.name.removeprefix(".old-"))
            if path.exists():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.rename(path)
        for making in self.path.glob(".making-*"):
            shutil.rmtree(making, ignore_errors=True)
        for part in self.path.glob(".*.part"):
            part.unlink(missing_ok=True)


def tools(step: Step) -> dict[str, str]:
    """Distribution → installed version ("": not installed) of edgekit and every package that the step uses."""
    versions = {}
    for name in step.tools:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions


def read_results(path: Path) -> list[Measurement]:
    """The measurements in a results file. Raises InputError if it is not one, or of another schema version."""
    with os_errors("read", path):
        text = path.read_bytes()
    try:
        return results.parse(json.loads(text))
    except OtherSchema as error:
        what = f"{path} has the schema {str(error)!r}"
        next = "measure again, or use the edgekit that wrote it"
        raise InputError(what, f"this edgekit reads {SCHEMA}", next) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not an edgekit results file", str(error), "name a run folder or results.json"
        ) from error


def _file_roles(step: Step, inputs: Mapping[str, Artifact]) -> list[str]:
    return [role for role in references(step) if role not in inputs and Path(getattr(step, role) or " ").is_file()]


def _code(step: Step, inputs: Mapping[str, Artifact], task: Task | None) -> dict[str, str]:
    """Hashes of the code that decides what the step makes: its own, its networks', and its tasks'."""
    fields = dataclasses.fields(step)  # type: ignore[arg-type]
    unset = frozenset(field.name for field in fields if not getattr(step, field.name))
    closure = identity.closure(type(step), unset, _loaders(step, inputs))
    hashes, used = {"step": closure.digest}, frozenset(closure.of_task)
    for role in references(step, "network"):
        name = getattr(step, role) or (task.models[0] if task and task.models else "")
        hashes[role] = identity.of_member("models", name) if name else ""
    for role in references(step, "task"):
        task_name = getattr(step, role)
        hashes[role] = identity.of_methods(type(tasks.load(task_name)), used) if task_name else ""
    if task is not None and closure.reads_task:
        hashes["task"] = identity.of_methods(type(task), used)
    if task is not None and step.produces.is_model and task.ship is not None:
        hashes["ship"] = identity.of_methods(type(task), frozenset({"ship"}))
    return hashes


def _loaders(step: Step, inputs: Mapping[str, Artifact]) -> Mapping[str, frozenset[str]]:
    """Which loaders of networks can be in use: those of the step's inputs. A file may name any other."""
    torch = [artifact.path for artifact in inputs.values() if artifact.kind.format == "torch"]
    torch += [Path(getattr(step, role)).parent for role in _file_roles(step, inputs)]
    known = [folder for folder in torch if (folder / networks.NETWORK).is_file()]
    loaders = {str(networks.reference(folder).get("loader", "named")) for folder in known}
    return {networks.__name__: frozenset(loaders)} if known else {}


def _fields(step: Step) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(step)))  # type: ignore[call-overload]
    return values


def _to_json(artifact: Artifact) -> dict[str, Any]:
    data = {f.name: getattr(artifact, f.name) for f in dataclasses.fields(artifact) if f.name not in ("path", "kind")}
    nested = {
        "parents": [dataclasses.asdict(p) for p in artifact.parents],
        "inputs": [s.to_json(signed=True) for s in artifact.inputs],
        "outputs": [s.to_json(signed=True) for s in artifact.outputs],
        "sizes": dataclasses.asdict(artifact.sizes),
    }
    paths = {"fields": artifact.fields, "task": artifact.task}
    return {
        "schema": SCHEMA,
        "kind": str(artifact.kind),
        **data,
        **nested,
        **portable(paths, artifact.path.parent),
    }


def _read(path: Path) -> Artifact:
    """The artifact's record. Raises InputError if it is damaged, or of another schema version."""
    with os_errors("read", path / ARTIFACT):
        text = (path / ARTIFACT).read_bytes()
    try:
        data = json.loads(text)
        if data.pop("schema", SCHEMA) != SCHEMA:
            what = f"{path} was written by another version of edgekit"
            raise InputError(what, next="make it again in a new run folder")
        data |= resolved({key: data[key] for key in ("fields", "task")}, path.parent)
        data["kind"] = Kind.parse(data["kind"])
        data["parents"] = tuple(Parent(**entry) for entry in data["parents"])
        data["inputs"] = tuple(map(TensorSpec.from_json, data["inputs"]))
        data["outputs"] = tuple(TensorSpec.from_json(spec, output=True) for spec in data["outputs"])
        data["sizes"] = Sizes(**data["sizes"])
        return Artifact(**{**data, "licences": tuple(data["licences"]), "path": path})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        what = f"{path / ARTIFACT} is damaged"
        raise InputError(what, str(error), "run the command again that made it") from error


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            sync(path)
    sync(folder)


@contextmanager
def _disk_full(folder: Path) -> Iterator[None]:
    """Raises NoSpace for a full disk that a library reports in an exception of its own."""
    try:
        yield
    except (EdgekitError, OSError):
        raise
    except Exception as error:
        if is_disk_full(str(error)):
            raise no_space(f"cannot write {folder}", str(error)) from error
        raise
