"""The Python API: what the commands do, as functions. The command line calls these.

Each takes ARTIFACT words as the command line does, works in a run folder, and returns an `Outcome`. `say` is told one
line per step, `progress` wraps long loops; both are silent unless given.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgekit import (
    comparison,
    exhibits,
    fleet,
    optimization,
    pipeline,
    refs,
    registry,
    score,
    search,
    sets,
    targets,
    tasks,
)
from edgekit import recipe as recipes
from edgekit.errors import AnswerNo, InputError, os_errors
from edgekit.flows import (
    Say,
    finished,
    flow_for,
    is_task,
    plan_with,
    runnable,
    task_of,
    test_set,
    threads_of,
    validation,
    working,
)
from edgekit.flows import silent as silent
from edgekit.gating import gate as gate
from edgekit.networks import WEIGHTS
from edgekit.pipeline import Flow, Outcome
from edgekit.recipe import Gates, Node, Recipe
from edgekit.refs import RUNS, Ref
from edgekit.report import html
from edgekit.routes import format_of, installed_exporters, route, step_named, suffix_of
from edgekit.store import LOCK, LOG, RECIPE, REPORT, RESULTS, SAMPLES, Store, write_atomically
from edgekit.training import processes, session
from edgekit.types import (
    Artifact,
    Context,
    Measurement,
    Plan,
    Progress,
    Step,
    quiet,
)
from edgekit.verify import Verifier


def load(artifact: str | None = None) -> Artifact:
    """The stored artifact that a word names (RUN: its float root; None: the newest run's). Raises InputError."""
    ref = refs.resolve(artifact)
    if ref.foreign:
        raise InputError(f"{ref.foreign} is not in a run yet", next="edgekit bench or quantize import it")
    return ref.store.get(ref.name or refs.float_root(ref.store))


def run(
    recipe: str = recipes.STARTER,
    *,
    out: Path | None = None,
    settings: Sequence[str] = (),
    target_names: Sequence[str] = (),
    plan: dict[str, Any] | None = None,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """The whole flow of a recipe (a shipped name or a .toml): make, verify, measure. Reuses what has not changed.

    Raises RecipeError before any work where the recipe cannot work, Missing where a package is not installed.
    """
    made = resolved_recipe(recipe, settings, target_names, plan)
    store = Store(out or RUNS / recipes.find(recipe).stem)
    task = tasks.load(made.task)
    flow = flow_for(store, task, made.targets, made.plan, made.gates, progress, say)
    pipeline.check_installed(recipes.nodes(made, flow.targets))
    for target in flow.targets:
        targets.device(target)  # one that nothing can reach is refused before any work
    with working(store):
        import tomli_w

        write_atomically(store.path / RECIPE, tomli_w.dumps(recipes.to_table(made)))
        flow.val = flow.set(f"{task.name}:val")
        outcome = pipeline.run(made, flow, flow.set(f"{task.name}:test"))
        write_atomically(
            store.path / REPORT,
            html(outcome.measurements, f"edgekit run {recipe}", exhibits.gather([store.path], outcome.measurements)),
        )
        return outcome


def resolved_recipe(
    recipe: str, settings: Sequence[str] = (), target_names: Sequence[str] = (), plan: dict[str, Any] | None = None
) -> Recipe:
    """The recipe with everything from the command line in it, checked."""
    made = recipes.load(recipe, settings, {"targets": list(target_names)} if target_names else None)
    if len(threads_of(made.plan, plan)) > 1:
        raise InputError("a run measures with one number of threads", next="sweep with edgekit bench --threads 1,2,4")
    return replace(made, plan=plan_with(made.plan, plan))


def would_do(recipe: Recipe, store: Store) -> list[tuple[str, str, str]]:
    """(name, step, "made" or "reused") for each artifact of the recipe, nothing done."""
    task = tasks.load(recipe.task)
    found = []
    made: dict[str, Artifact | None] = {}
    for node in recipes.nodes(recipe, [targets.load(name) for name in recipe.targets]):
        inputs = {role: made.get(name) for role, name in node.parents.items()}
        kept = None
        if all(inputs.values()):
            present = {role: artifact for role, artifact in inputs.items() if artifact}
            like = present["parent"].inputs if "parent" in present else ()
            data = {role: store.set(text, like) for role, text in node.step.sets(task).items()}
            context = Context(task, data, quiet, pipeline.log)
            kept = store.reusable(node.name, store.id(node.step, present, context))
        made[node.name] = kept
        found.append((node.name, recipes.step_name(node.step), "reused" if kept else "made"))
    return found


def train(
    task: str = recipes.STARTER,
    *,
    model: str = "",
    out: Path | None = None,
    progress: Progress = quiet,
    say: Say = silent,
    resume: bool | None = None,
    tensorboard: Path | None = None,
    workers: int | None = None,
    **fields: Any,
) -> Outcome:
    """Train a network of a task; `fields` are those of the train step (epochs, lr, batch, seed, init, accelerator).

    What was interrupted goes on; `resume` True insists on that, False starts anew. `tensorboard`: a folder for its
    log. `workers`: processes that decode a streamed set. Raises InputError, Missing, or Diverged.
    """
    made = tasks.load(task)
    first = next(iter(made.models), model)
    if not first:
        raise InputError(f"{task} brings no network of its own", next="name one: --model net.py:Net")
    model = model or first
    start = _start(fields.get("init", ""))
    if start is not None:
        fields["init"] = start.name
    step: Step = registry.load("steps", "train")(model=model, **fields)
    problems = list(step.check(made))
    if problems:
        raise InputError("cannot train", "; ".join(problems), "see edgekit train --help")
    name = "torch" if model == first else f"{tasks.stem(model)}.torch"
    store = Store(out or RUNS / tasks.stem(task))
    flow = flow_for(store, made, ["host"], Plan(), Gates(), progress, say)
    inputs = {} if start is None else {"init": start}
    if start is not None and start.path.absolute() == (store.path / name).absolute():
        raise InputError(f"this would replace {name}, which it starts from", next="put it elsewhere with --out")
    node = Node(name, step, {role: artifact.name for role, artifact in inputs.items()})
    if resume:
        _insist(node, inputs, flow)
    now = session.from_environment()
    board, helpers = tensorboard or now.tensorboard, now.workers if workers is None else workers
    with session.using(replace(now, tensorboard=board, resume=resume is not False, workers=helpers)):
        return _train_together(node, inputs, flow) if processes.started() > 1 else _trained(node, inputs, flow)


def _start(init: str) -> Artifact | None:
    """The artifact that `init` names; None where it names weights elsewhere. Raises InputError for another kind."""
    if not init or init.startswith("timm:") or Path(init).is_file():
        return None
    if not Path(init).is_dir():
        raise InputError(f"there are no weights {init!r}", "no such file, nor an artifact", "see edgekit train --help")
    found = load(init)
    if found.kind.format != "torch" or not (found.path / WEIGHTS).is_file():
        raise InputError(f"{init} is {found.kind}", "training starts from a torch artifact", "name that one")
    return found


def _trained(node: Node, inputs: Mapping[str, Artifact], flow: Flow) -> Outcome:
    return _make([node], flow, {artifact.name: artifact for artifact in inputs.values()})


def _insist(node: Node, inputs: Mapping[str, Artifact], flow: Flow) -> None:
    """Raises InputError where no training of just this kind was interrupted, or is finished."""
    data = {role: flow.set(text) for role, text in node.step.sets(flow.task).items()}
    id = flow.store.id(node.step, inputs, Context(flow.task, data, flow.progress, pipeline.log))
    if not (flow.store.path / f".scratch-{id}").is_dir() and flow.store.reusable(node.name, id) is None:
        what = f"there is nothing to resume in {flow.store.path}"
        raise InputError(what, "no training with just these options was interrupted there", "leave out --resume")


def _train_together(node: Node, inputs: Mapping[str, Artifact], flow: Flow) -> Outcome:
    """In one of several processes: the first writes to the store, the others only learn."""
    with processes.joined(getattr(node.step, "accelerator", "auto")) as group:
        if group.rank == 0:
            try:
                return _trained(node, inputs, flow)
            finally:
                group.release()
        if group.wait():
            data = {role: flow.set(text) for role, text in node.step.sets(flow.task).items()}
            with tempfile.TemporaryDirectory() as place:
                node.step.apply(inputs, Path(place), Context(flow.task, data, quiet, pipeline.log))
    return flow.outcome


def import_model(
    source: str,
    *,
    weights: str = "",
    task: str = "",
    out: Path | None = None,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """Bring a model from elsewhere into a run: a file, or the user's own code (`net.py:make`), which is run.

    `weights` fill a network that is code; `task` is what the model is for, and builds a network by name (`cnn`).
    Raises InputError for what is not a model, Missing.
    """
    by_name = source in registry.names("models")
    ref = Ref(Store(out or RUNS / source), "", source, refs.NETWORK) if by_name else refs.resolve(source, out)
    if not ref.foreign:
        raise InputError(f"{source} is in a run already", next=f"edgekit inspect {source}")
    made = tasks.load(task) if task else None
    importer = registry.load("steps", ref.importer)
    step: Step = importer(source, weights, task) if ref.importer == refs.NETWORK else importer.of(source)
    if weights and ref.importer != refs.NETWORK:
        raise InputError(f"{source} holds its weights", "there is nothing to fill", "leave out the weights")
    if problems := list(step.check(made)):
        raise InputError(f"cannot import {source}", "; ".join(problems), "see edgekit import --help")
    flow = flow_for(ref.store, made, ["host"], Plan(), Gates(), progress, say)
    return _import(step, ref, flow)


def export(
    artifact: str | None = None,
    *,
    to: Sequence[str] = (),
    out: Path | None = None,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """Export a float artifact to each format (all that are installed, where none is named), verified."""
    ref = refs.resolve(artifact, out)
    source = format_of(ref)
    formats = to or [name for name in installed_exporters() if name not in (source, "torch")]
    return _extend(ref, [route(source, name) for name in formats], Plan(), Gates(), "host", "", {}, progress, say)


def quantize(
    artifact: str | None = None,
    *,
    precision: str = "int8",
    to: Sequence[str] = (),
    calibration: str = "",
    val: str = "",
    max_drop_pp: float | None = None,
    strict: bool = False,
    rungs: Sequence[str] = (),
    target: str = "host",
    out: Path | None = None,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """Make int8, fp16 or dynamic artifacts within the budget; the attempt is kept where the budget is missed.

    Int8 is found by climbing the ladder of `edgekit.search`, or those of its `rungs` that are named; with a budget
    the climb ends at the first that keeps it. Raises InputError where calibration samples, or labels for an explicit
    budget, are wanting.
    """
    ref = refs.resolve(artifact, out)
    source = format_of(ref)
    if ref.foreign and precision == "int8" and not calibration:
        raise InputError(
            f"{ref.foreign} comes without calibration samples",
            "int8 needs typical inputs to find the ranges of the activations",
            "pass --calibration SET (an .npz with one array per input, or task:split)",
        )
    possible = [name for name in installed_exporters() if f"{name}_{precision}" in registry.names("steps")]
    formats = to or ([source] if source != "torch" else possible)
    routes = {name: route(source, name) for name in formats}
    fields = {"calibration": calibration} if calibration else {}
    gates = Gates(max_drop_pp=Gates().max_drop_pp if max_drop_pp is None else max_drop_pp, strict=strict)
    if max_drop_pp is not None and ref.foreign and (not val or not sets.labelled(val)):
        raise InputError("--max-drop needs labels", "accuracy cannot be told without", "pass --val SET with labels")
    if precision != "int8":
        chains = [[*route, f"{name}_{precision}"] for name, route in routes.items()]
        return _extend(ref, chains, Plan(), gates, target, val, fields, progress, say)
    if unknown := [name for name in rungs if name not in search.RUNGS]:
        raise InputError(f"there is no rung {unknown[0]!r}", next=registry.suggest(unknown[0], search.RUNGS))
    return _climb(
        ref, routes, rungs or search.RUNGS, max_drop_pp is not None, gates, target, val, fields, progress, say
    )


def _climb(
    ref: Ref,
    routes: dict[str, list[str]],
    rungs: Sequence[str],
    budget: bool,
    gates: Gates,
    target: str,
    val: str,
    fields: dict[str, Any],
    progress: Progress,
    say: Say,
) -> Outcome:
    """The float model of each format, then the ladder on each."""
    start, flow = _opened(ref, gates, target, val, fields, progress, say)
    suffix = suffix_of(flow.targets[0])
    for name in routes:
        step = step_named(f"{name}_int8", fields, flow.task)
        if problems := list(step.check(flow.task)):
            raise InputError("this cannot be done", "; ".join(problems), "mend the options")
        pipeline.check_installed([Node(name, step, {})])
    nodes, ends = _nodes(start, list(routes.values()), fields, flow, suffix)
    if any(start.kind.precision for name in routes if ends[list(routes).index(name)] == start.name):
        raise InputError(
            f"{start.name} is {start.kind.precision} already", "there is nothing to do", "start from float"
        )
    pipeline.check_installed(nodes)
    with working(flow.store):
        made = {start.name: start, **pipeline.make(nodes, flow, {start.name: start})}
        for format, end in zip(routes, ends, strict=True):
            if end not in made:
                continue  # its export broke, which is in the failures
            resolved = step_named(f"{format}_int8", fields, flow.task)
            differs = suffix and resolved.resolve(flow.targets[0]) != resolved.resolve(targets.load("host"))
            climb = search.Climb(flow, made[end], fields, budget, suffix if differs else "")
            try:
                ladder = climb.run(tuple(rungs))
            except AnswerNo as no:  # no rung made anything: the other formats may fare better
                flow.outcome.failures.append(no)
                flow.say(f"  failed    {climb.ladder.name}: {no}")
                continue
            flow.outcome.ladders.append(ladder)
            if ladder.chosen:
                flow.outcome.artifacts.append(ladder.chosen)
            if ladder.confirmed:
                flow.outcome.findings.append(ladder.confirmed)
            if error := climb.error():
                flow.outcome.failures.append(error)
    return flow.outcome


def verify(
    artifact: str | None = None,
    *,
    against: str = "",
    val: str = "",
    target: str = "host",
    layers: bool = False,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """Check arrows again: one artifact's, or every one in a run. Failures are in the outcome.

    `layers`, or a failure: how near each operator is to the float model's goes into `layers.json` beside the artifact.
    """
    from edgekit.quantization.layers import examine

    ref = stored(refs.resolve(artifact), progress, say)
    store = ref.store
    chosen = [store.get(ref.name)] if ref.name else finished(store)
    flow = flow_for(store, task_of(chosen), [target], Plan(), Gates(), progress, say)
    flow.val = validation(flow, val, chosen[0])
    with working(store):
        verifier = Verifier(store, flow.targets[0], flow.val, flow.scorer, flow.gates, flow.plan)
        other = store.get(against) if against else None
        for item in chosen:
            (item.path / "verify.json").unlink(missing_ok=True)
            finding = verifier.check(item, registry.load("steps", item.step).keeps, other)
            say(f"  {item.name:<20} {pipeline.describe(finding)}")
            if layers or finding.failed in ("parity", "budget"):
                examine(store, item, other, flow.val, progress)
            flow.outcome.artifacts.append(item)
            flow.outcome.findings.append(finding)
            if error := finding.error():
                flow.outcome.failures.append(error)
    return flow.outcome


def bench(
    artifacts: Sequence[str] = (),
    *,
    target_names: Sequence[str] = (),
    data: str = "",
    plan: dict[str, Any] | None = None,
    out: Path | None = None,
    resume: bool = False,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """Measure artifacts (RUN: every one in it) on each target, always afresh, interleaved; results are kept.

    `out` is the run folder that a foreign model is imported into; `resume` keeps identical measurements.
    """
    outcome = Outcome()
    for ref in [stored(refs.resolve(word, out), progress, say) for word in (artifacts or [""])]:
        store = ref.store
        chosen = [store.get(ref.name)] if ref.name else finished(store)
        skipped = set(store.names()) - {a.name for a in store.current()} if not ref.name else set()
        for name in sorted(skipped):
            say(f"  skipped   {name}: damaged, or made from an artifact that has been made anew since")
        flow = flow_for(
            store, task_of(chosen), target_names or ["host"], plan_with(Plan(), plan), Gates(), progress, say
        )
        samples = flow.set(data, chosen[0].inputs) if data else test_set(flow, chosen)
        if samples.labels is not None and flow.scorer is None:
            flow.scorer = score.scorer(samples.labels)
        with working(store):
            for target in flow.targets:
                targets.device(target)
                runnable(chosen, target)
            plans = [replace(flow.plan, threads=threads) for threads in threads_of(flow.plan, plan)]
            fleet.measure(chosen, flow.targets, samples, flow, plans, reuse=resume)
        outcome.artifacts += chosen
        outcome.measurements += flow.outcome.measurements
        outcome.failures += flow.outcome.failures
    return outcome


def optimize(
    what: str | None = None,
    *,
    target: str = "host",
    budget: optimization.Budget | None = None,
    trials: int = optimization.TRIALS,
    choices: Mapping[str, Sequence[str]] | None = None,
    storage: str = "",
    seed: int = 0,
    epochs: int = 5,
    samples: int = 0,
    calibration: str = "",
    val: str = "",
    plan: dict[str, Any] | None = None,
    out: Path | None = None,
    progress: Progress = quiet,
    say: Say = silent,
) -> Outcome:
    """Search under a budget, for a task (its networks are trained: `epochs`, on `samples`, 0 for all) or an artifact.

    `choices`: dimension → what to try in place of the usual. The outcome's `search` holds all trials, the front and
    what is recommended; where nothing is within the budget, the nearest possible, and a failure. Interrupted, it
    returns what it has. Raises InputError for what cannot be searched, Missing, DeviceError.
    """
    budget = budget or optimization.Budget()
    fields = {"calibration": calibration} if calibration else {}
    start, flow = _searched(what, target, budget, val, fields, out, progress, say)
    flow.plan = plan_with(Plan(), plan)
    training = {"epochs": epochs, "samples": samples, "seed": seed}
    calibrated = flow.task is not None or bool(calibration)
    if not calibrated:
        say("  careful   without --calibration there are no samples to find ranges with: int8 is not tried")
    space = optimization.build(flow.targets[0], flow.task, start, choices or {}, fields, training, calibrated)
    targets.device(flow.targets[0])
    with working(flow.store):
        if start is None:
            assert flow.task is not None
            flow.val = flow.set(f"{flow.task.name}:val")
        assert flow.val is not None
        flow.val, second = search.halves(flow.val)
        test = flow.set(f"{flow.task.name}:test") if flow.task else second
        title = f"edgekit optimize {what or flow.store.path.name}"
        hunt = optimization.Search(flow, space, budget, second, test, seed, trials, storage, title)
        reference = flow.store.root(start) if start else _plain_network(space, flow)
        result = flow.outcome.search = hunt.run(reference)
        if result.artifact:
            flow.outcome.artifacts = [result.artifact]
        flow.outcome.measurements = result.measured
        failure = hunt.failure(result)
        flow.outcome.failures = [failure] if failure else []
    return flow.outcome


def _searched(
    what: str | None,
    target: str,
    budget: optimization.Budget,
    val: str,
    fields: dict[str, Any],
    out: Path | None,
    progress: Progress,
    say: Say,
) -> tuple[Artifact | None, Flow]:
    """The artifact to start from, None for a task; and the flow. Raises InputError."""
    gates = Gates(max_drop_pp=budget.max_drop_pp)
    if what and is_task(what):
        task = tasks.load(what)
        return None, flow_for(Store(out or RUNS / tasks.stem(what)), task, [target], Plan(), gates, progress, say)
    ref = refs.resolve(what, out)
    if out and not ref.foreign:
        raise InputError("--out is for a task or a foreign model", f"{what} lies in {ref.store.path}", "leave it out")
    start, flow = _opened(ref, gates, target, val, fields, progress, say)
    if start.kind.precision:
        raise InputError(
            f"{start.name} is {start.kind.precision} already", "there is little to try", "name a float one"
        )
    return start, flow


def _plain_network(space: optimization.Space, flow: Flow) -> Artifact:
    """The task's network trained as anyone would: what accuracy is counted from."""
    point = space.point()
    step = space.train(point)
    if problems := list(step.check(flow.task)):
        raise InputError("cannot train", "; ".join(problems), "mend the options")
    (name,) = space.names(point, [step])
    pipeline.check_installed([Node(name, step, {})])
    return pipeline.make_one(Node(name, step, {}), {}, flow)


def compare(sources: Sequence[str] = (), *, set: str = "") -> list[Measurement]:
    """The measurements of run folders and results files, in order; `set` chooses a test set by how its sha256 begins.

    Raises InputError where there are none, and where they are over different test sets.
    """
    return [m for _, m in comparison.collected(sources, set)]


def is_run(folder: Path) -> bool:
    """Was this folder made by edgekit?"""
    return folder.is_dir() and (bool(Store(folder).names()) or (folder / LOCK).is_file())


def clean(folder: Path) -> list[str]:
    """Delete what edgekit made in a run folder, and the folder where nothing else is in it; returns what was left."""
    store = Store(folder)
    with store.lock(), os_errors("delete", folder):
        for path in [*(folder / name for name in store.names()), *folder.glob(".scratch-*")]:
            shutil.rmtree(path)
        for path in folder.glob(SAMPLES.format("*")):
            path.unlink()
        for name in (RESULTS, REPORT, RECIPE, LOG, search.LADDER, *optimization.FILES):
            (folder / name).unlink(missing_ok=True)
    (folder / LOCK).unlink(missing_ok=True)
    left = sorted(path.name for path in folder.iterdir())
    if not left:
        folder.rmdir()
    return left


def _extend(
    ref: Ref,
    chains: Sequence[Sequence[str]],
    plan: Plan,
    gates: Gates,
    target: str,
    val: str,
    fields: dict[str, Any],
    progress: Progress,
    say: Say,
) -> Outcome:
    """Hang chains of steps onto one stored artifact; `fields` go to the steps that have them."""
    start, flow = _opened(ref, gates, target, val, fields, progress, say)
    flow.plan = plan
    if not all(chains):
        raise InputError(f"{start.name} is {start.kind} already", "there is nothing to do", "name another format")
    nodes, _ = _nodes(start, chains, fields, flow, suffix_of(flow.targets[0]))
    return _make(nodes, flow, {start.name: start})


def _opened(
    ref: Ref, gates: Gates, target: str, val: str, fields: dict[str, Any], progress: Progress, say: Say
) -> tuple[Artifact, Flow]:
    """The stored artifact to start from, and a flow that checks arrows on the right samples."""
    ref = stored(ref, progress, say)
    start = ref.store.get(ref.name or refs.float_root(ref.store))
    flow = flow_for(ref.store, task_of([start]), [target], Plan(), gates, progress, say)
    flow.val = validation(flow, val, start, str(fields.get("calibration", "")))
    if flow.val.labels is not None and flow.scorer is None:
        flow.scorer = score.scorer(flow.val.labels)
    return start, flow


def _nodes(
    start: Artifact, chains: Sequence[Sequence[str]], fields: dict[str, Any], flow: Flow, suffix: str
) -> tuple[list[Node], list[str]]:
    """What chains of steps will make of one artifact, and the name at the end of each chain.

    Raises InputError for everything that does not fit together.
    """
    nodes: dict[str, Node] = {}
    problems: list[str] = []
    ends = []
    for names in chains:
        before, kind = start.name, start.kind
        for name in names:
            step = step_named(name, fields, flow.task)
            if kind.precision and kind not in step.takes:
                raise InputError(f"{before} is {kind.precision} already", "there is nothing to do", "start from float")
            if kind not in step.takes:
                taken = ", ".join(sorted(map(str, step.takes)))
                raise InputError(f"{name} takes {taken}", f"{before} is {kind}", "start from another artifact")
            problems += list(step.check(flow.task))
            resolved = step.resolve(flow.targets[0])
            made = f"{start.chain}.{step.gives.stem}" if start.chain else step.gives.stem
            if suffix and resolved != step:
                made += suffix
            if made == flow.store.root(start).name:
                raise InputError(f"{name} would replace {made}", f"{start.name} was made from it", f"start from {made}")
            nodes[made] = Node(made, resolved, {"parent": before})
            before, kind = made, step.gives
        ends.append(before)
    if problems:
        raise InputError("this cannot be done", "; ".join(dict.fromkeys(problems)), "mend the options")
    return list(nodes.values()), ends


def _make(nodes: Sequence[Node], flow: Flow, stored: dict[str, Artifact]) -> Outcome:
    pipeline.check_installed(nodes)
    with working(flow.store):
        if flow.val is None and flow.task is not None:
            flow.val = flow.set(f"{flow.task.name}:val")
        pipeline.make(nodes, flow, stored)
    return flow.outcome


def stored(ref: Ref, progress: Progress = quiet, say: Say = silent) -> Ref:
    """The same reference; a foreign model is imported into its run first. Raises InputError for what is not one."""
    if not ref.foreign:
        return ref
    step: Step = registry.load("steps", ref.importer).of(ref.foreign)
    flow = flow_for(ref.store, None, ["host"], Plan(), Gates(), progress, say)
    return Ref(ref.store, _import(step, ref, flow).artifacts[0].name)


def _import(step: Step, ref: Ref, flow: Flow) -> Outcome:
    if registry.is_reference(ref.foreign):
        flow.say(f"  {ref.foreign} is code of your own: it is run as it is")
    return _make([Node(step.gives.stem, step, {})], flow, {})
