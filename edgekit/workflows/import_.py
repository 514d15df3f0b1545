"""`import`: make a model from elsewhere an artifact of a run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from edgekit import tasks
from edgekit.core import registry, user_code
from edgekit.core.artifact import Artifact
from edgekit.core.errors import InputError
from edgekit.core.progress import Progress, quiet
from edgekit.core.signature import Signature
from edgekit.core.signature_text import summary
from edgekit.core.step import Step
from edgekit.core.target import Plan
from edgekit.core.user_code import typed_by_user
from edgekit.measure.context import Outcome, RunContext
from edgekit.networks import signatures
from edgekit.networks.signatures import classes as class_names
from edgekit.runs import references
from edgekit.runs import shapes as given_shapes
from edgekit.runs.graph import Node
from edgekit.runs.recipe import Gates
from edgekit.runs.references import DIRECTORY, NETWORK, RUNS, ModelReference
from edgekit.runs.shapes import Shapes
from edgekit.runs.store import Store
from edgekit.sets import box_annotations
from edgekit.steps.merge import Merge
from edgekit.steps.shared.signed import DETAIL
from edgekit.workflows.make import make_nodes
from edgekit.workflows.setup import Say, run_context, silent

#: endings of files with weights alone
WEIGHTS = (".ckpt", ".pth", ".pt", ".bin", ".safetensors")


@typed_by_user
def import_model(
    source: str,
    *,
    weights: str = "",
    task: str = "",
    model: str = "",
    signature: str = "",
    classes: str = "",
    adapter: str = "",
    out: Path | None = None,
    shapes: Shapes | None = None,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """Import a model into a run: a file, or the user's own code (`net.py:make`), which is run.

    `weights` are loaded into a network defined in code; with `model`, which names that network, `source` is the file
    with them. `task` is the model's task, which is required for a network by name (`cnn`); `shapes`: input name → its
    sizes, batch included ("": the only input), kept for later commands, and those of the example of a network without
    one. `signature` names what its inputs are made from and what its outputs mean:
    a signature file (.toml), a preprocessor_config.json or its folder, or code, which is run; `classes` where its class
    names are: a folder of class folders, a .txt or .json file, or code. `adapter`: a folder of peft's, whose adapters
    are merged into the model, which may be an artifact. Raises InputError for what is not a model, Missing.
    """
    if model and weights:
        why = f"both {source} and {weights} would be its weights"
        raise InputError("import takes one file with weights", why, f"edgekit import {weights} --model {model}")
    if model:
        source, weights = model, source
    elif Path(source).suffix in WEIGHTS:
        why = "it holds weights, and no network"
        raise InputError(f"{source} is not a model", why, f"edgekit import {source} --model net.py:Net")
    by_name = source in registry.names("models")
    ref = (
        ModelReference(Store(out or RUNS / source), "", source, NETWORK) if by_name else references.resolve(source, out)
    )
    if not ref.foreign and adapter:
        return _merged(ref, adapter, progress, say)
    if not ref.foreign:
        raise InputError(f"{source} is already in a run", next=f"edgekit inspect {source}")
    task_object = tasks.load(task) if task else None
    importer = registry.load("steps", ref.importer)
    step: Step = importer.of(source)
    step = shaped(step, ref, shapes)
    if ref.importer == NETWORK:
        step = dataclasses.replace(step, weights=weights, task=task)  # type: ignore[type-var]
    for code in (signature, classes):
        if code and signatures.is_code(code):
            say(f"  running   your own code: {code}")
    if signature or classes:
        step = _with_signature(step, signature, classes, ref)
    if weights and ref.importer != NETWORK:
        raise InputError(f"{source} contains its weights", "no others can be loaded", "leave out --weights")
    if problems := list(step.check(task_object)):
        raise InputError(f"cannot import {source}", "; ".join(problems), "see edgekit import --help")
    context = run_context(ref.store, task_object, ["host"], Plan(), Gates(), progress, say)
    outcome = _import(step, ref, context, adapter)
    given_shapes.store(outcome.artifacts[-1], shapes or {})
    return outcome


def _merged(ref: ModelReference, adapter: str, progress: Progress, say: Say) -> Outcome:
    """The adapters merged into a torch artifact, beside it in its run."""
    parent = ref.artifact()
    if parent.kind.format != "torch":
        what, next = f"{parent.path} is {parent.kind}", "name a torch artifact"
        raise InputError(what, "adapters are merged before a conversion", next)
    task = tasks.load(parent.task) if parent.task else None
    context = run_context(ref.store, task, ["host"], Plan(), Gates(), progress, say)
    node = Node("merged.torch", Merge(adapter=adapter), {"parent": parent.name})
    return make_nodes([node], context, {parent.name: parent})


def _with_signature(step: Step, signature: str, classes: str, ref: ModelReference) -> Step:
    if not any(field.name == "signature" for field in dataclasses.fields(step)):  # type: ignore[arg-type]
        what = f"{ref.importer} takes no signature"
        raise InputError(what, "its package has no such field", "leave out --signature")
    stated = signatures.read(signature) if signature else Signature()
    stated = signatures.with_classes(stated, _class_names(classes) if classes else ())
    return dataclasses.replace(step, signature=stated.to_json())  # type: ignore[type-var]


def shaped(step: Step, ref: ModelReference, shapes: Shapes | None) -> Step:
    """The import of a network in code with the shape of its example input, for one that comes without an example; that
    of a Hugging Face directory with the length of its texts."""
    if ref.importer not in (NETWORK, DIRECTORY) or not shapes:
        return step
    if ref.importer == DIRECTORY:
        return dataclasses.replace(step, length=max(sizes[-1] for sizes in shapes.values()))  # type: ignore[type-var]
    if len(shapes) != 1:
        return step
    (sizes,) = shapes.values()
    return dataclasses.replace(step, shape="x".join(map(str, sizes)))  # type: ignore[type-var]


def ensure_imported(
    ref: ModelReference, progress: Progress = quiet, say: Say = silent, shapes: Shapes | None = None
) -> ModelReference:
    """Import the reference's model into its run if it is a foreign one. Raises InputError if it is not a model."""
    if not ref.foreign:
        return ref
    step = shaped(registry.load("steps", ref.importer).of(ref.foreign), ref, shapes)
    context = run_context(ref.store, None, ["host"], Plan(), Gates(), progress, say)
    return ModelReference(ref.store, _import(step, ref, context).artifacts[0].name)


def _import(step: Step, ref: ModelReference, context: RunContext, adapter: str = "") -> Outcome:
    if user_code.is_reference(ref.foreign):
        context.say(f"  running   your own code: {ref.foreign}")
    name = step.produces.stem
    nodes = [Node(name, step, {})]
    if adapter:
        if name != "torch":
            what, why = f"{ref.foreign} takes no adapters", f"it is imported as {name}"
            raise InputError(what, why, "import the network before its conversion")
        base = f"{name}~{registry.step_name(step)}"
        nodes = [Node(base, step, {}), Node(name, Merge(adapter=adapter), {"parent": base})]
    outcome = make_nodes(nodes, context, {})
    if not outcome.reused:  # said before
        for artifact in outcome.artifacts:
            context.say(f"  {_about_signature(artifact)}")
    return outcome


def _class_names(source: str) -> tuple[str, ...]:
    if box_annotations.are_at(Path(source)):
        return box_annotations.read(Path(source)).classes
    return class_names.read(source)


def _about_signature(artifact: Artifact) -> str:
    """What is known of its inputs and outputs, and from where."""
    detail = artifact.details.get(DETAIL, "")
    if artifact.signature:
        return f"signature from {detail or artifact.step}: {summary(artifact.signature)}"
    why = detail or "nothing says what its inputs are made from"
    return f"note: no signature: {why}; give --signature FILE"
