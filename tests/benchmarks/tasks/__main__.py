"""Every task end to end, on real data: `make bench-tasks` writes the tables and pictures in docs/tasks.

Trained networks and finished measurements are reused, so an interrupted run resumes. `--no-latency` measures
the metric only, which neighbours cannot disturb.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from pictures import examples, picture
from rows import ROWS, Row
from tiny import table as tiny_table

from edgekit import tasks
from edgekit.core import progress, statistics
from edgekit.measure.execute import execute, runtimes_for
from edgekit.runs import graph
from edgekit.runs.store import Store
from edgekit.workflows import make, run, setup

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs" / "tasks"
#: what --only calls the sizes of MLPerf Tiny's networks
TINY = "mlperf-tiny"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="a recipe's name, or mlperf-tiny; again for more")
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument(
        "--quick", action="store_true", help="a setting that learns within seconds; docs are left alone"
    )
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "tasks")
    chosen = parser.parse_args()
    if (not chosen.only or TINY in chosen.only) and not chosen.quick:
        write(DOCS / "README.md", TINY, tiny_table())
    for row in ROWS:
        if not chosen.only or row.recipe in chosen.only:
            started = time.monotonic()
            lines = measured(row, chosen.runs / (row.recipe + ("-quick" if chosen.quick else "")), chosen)
            print("\n".join([f"\n{row.recipe} ({time.monotonic() - started:.0f} s)", *lines]), flush=True)
            if not chosen.quick:
                write(DOCS / f"{row.page}.md", row.recipe, lines)


def measured(row: Row, out: Path, chosen: argparse.Namespace) -> list[str]:
    """The row's table, as Markdown."""
    made = run.resolved_recipe(row.recipe, row.quick if chosen.quick else ())
    if not chosen.no_latency:
        run.run(row.recipe, out=out, settings=row.quick if chosen.quick else (), say=tell)
    store, task = Store(out), tasks.load(made.task)
    context = setup.run_context(store, task, made.targets, made.plan, made.gates, progress.quiet, tell)
    with store.lock():
        context.val = context.set(f"{task.name}:val")
        artifacts = make.make(graph.nodes(made, context.targets), context, {})
        test = context.set(f"{task.name}:test")
    entries, roots, others, first = [], {}, {}, None
    judge = tasks.load(row.also) if row.also else None
    for artifact in artifacts.values():
        runtime = runtimes_for(artifact, context.targets[0])[0]
        kept = [m for m in store.measurements().values() if m.id == artifact.id and m.metric and m.latency_ms]
        if kept:
            entries.append((artifact, runtime, kept[-1].metric, kept[-1].latency_ms, bool(kept[-1].invalid)))
        if kept and not judge and (first or not row.picture):
            continue
        outputs = execute(artifact, context.targets[0], test, made.plan, runtime=runtime, latency=False).outputs
        first = first or outputs
        if judge:
            others[artifact.name] = judge.score(outputs, test.labels)  # type: ignore[arg-type]
        if kept:
            continue
        scores = task.score(outputs, test.labels)  # type: ignore[arg-type]
        root = roots.setdefault(store.root(artifact).id, scores)
        metric = statistics.metric(scores, test.sha256, root if root is not scores else None, store.root(artifact).name)
        entries.append((artifact, runtime, metric, None, False))
    lines = table(row, entries, others, {f.artifact: f for f in context.outcome.findings})
    lines += [f"Not made: {failure}" for failure in context.outcome.failures]
    if row.picture == "examples":
        lines += examples(task, test, first)
    elif row.picture and not chosen.quick:
        DOCS.mkdir(parents=True, exist_ok=True)
        (DOCS / f"{row.recipe}.svg").write_text(picture(row.picture, task, test, first))
        lines += ["", f"![{row.picture} of {entries[0][0].name}]({row.recipe}.svg)"]
    return lines


def shown(value: float, fraction: bool) -> str:
    return f"{value:.1%}" if fraction else f"{value:.3f}"


def table(row: Row, entries: list[Any], others: dict[str, Any], findings: dict[str, Any]) -> list[str]:
    also = next(iter(others.values())).name if others else ""
    names = f"{entries[0][2].name} | {also}" if also else entries[0][2].name
    lines = [f"| artifact | runtime | {names} | drop | budget | size, kB | p50, ms |", "|---" * (7 + bool(also)) + "|"]
    for artifact, runtime, metric, latency, invalid in entries:
        fraction = metric.unit == "fraction"
        low, high = metric.ci95
        value = shown(metric.value, fraction) + f" ({shown(low, fraction)} to {shown(high, fraction)})"
        if also:
            value += f" | {shown(others[artifact.name].value, others[artifact.name].unit == 'fraction')}"
        drop = "–" if metric.drop_pp is None else f"{metric.drop_pp:+.2f} {'pp' if fraction else '%'}"
        found = findings.get(artifact.name)
        verdict = found.verdict.state if found and found.verdict else "–"
        time_ = "–" if latency is None else f"{latency.p50:.3g}" + (" (disturbed)" if invalid else "")
        size = f"{artifact.sizes.total / 1000:.1f}"
        lines.append(f"| {artifact.name} | {runtime} | {value} | {drop} | {verdict} | {size} | {time_} |")
    lines.append("")
    if row.baseline:
        what, value_ = row.baseline()
        best = entries[0][2]
        beaten = best.value > value_ if best.higher_is_better else best.value < value_
        judged = f"{entries[0][0].name} is {'better' if beaten else 'not better'}"
        lines.append(f"Baseline on the same split: {what}, {shown(value_, best.unit == 'fraction')}; {judged}.")
    return lines


def write(page: Path, recipe_name: str, lines: list[str]) -> None:
    """Put the lines between the page's marks, at its end where it has none."""
    page.parent.mkdir(parents=True, exist_ok=True)
    text = page.read_text() if page.exists() else f"# {page.stem}\n"
    start, end = f"<!-- measured: {recipe_name} -->", "<!-- end -->"
    block = "\n".join([start, *lines, end])
    if start in text:
        before, _, rest = text.partition(start)
        text = before + block + rest.partition(end)[2]
    else:
        text = f"{text.rstrip()}\n\n{block}\n"
    page.write_text(text)


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
