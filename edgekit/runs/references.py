"""References on the command line → run folders and artifacts.

`RUN`, `RUN/NAME`, a foreign model (a file's path, a Hugging Face directory, or `net.py:make`), or nothing: the newest
run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgekit.core import errors, registry, user_code
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.networks import hugging_face
from edgekit.runs.store import ARTIFACT, Store

RUNS = Path("runs")

#: the step that imports a network defined in code
NETWORK = "import_network"
#: the step that imports a Hugging Face directory
DIRECTORY = "import_hf"


@dataclass(frozen=True)
class ModelReference:
    """What a reference names: a run folder and an artifact in it ("": all), or a foreign model and its importer."""

    store: Store
    name: str = ""
    foreign: str = ""
    importer: str = ""

    def artifact(self) -> Artifact:
        """The stored artifact that is named; of a whole run its float root. Raises InputError where it has none."""
        return self.store.get(self.name or float_root(self.store))


def resolve(text: str | None, out: Path | None = None) -> ModelReference:
    """Resolve a reference. Raises InputError if it names neither a run, an artifact nor a model.

    `out` is the run folder of a foreign model, and the run that is meant if there is no text. What is made from an
    artifact is stored beside it: raises InputError if `out` is another folder than the artifact's.
    """
    if not text:
        return _run(out or newest_run())
    if importer := _importer(text):
        stem = Path(text.rpartition(":")[0] if importer == NETWORK else text).stem
        name = Path(text).resolve().name if importer == DIRECTORY else stem
        return ModelReference(Store(out or RUNS / name), foreign=text, importer=importer)
    ref = _stored(text)
    if out and out.resolve() != ref.store.path.resolve():
        why = f"what is made from it is stored beside it, not in {out}"
        raise InputError(
            f"{text} is in the run {ref.store.path}", why, "leave out --out (EDGEKIT_OUT), or name a copy of the run"
        )
    return ref


def _run(path: Path) -> ModelReference:
    if not Store(path).names():
        raise InputError(f"there are no artifacts in {path}", next="name a run folder, or make one with edgekit run")
    return ModelReference(Store(path))


def _stored(text: str) -> ModelReference:
    path = Path(text)
    if (path / ARTIFACT).is_file():
        return ModelReference(Store(path.parent), path.name)
    if path.is_dir():
        return _run(path)
    if Store(path.parent).names():
        hint = errors.suggest(path.name, Store(path.parent).names())
        raise InputError(f"there is no artifact {path.name!r} in {path.parent}", next=hint)
    known = ", ".join(_suffixes())
    next = f"make a run with edgekit run, or name a model: a file ({known}), a folder with config.json, or net.py:make"
    raise InputError(f"{text!r} is neither a run nor an artifact", "there is no such folder", next)


def newest_run() -> Path:
    """The run folder under `runs/` that changed last. Raises InputError if there is none."""
    folders = [path for path in RUNS.iterdir() if Store(path).names()] if RUNS.is_dir() else []
    if not folders:
        raise InputError("there is no run in runs/", next="make one with edgekit run, or name an artifact")
    return max(folders, key=lambda path: max((path / name).stat().st_mtime_ns for name in Store(path).names()))


def float_root(store: Store) -> str:
    """The name of the run's first root artifact. Raises InputError if it has none."""
    roots = [artifact.name for artifact in store.current() if artifact.parent() is None]
    if not roots:
        raise InputError(f"{store.path} has no float model to start from", next="edgekit train, or edgekit run")
    plain = [name for name in roots if "." not in name]
    return (plain or roots)[0]


def is_model_file(text: str) -> bool:
    """Is this the path of a model file, by its suffix?"""
    return Path(text).suffix in _suffixes()


def _importer(text: str) -> str:
    """The step that imports the foreign model that the reference names, "" if it names none."""
    path = Path(text)
    importer = next((step for suffix, step in _suffixes().items() if path.suffix == suffix), "")
    if path.is_dir():
        return DIRECTORY if _is_checkpoint(path) else ""
    if importer:
        return importer
    return NETWORK if user_code.is_reference(text) else ""


def _is_checkpoint(path: Path) -> bool:
    """Is it a Hugging Face directory, which is no artifact? Raises InputError if it is a run, too."""
    if not hugging_face.is_directory(path) or (path / ARTIFACT).is_file():
        return False
    if Store(path).names():
        what = f"{path} is a run and a Hugging Face directory"
        raise InputError(what, f"it holds artifacts and {hugging_face.CONFIG}", f"name an artifact: {path}/NAME")
    return True


def _suffixes() -> dict[str, str]:
    """File suffix → the step that imports such files."""
    return {suffix: name for name, step in registry.members("steps", "import_") for suffix in step.suffixes}


def load(artifact: str | None = None) -> Artifact:
    """The stored artifact of a reference (RUN: its float root; None: the newest run's). Raises InputError."""
    ref = resolve(artifact)
    if ref.foreign:
        raise InputError(f"{ref.foreign} is not in a run yet", next=f"edgekit import {ref.foreign}")
    return ref.artifact()
