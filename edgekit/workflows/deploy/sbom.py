"""The software bill of materials of a bundle, as CycloneDX 1.6 JSON (https://cyclonedx.org/docs/1.6/json)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any
from urllib.parse import quote

from packaging.utils import canonicalize_name

from edgekit import __version__
from edgekit.core.artifact import Artifact
from edgekit.core.errors import DISTRIBUTION
from edgekit.core.files import sha256

FILE = "sbom.cdx.json"


def sbom(artifact: Artifact, packages: Sequence[str], files: Mapping[str, Path]) -> dict[str, Any]:
    """The model, the programs among `files` (name in the bundle → path), and the `packages` that they import.

    A package's version is the one installed here, which computed the outputs that the bundle's check expects. There is
    no time and no random serial number, so equal bundles have equal bills.
    """
    name = f"{artifact.name} {artifact.id}"
    programs = [_file(name, path) for name, path in sorted(files.items()) if name.endswith((".py", ".c", ".h"))]
    libraries = [_package(name) for name in packages]
    model = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": artifact.name,
        "version": artifact.id,
        "licenses": [{"license": {"name": licence}} for licence in artifact.licences],
        "components": [_file(n, path) for n, path in sorted(files.items()) if n.startswith("model/")],
    }
    components = [model, *libraries, *programs]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "component": {"type": "application", "bom-ref": "bundle", "name": name, "version": artifact.id},
            "tools": {"components": [{"type": "application", "name": DISTRIBUTION, "version": __version__}]},
        },
        "components": components,
        "dependencies": [{"ref": "bundle", "dependsOn": [part["bom-ref"] for part in components]}],
    }


def _file(name: str, path: Path) -> dict[str, Any]:
    hashes = [{"alg": "SHA-256", "content": sha256(path)}]
    return {"type": "file", "bom-ref": f"file:{name}", "name": name, "hashes": hashes}


def _package(name: str) -> dict[str, Any]:
    """A distribution of the package index; without a version if it is not installed here."""
    found: dict[str, Any] = {"type": "library", "bom-ref": f"package:{name}", "name": name}
    try:
        installed = distribution(name)
    except PackageNotFoundError:
        return {**found, "purl": f"pkg:pypi/{canonicalize_name(name)}"}
    purl = f"pkg:pypi/{canonicalize_name(name)}@{quote(installed.version)}"
    return {**found, "version": installed.version, "purl": purl, **_licence(installed)}


def _licence(installed: Distribution) -> dict[str, Any]:
    """What the package's metadata says: an SPDX expression, or the first line of its free text."""
    said = installed.metadata
    if "License-Expression" in said:
        return {"licenses": [{"expression": said["License-Expression"]}]}
    lines = said["License"].strip().splitlines() if "License" in said else []
    return {"licenses": [{"license": {"name": lines[0][:100]}}]} if lines else {}
