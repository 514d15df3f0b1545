"""`export`: convert a float artifact to other formats, verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgekit.core.progress import Progress, quiet
from edgekit.core.target import Plan
from edgekit.core.user_code import typed_by_user
from edgekit.measure.context import Outcome
from edgekit.runs import references
from edgekit.runs.recipe import Gates
from edgekit.runs.shapes import Shapes
from edgekit.workflows.chains import extend
from edgekit.workflows.routes import check_options, format_of, installed_exporters, route
from edgekit.workflows.setup import Say, silent


@typed_by_user
def export(
    artifact: str | None = None,
    *,
    to: Sequence[str] = (),
    val: str = "",
    out: Path | None = None,
    shapes: Shapes | None = None,
    options: Mapping[str, Any] | None = None,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """Export a float artifact to each format (default: all installed ones), verified on the SET `val`.

    `shapes`: input name → its sizes, batch included, for random inputs where an axis is open ("": the only input).
    The failure of one format is in the outcome, and does not end the others.
    `options`: fields of the exporters. Raises InputError where a format does not have one.
    """
    ref = references.resolve(artifact, out)
    source = format_of(ref)
    formats = to or [name for name in installed_exporters() if name not in (source, "torch")]
    chains, fields = [route(source, name) for name in formats], dict(options or {})
    check_options(fields, dict(zip(formats, chains, strict=True)))
    return extend(ref, chains, Plan(), Gates(), "host", val, fields, progress, say, shapes)
