"""A deployment bundle: its files and their sha256."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.core.files import sha256

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Bundle:
    """`files`: name in the bundle → local path; `id` is the hash of all files."""

    id: str
    manifest: Mapping[str, Any]
    files: Mapping[str, Path]

    @property
    def sha256(self) -> Mapping[str, str]:
        """Name → sha256, including the manifest's."""
        return {name: sha256(path) for name, path in self.files.items()}

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.files.values())
