"""What completes each parameter in a shell: names of members, files and folders.

Nothing is imported before a shell asks (`shells.py`), and no code is run: a `.py` file is only parsed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

MODEL_FILES = (".onnx", ".tflite", ".xml", ".pt2", ".keras")
#: `workflows.quantize.attempts.METHODS`, which takes a second to import
METHODS = ("dynamic", "weight-only", "min-max", "percentile", "mse", "equalize", "gptq", "bias", "keep-float", "qat")
#: `tasks.shared.by_signature.CHOICES`, which takes as long
METRICS = ("top1", "top5", "recall@1")
SPLITS = ("train", "val", "test")
#: at most so many runs and artifacts are looked at
MOST_FOLDERS = 500
#: characters without a meaning in a shell
_PLAIN = re.compile(r"[\w./:@,=+~%-]*")

Names = Callable[[str], Iterator[str]]


def attach(command: click.Command, full: str) -> None:
    """Give the command's parameters what completes them, by name."""
    for parameter in command.params:
        if found := BY_NAME.get(f"{full} {parameter.name}") or BY_NAME.get(str(parameter.name)):
            parameter.shell_complete = _completes(*found)  # type: ignore[assignment, method-assign]


def _completes(*sources: Names) -> Callable[[click.Context, str], list[CompletionItem]]:
    """The names that begin as what was typed; files, if none does."""

    def complete(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = dict.fromkeys(name for source in sources for name in source(incomplete) if _fits(name, incomplete))
        return [CompletionItem(name) for name in names] or [CompletionItem(incomplete, type="file")]

    return complete


def _fits(name: str, incomplete: str) -> bool:
    """Does it continue what was typed? Click's Bash script inserts a name unquoted: shell syntax is left out.

    So is what could steer the terminal.
    """
    return name.startswith(incomplete) and _PLAIN.fullmatch(name) is not None


def _several(source: Names) -> Names:
    """The last of several with commas between."""

    def names(incomplete: str) -> Iterator[str]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        yield from (before + comma + name for name in source(last) if name not in given)

    return names


def _fixed(*names: str) -> Names:
    return lambda incomplete: iter(names)


def _members(group: str) -> Names:
    def names(incomplete: str) -> Iterator[str]:
        from edgekit.core import registry

        yield from registry.names(group)

    return names


def _files(kind: str) -> Names:
    """The names of targets or recipes; those of a working directory that is not trusted are left out."""

    def names(incomplete: str) -> Iterator[str]:
        from edgekit.core import paths

        yield from paths.names(kind)

    return names


def _code(incomplete: str) -> Iterator[str]:
    """`net.py:Net`: the classes and functions of a file, which is read and not run."""
    file, colon, _ = incomplete.partition(":")
    if not colon or not file.endswith(".py") or not Path(file).is_file():
        return
    import ast

    for node in ast.parse(Path(file).read_bytes()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
            yield f"{file}:{node.name}"


def _runs(incomplete: str) -> Iterator[str]:
    """Run folders: those in runs/, and those beside what was typed."""
    typed = incomplete.rpartition("/")[0]
    for folder in dict.fromkeys(["runs", typed or "."] if not typed or typed == "runs" else [typed]):
        for path in _folders(Path(folder)):
            if next(_artifacts_of(path), None):
                yield str(path) if folder != typed else f"{typed}/{path.name}"


def _artifacts(incomplete: str) -> Iterator[str]:
    """Runs; the artifacts of the only one that fits; and model files."""
    runs = [run for run in _runs(incomplete) if run.startswith(incomplete)]
    yield from runs
    folder = runs[0] if len(runs) == 1 else incomplete.rpartition("/")[0]
    if folder:
        yield from (f"{folder}/{name}" for name in _artifacts_of(Path(folder)))
    if "/" not in incomplete:
        yield from sorted(path.name for path in Path().iterdir() if path.suffix in MODEL_FILES)


def _artifacts_of(run: Path) -> Iterator[str]:
    return (path.name for path in _folders(run) if (path / "artifact.json").is_file())


def _folders(folder: Path) -> list[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return []
    names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    return [folder / name for name in names[:MOST_FOLDERS]]


def _sets(incomplete: str) -> Iterator[str]:
    """`task:split`."""
    for task in _members("tasks")(incomplete):
        yield from (f"{task}:{split}" for split in SPLITS)


_formats = _several(_fixed("onnx", "tflite", "openvino"))
_targets, _tasks, _models = _files("targets"), _members("tasks"), _members("models")

#: parameter, or command and parameter → what completes it
BY_NAME: dict[str, tuple[Names, ...]] = {
    "artifact": (_artifacts, _code),
    "artifacts": (_artifacts, _code),
    "teacher": (_artifacts,),
    "init": (_artifacts,),
    "against": (_artifacts, _code),
    "compare against": (_runs,),
    "sources": (_runs,),
    "inspect model": (_artifacts, _code),
    "optimize what": (_tasks, _artifacts, _code),
    "import source": (_code,),
    "run": (_runs,),
    "recipe": (_files("recipes"),),
    "task": (_tasks, _code),
    "model": (_models, _code),
    "data": (_sets, _code),
    "calibration": (_sets, _code),
    "val": (_sets, _code),
    "to": (_formats,),
    "formats": (_formats,),
    "methods": (_several(_fixed(*METHODS)),),
    "distil": (_several(_fixed("logits", "features", "attention")),),
    "runtime": (_members("runtimes"),),
    "runtimes": (_several(_members("runtimes")),),
    "target": (_targets,),
    "target_name": (_targets,),
    "target_names": (_targets,),
    "like": (_targets,),
    "targets show name": (_targets,),
    "targets check name": (_targets,),
    "targets clean name": (_targets,),
}
