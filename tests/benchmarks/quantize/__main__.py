"""`make bench-quantize`: edgekit's int8 compared with other tools, on twelve networks, in each runtime.

Every tool is given the same float file and the same 256 samples of training data. All files are measured by the same
benchmark code: accuracy on test data, SQNR against the float model, latency with all files of a network interleaved,
size.
Trained networks and files are cached and reused; a network whose data is not available is skipped, with the reason.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# what was learnt must not depend on the number of cores
os.environ.setdefault("OMP_NUM_THREADS", "1")
HERE = Path(__file__).resolve().parent

import networks  # noqa: E402
import peers  # noqa: E402
import table  # noqa: E402
from data import cache  # noqa: E402
from measure import FLOAT, OURS, STATIC, Row, one_line, rows, together  # noqa: E402
from networks import NETWORKS, Made, Network  # noqa: E402

from edgekit import sets, tasks  # noqa: E402
from edgekit.compression.calibration.feeds import fitting  # noqa: E402
from edgekit.core.artifact import Artifact  # noqa: E402
from edgekit.core.errors import (  # noqa: E402
    EdgekitError,
    InputError,
)
from edgekit.core.json import record  # noqa: E402
from edgekit.core.target import (  # noqa: E402
    PRESETS,
    Plan,
)
from edgekit.measure import targets  # noqa: E402
from edgekit.measure.execute import runtimes_for  # noqa: E402
from edgekit.runs import named_sets  # noqa: E402

SAMPLES = 256
QUICK_TEST = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="", help=f"of {','.join(n.name for n in NETWORKS)}; all unless given")
    parser.add_argument("--formats", default="onnx,tflite,openvino")
    parser.add_argument("--quick", action="store_true", help="fewer processes, and 1,000 test samples")
    parser.add_argument("--no-latency", action="store_true")
    parser.add_argument("--json", type=Path, help="write all figures there too")
    parser.add_argument("--folder", type=Path, help="where trained networks and files are kept")
    parser.add_argument(
        "--show", type=Path, nargs="+", metavar="JSON", help="print the tables of figures written before"
    )
    options = parser.parse_args()
    if options.show:
        runs = [[record(Row, row, path) for row in json.loads(path.read_text())["rows"]] for path in options.show]
        print(table.document(together(runs)))
        return
    written = options.json.absolute() if options.json else None
    folder = options.folder.absolute() if options.folder else cache() / "quantize-benchmark"
    wanted = options.networks.split(",") if options.networks else [network.name for network in NETWORKS]
    if unknown := set(wanted) - {network.name for network in NETWORKS}:
        parser.error(f"there is no network {', '.join(sorted(unknown))}")
    os.chdir(HERE)  # tasks and networks of the benchmark's own are named by their files
    plan = Plan(**(PRESETS["quick"] if options.quick else {}))
    found: list[Row] = []
    for network in (network for network in NETWORKS if network.name in wanted):
        try:
            trained = networks.made(network, folder, say)
        except InputError as error:
            say(f"SKIP {network.name}: {error}")
            continue
        for format in options.formats.split(","):
            try:
                found += compared(network, trained, format, folder, plan, options.quick, not options.no_latency)
            except EdgekitError as error:
                say(f"FAILED {network.name}, {format}: {error}")
                found.append(Row(network.name, format, OURS, failed=one_line(error)))
            if written:
                written.write_text(json.dumps(document(found, plan), indent=1) + "\n")
    print(table.document(found))


def compared(
    network: Network, trained: Artifact, format: str, folder: Path, plan: Plan, quick: bool, latency: bool
) -> list[Row]:
    """The rows of one network in one format."""
    task, host = tasks.load(network.task), targets.load("host")
    model = networks.exported(trained, format, say)
    runtime = runtimes_for(model, host)[0]
    files, empty = {FLOAT: model}, {FLOAT: Row(network.name, runtime, FLOAT)}
    feeds = calibration(network, model)
    for name, make in tools(network, trained, model, feeds, folder).items():
        say(f"{network.name}, {runtime}: {name} …")
        try:
            with quiet():
                made = make()
            files[name], empty[name] = made.artifact, Row(network.name, runtime, name, made.how, made.seconds)
            if made.static:
                files[STATIC], how = made.static
                empty[STATIC] = Row(network.name, runtime, STATIC, how, made.seconds)
        except Exception as error:  # a rival may fail in any way; ours, too, is a row then
            empty[name] = Row(network.name, runtime, name, failed=one_line(error))
            say(f"  failed: {error}")
    test = sets.take(named_sets.load(f"{network.task}:test"), QUICK_TEST if quick else 0)
    return rows(files, empty, task, test, host, plan, latency)


def tools(
    network: Network, trained: Artifact, model: Artifact, feeds: Sequence[peers.Feed], folder: Path
) -> Mapping[str, Callable[[], Made]]:
    """Tool → what makes its file; edgekit first."""
    format, place = model.kind.format, folder / "rivals" / network.name

    def rival(peer: peers.Peer) -> Callable[[], Made]:
        def make() -> Made:
            path, seconds = peers.made(peer, model, feeds, place)
            return Made(networks.brought(path, path.parent / "run", silent), seconds)

        return make

    rivals = peers.peers(format, network.dynamic)
    return {OURS: lambda: networks.ours(trained, format, say), **{n: rival(peer) for n, peer in rivals.items()}}


def calibration(network: Network, model: Artifact) -> list[peers.Feed]:
    """The first 256 training samples, one by one, as the model takes them: those that edgekit calibrates on."""
    arrays = fitting(sets.take(named_sets.load(f"{network.task}:train"), SAMPLES), model)
    return [
        {spec.name: arrays[spec.name][index : index + 1].astype(spec.dtype) for spec in model.inputs}
        for index in range(min(SAMPLES, len(next(iter(arrays.values())))))
    ]


def document(found: Sequence[Row], plan: Plan) -> dict[str, Any]:
    """Everything measured so far, with the machine and the versions it was measured on."""
    from importlib.metadata import version

    from edgekit.core import registry

    host = targets.load("host")
    facts = registry.load("devices", host.device)(host).facts()
    versions = {name: version(name) for name in ("torch", *peers.TOOLS, "ai-edge-litert")}
    return {
        "machine": dict(facts),
        "versions": versions,
        "plan": {"processes": plan.processes, "seconds": plan.seconds, "threads": plan.threads},
        "rows": [row.to_json() for row in found],
    }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The tools print much; it is shown nowhere."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def say(line: str) -> None:
    print(line, file=sys.__stderr__, flush=True)


def silent(line: str) -> None:
    pass


if __name__ == "__main__":
    try:
        main()
    except EdgekitError as error:
        sys.exit(f"bench-quantize: {error}")
