"""What a runtime must and may offer.

A runtime's file is pushed to devices, so it inherits nothing of edgekit. What it offers is read from its class once,
into a record with a default for everything that is optional.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: in a runtime's `formats`: it takes every format
ANY = "*"

#: what the runner calls; besides these a runtime is made with (model, threads, precision, specs)
METHODS = ("prepare_imports", "bind", "facts")


@dataclass(frozen=True)
class Runtime:
    """A runtime as its class declares it; see `edgekit/runtimes/onnxruntime.py` for one.

    `formats` that it executes and `package`, the distribution that brings it, are required.

    `extra`: the extra, of the distribution that the runtime's file is in, which brings `package`. `precisions`: what it
    can compute float layers in. `versions`: the versions of `package` that are known to work, and `architectures` those
    that it has wheels for: both enter the targets that `edgekit targets add` writes. `older`: the requirements of a
    predecessor with the same interpreter, tried where `package` has no wheel, and `older_lacks` the precisions that it
    does not run. `needs_edgekit`: it builds the model with edgekit, so it runs on this machine only. `computes`: its
    outputs are the model's. `library`: where its C library lies in its wheel, `library_versions` those that the native
    runner knows, and `android_library` what Android's build is called; "": not for devices without Python.

    `profile(model, folder, repeat)`: the time of each operator. `problems(model, operators, size)`: why the version
    that is installed here cannot run a model (its path, or its bytes without weights) with operators of these types.
    """

    name: str
    cls: type
    formats: tuple[str, ...]
    package: str
    extra: str = ""
    precisions: tuple[str, ...] = ("fp32",)
    versions: str = ""
    architectures: tuple[str, ...] = ()
    older: tuple[str, ...] = ()
    older_lacks: tuple[str, ...] = ()
    needs_edgekit: bool = False
    computes: bool = True
    library: str = ""
    library_versions: str = ""
    android_library: str = ""
    profile: Callable[..., Any] | None = None
    problems: Callable[[Path | bytes, Sequence[str], int], list[str]] | None = None

    def takes(self, format: str) -> bool:
        """Does it execute models of this format?"""
        return format in self.formats or ANY in self.formats

    def prepare_imports(self) -> None:
        """Import what it needs. Raises ImportError."""
        self.cls.prepare_imports()  # type: ignore[attr-defined]
