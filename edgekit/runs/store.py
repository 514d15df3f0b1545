"""Run folders: `RUN/NAME/{artifact.json, model.*}`, written atomically and reused if nothing has changed.

An artifact is built in a hidden folder, synced, and moved into place by one rename; `artifact.json` is written last. So
an incomplete artifact never counts, and killing the program loses no finished one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgekit import networks, tasks
from edgekit.core import errors, identity, registry, relative_paths, sandbox
from edgekit.core.artifact import SCHEMA, Artifact, Kind, ModelFacts, Parent, TensorSpec, tensor_specs
from edgekit.core.errors import EdgekitError, InputError, Locked, is_disk_full, no_space, os_errors
from edgekit.core.files import sha256, sync
from edgekit.core.json import read, record
from edgekit.core.local_paths import names_only, portable, resolved
from edgekit.core.measurement import Measurement
from edgekit.core.progress import Progress, quiet
from edgekit.core.registry import step_name
from edgekit.core.relative_paths import inside
from edgekit.core.samples import SampleSet
from edgekit.core.signature import InputSignature
from edgekit.core.step import Context, Step, StepResult, references
from edgekit.core.task import Task
from edgekit.formats import model_file
from edgekit.runs import inherited_signature, named_sets, results, written

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
            written.check_lock(self.path / LOCK)
            lock = FileLock(self.path / LOCK)
            try:
                lock.acquire(timeout=0)
            except Timeout as error:
                raise Locked(
                    f"another edgekit is working in {self.path}", "it holds the lock", "wait for it, or use --out RUN"
                ) from error
        try:
            if LOCK not in written.read(self.path):
                written.add(self.path, {LOCK: written.MADE})
            self._recover()
            yield
        finally:
            lock.release()

    def names(self) -> tuple[str, ...]:
        """The artifacts in the folder, oldest first; a link is none."""
        if not self.path.is_dir():
            return ()
        folders = [p for p in self.path.iterdir() if _is_artifact_name(p.name) and not p.is_symlink()]
        folders = [p for p in folders if (p / ARTIFACT).is_file()]
        return tuple(p.name for p in sorted(folders, key=lambda p: ((p / ARTIFACT).stat().st_mtime_ns, p.name)))

    def get(self, name: str) -> Artifact:
        """A stored artifact. Raises InputError if it does not exist or is damaged."""
        path = inside(self.path, name)
        if not (path / ARTIFACT).is_file():
            hint = errors.suggest(name, self.names())
            raise InputError(f"there is no artifact {name!r} in {self.path}", next=hint)
        relative_paths.refuse_links_out(path)
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

        A student replaces its teacher, so its accuracy drop is relative to the teacher's root. Raises InputError if an
        ancestor is missing, damaged or replaced, or if the records name each other in a circle.
        """
        return list(self.ancestry(artifact, ("parent", "teacher")))[-1]

    def ancestry(self, artifact: Artifact, roles: Sequence[str] = ("parent",)) -> Iterator[Artifact]:
        """The artifact, its parent, and so on to a root, each by the first of `roles` that it has. Raises as `root`."""
        names: list[str] = []
        one: Artifact | None = artifact
        while one is not None:
            if one.name in names:
                what, why = f"{artifact.path / ARTIFACT} is damaged", f"{one.name} would be its own ancestor"
                raise InputError(what, why, f"make {artifact.name} again in a new run folder")
            names.append(one.name)
            yield one
            one = next((parent for role in roles if (parent := self.parent(one, role))), None)

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
            "files": {role: _sha256s(path) for role, path in _outside(step, inputs).items()},
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
            written.temporary(self.path, making.name)
            if not inside(self.path, scratch.name).is_dir():
                written.temporary(self.path, scratch.name)
        try:
            with os_errors("write", making), _disk_full(making):
                if self._is_foreign(step, inputs):
                    artifact = self._apart(name, step, inputs, context, making)
                else:
                    artifact = self._apply(name, step, inputs, context, making)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            with suppress(OSError):
                scratch.rmdir()  # what an interrupted step left in it stays
            raise
        with os_errors("write", artifact.path):
            self._swap(making, artifact.path)
        written.discard_temporary(self.path, scratch.name)
        return artifact

    def _apply(self, name: str, step: Step, inputs: Mapping[str, Artifact], context: Context, folder: Path) -> Artifact:
        """Fill the folder."""
        notes = step.apply(inputs, folder, context)
        if step.produces.is_model and "parent" in inputs:
            _ship_tokenizers(inputs["parent"], folder)
        if step.produces.is_model and context.task is not None and context.task.ship is not None:
            context.task.ship(folder, inputs)
        artifact = self._record(name, step, inputs, context, notes, folder)
        self._write_record(artifact, folder)
        return artifact

    def _apart(self, name: str, step: Step, inputs: Mapping[str, Artifact], context: Context, folder: Path) -> Artifact:
        """The same in a child process with limits, whose record is read and checked."""
        samples = sum(array.nbytes for data in context.sets.values() for array in data.inputs.values())
        files = [artifact.path / file for artifact in inputs.values() for file in artifact.files]
        files += [Path(getattr(step, "path", "")), *step.files()]
        size = sandbox.size_of(files)
        limits = sandbox.Limits.converting(size, samples) if inputs else sandbox.Limits.reading(size)
        subject = str(inputs["parent"].path if "parent" in inputs else getattr(step, "path", name))

        def work(progress: Progress) -> None:
            self._apply(name, step, inputs, replace(context, progress=progress), folder)

        formats = {step.produces.format, *(artifact.kind.format for artifact in inputs.values())}
        warm = [name for name in step.tools if name != "torch" or "torch" in formats]
        sandbox.call(work, subject, limits, context.progress, warm, parses=not inputs)
        artifact = _moved(_read(folder), self.path / name)
        expected = {"name": name, "step": step_name(step), "kind": step.produces, "id": self.id(step, inputs, context)}
        if any(getattr(artifact, key) != value for key, value in expected.items()):
            what = f"{subject} cannot be read"
            raise InputError(what, "another artifact was recorded than asked for", "check where the file is from")
        return artifact

    def _is_foreign(self, step: Step, inputs: Mapping[str, Artifact]) -> bool:
        """Does the step read a model file from elsewhere, or convert what was made of one?

        Training is edgekit's own work on a network that was read before; a network defined in code is the user's.
        """
        if not inputs:
            return bool(step.suffixes) or step.reads_files
        if step.produces.format == "torch" and step.preserves != "outputs":
            return False
        try:
            roots = [registry.load("steps", self.root(artifact).step) for artifact in inputs.values()]
            return any(root.suffixes or root.reads_files for root in roots)
        except EdgekitError:  # it is replaced, or its package is gone
            return True

    def copy(self, artifact: Artifact, name: str) -> Artifact:
        """Copy the artifact to another name, without its measurements and checks."""
        if existing := self.reusable(name, artifact.id):
            return existing
        making = self.path / f".making-{name}"
        copied = _moved(replace(artifact, name=name), self.path / name)
        try:
            with os_errors("write", making):
                written.temporary(self.path, making.name)
                for file in artifact.files:
                    (making / file).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(artifact.path / file, making / file)
                self._write_record(copied, making)
                self._swap(making, copied.path)
        except BaseException:
            written.discard_temporary(self.path, making.name)
            raise
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
        stored = results.read(path) if (path := inside(self.path, RESULTS)).is_file() else []
        return {m.key: m for m in stored if (m.artifact, m.id) in current}

    def add(self, measurement: Measurement) -> None:
        """Store a measurement, replacing one with the same key; one without latency gives way to one that has it."""
        measurements = {**self.measurements(), measurement.key: measurement}
        timed = {_subject(m) for m in measurements.values() if m.latency_ms and not m.invalid}
        kept = [m for m in measurements.values() if m.latency_ms or m.invalid or _subject(m) not in timed]
        document = {"schema": SCHEMA, "measurements": [dataclasses.asdict(m) for m in kept]}
        written.write(self.path, RESULTS, json.dumps(names_only(document), indent=1) + "\n")

    def _record(
        self, name: str, step: Step, inputs: Mapping[str, Artifact], context: Context, notes: StepResult, folder: Path
    ) -> Artifact:
        format, file = registry.load("formats", step.produces.format), model_file(step.produces, folder)
        facts: ModelFacts = format.describe(file)
        inherited = [licence for parent in inputs.values() for licence in parent.licences]
        licences = tuple(dict.fromkeys([*inherited, *(context.task.licences if context.task else ())]))
        states = inherited_signature.states(facts, notes, inputs)
        facts = facts.without_states({state.input.name: state.output.name for state in states})
        model_inputs, model_outputs = inherited_signature.specs(facts, notes, inputs, context)
        is_signed = any(spec.signature for spec in (*model_inputs, *model_outputs))
        if inputs and step.produces.is_model and is_signed:  # an imported file stays as it is
            format.sign(file, model_inputs, model_outputs)
            facts = dataclasses.replace(facts, sizes=format.describe(file).sizes)
        return Artifact(
            name=name,
            id=self.id(step, inputs, context),
            kind=step.produces,
            step=step_name(step),
            fields=_fields(step),
            parents=tuple(Parent(role, parent.name, parent.id) for role, parent in inputs.items()),
            task=context.task.name if context.task else "",
            inputs=_with_tokenizers(model_inputs, self.path / name),
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
            states=states,
        )

    def _write_record(self, artifact: Artifact, folder: Path) -> None:
        """Write `artifact.json`, last, and record all files as edgekit's under the artifact's name."""
        text = json.dumps(_to_json(artifact), indent=1, sort_keys=True) + "\n"
        (folder / ARTIFACT).write_text(text, encoding="utf-8")
        files = {**artifact.files, ARTIFACT: hashlib.sha256(text.encode()).hexdigest()}
        written.add(self.path, {f"{artifact.name}/{name}": digest for name, digest in files.items()})
        _sync(folder)

    def _swap(self, new: Path, path: Path) -> None:
        old = path.with_name(f".old-{path.name}")
        self._discard(old)
        if os.path.lexists(path):
            path.rename(old)
        new.rename(path)
        sync(self.path)
        self._discard(old)

    def _discard(self, old: Path) -> None:
        """Delete edgekit's files of a replaced artifact; the user's own in its folder are moved to `NAME.kept`."""
        name = old.name.removeprefix(".old-")
        written.remove(self.path, name, old)
        if os.path.lexists(old):
            written.keep(old, self.path / name)

    def _recover(self) -> None:
        """Finish or undo what a killed process left; it leaves only hidden folders and files."""
        names = written.read(self.path)
        for old in [p for p in self.path.glob(".old-*") if f"{p.name.removeprefix('.old-')}/{ARTIFACT}" in names]:
            path = old.with_name(old.name.removeprefix(".old-"))
            if os.path.lexists(path):
                self._discard(old)
            else:
                old.rename(path)
        for name in names:
            if written.is_temporary(self.path, name, names, ".making-"):
                written.discard_temporary(self.path, name)
            part = (self.path / name).with_name(f".{Path(name).name}.part")
            if part.is_file() and not relative_paths.leads_out(self.path, part):
                part.unlink()
            if written.is_temporary(self.path, name, names, ".scratch-"):
                for part in (self.path / name).glob("**/*.part"):
                    _remove(part)
                with suppress(OSError):
                    (self.path / name).rmdir()  # with nothing in it that a step could resume from


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def step_of(artifact: Artifact) -> Step:
    """The step that made an artifact, from its record. Raises InputError if the step or a field is not known here."""
    step: Step = record(registry.load("steps", artifact.step), artifact.fields, artifact.path / ARTIFACT, key="fields")
    return step


def _subject(m: Measurement) -> tuple[object, ...]:
    """What was measured: the artifact, in what, by which metric and over which samples."""
    over = m.metric and (m.metric.name, m.metric.set_sha256, m.metric.samples)
    return m.artifact, m.id, m.target, m.runtime, over


def tools(step: Step) -> dict[str, str]:
    """Distribution → installed version ("": not installed) of edgekit and every package that the step uses."""
    versions = {}
    for name in step.tools:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = ""
    return versions


def _is_artifact_name(name: str) -> bool:
    return not (relative_paths.problem(name) or name.startswith(".") or written.KEPT.fullmatch(name))


def _outside(step: Step, inputs: Mapping[str, Artifact]) -> dict[str, Path]:
    """Role → the file or folder that it names, which is no artifact of the run."""
    paths = {role: Path(getattr(step, role) or " ") for role in references(step) if role not in inputs}
    return {role: path for role, path in paths.items() if path.is_file() or path.is_dir()}


def _sha256s(path: Path) -> str | dict[str, str]:
    """Of a file, or by name of those in a folder that say what its network is."""
    if path.is_file():
        return sha256(path)
    return {each.name: sha256(each) for each in sorted(path.iterdir()) if each.suffix in (".json", ".safetensors")}


def _code(step: Step, inputs: Mapping[str, Artifact], task: Task | None) -> dict[str, str]:
    """Hashes of the code that decides what the step makes: its own, its networks', and its tasks'."""
    fields = dataclasses.fields(step)  # type: ignore[arg-type]
    unset = frozenset(field.name for field in fields if not getattr(step, field.name))
    closure = identity.closure(type(step), unset, _loaders(step, inputs))
    hashes, used = {"step": closure.digest}, frozenset(closure.of_task)
    for role in references(step, "network"):
        name = getattr(step, role) or (task.default_model if task else "")
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
    torch += [path if path.is_dir() else path.parent for path in _outside(step, inputs).values()]
    known = [folder for folder in torch if (folder / networks.NETWORK).is_file()]
    loaders = {str(networks.reference(folder).get("loader", "named")) for folder in known}
    return {networks.__name__: frozenset(loaders)} if known else {}


def _fields(step: Step) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(step)))  # type: ignore[call-overload]
    return values


def _to_json(artifact: Artifact) -> dict[str, Any]:
    apart = ("path", "kind", "states")
    data = {f.name: getattr(artifact, f.name) for f in dataclasses.fields(artifact) if f.name not in apart}
    nested = {
        "parents": [dataclasses.asdict(p) for p in artifact.parents],
        "inputs": [s.to_json(signed=True) for s in artifact.inputs],
        "outputs": [s.to_json(signed=True) for s in artifact.outputs],
        "sizes": dataclasses.asdict(artifact.sizes),
    }
    if artifact.states:
        nested["states"] = [{"input": s.input.to_json(), "output": s.output.to_json()} for s in artifact.states]
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
    data = read(path / ARTIFACT)
    if data.pop("schema", SCHEMA) != SCHEMA:
        what = f"{path} was written by another version of edgekit"
        raise InputError(what, next="make it again in a new run folder")
    data |= resolved({key: data[key] for key in ("fields", "task") if key in data}, path.parent)
    specs = {side: tensor_specs(data, side, path / ARTIFACT) for side in ("inputs", "outputs")}
    specs["inputs"] = _with_tokenizers(specs["inputs"], path)
    kind = Kind.parse(data["kind"]) if isinstance(data.get("kind"), str) else data.get("kind")
    artifact = record(Artifact, {**data, **specs, "kind": kind, "path": path}, path / ARTIFACT)
    for name in (*artifact.files, artifact.name, *(parent.name for parent in artifact.parents)):
        if why := relative_paths.problem(name):
            raise InputError(f"{path / ARTIFACT} is damaged", why, "run the command again that made it")
    if lacks := "files" if not artifact.files else "outputs" if artifact.kind.is_model and not artifact.outputs else "":
        raise InputError(f"{path / ARTIFACT} is damaged", f"it names no {lacks}", "run the command again that made it")
    return artifact


def _with_tokenizers(specs: tuple[TensorSpec, ...], folder: Path) -> tuple[TensorSpec, ...]:
    """The inputs with the paths of their tokenizers, which are files in the artifact's folder."""

    def found(spec: TensorSpec) -> TensorSpec:
        known = spec.signature
        if not isinstance(known, InputSignature) or not known.tokenizer:
            return spec
        return replace(spec, signature=replace(known, tokenizer=str(inside(folder, Path(known.tokenizer).name))))

    return tuple(map(found, specs))


def _moved(artifact: Artifact, path: Path) -> Artifact:
    return replace(artifact, path=path, inputs=_with_tokenizers(artifact.inputs, path))


def _ship_tokenizers(parent: Artifact, folder: Path) -> None:
    """Copy the tokenizers of a model's inputs to the model that is made of it."""
    for tokenizer in filter(None, (one.tokenizer for one in parent.signature.inputs)):
        path = Path(tokenizer)
        if path.is_file() and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)


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
