"""Which int8 scheme is fastest here: what `SCHEMES` in edgekit/steps/onnx_int8.py rests on.

A network of convolutions and one of matrix products, each in every scheme of `onnx_int8`, their processes interleaved:
p50, the ratio to float and to u8s8 with 99 % intervals, and the SQNR of the outputs against float, since a scheme that
this CPU saturates is no choice however fast. Models of at least 1 ms. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from fixtures import artifacts, samples

from edgekit.core import registry, statistics
from edgekit.core.artifact import Artifact
from edgekit.core.progress import quiet
from edgekit.core.samples import SampleSet
from edgekit.core.statistics import MAX_DB
from edgekit.core.step import Context
from edgekit.core.target import PRESETS, Plan
from edgekit.measure import targets
from edgekit.measure.execute import execute, execute_all
from edgekit.runs.store import Store
from edgekit.sets.reading import sample_set
from edgekit.steps.onnx_int8 import OnnxInt8

SCHEMES = ("u8s8", "u8s8-reduced", "s8s8")
TOKENS, WIDTH, LAYERS = 64, 256, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=15)
    parser.add_argument("--quick", action="store_true", help="the plan of edgekit's own --quick")
    options = parser.parse_args()
    plan = Plan(**PRESETS["quick"]) if options.quick else Plan(processes=options.processes)
    host = targets.load("host")
    chosen = OnnxInt8().resolve(host).scheme
    print(f"{host.arch} ({host.isa_class}): onnx_int8 takes {chosen}\n")
    print(f"{'network':<16}{'scheme':<14}{'p50 ms':>8}{'to float':>10}{'':<17}{'to u8s8':>8}{'':<17}{'dB':>6}")
    data = samples()
    with artifacts("to_onnx") as made:
        compare("convolutions", made["to_onnx"], data, plan)
    tokens = sample_set(
        "tokens", {"x": np.random.default_rng(0).normal(size=(16, TOKENS, WIDTH)).astype(np.float32)}, None
    )
    with matmuls() as model:
        compare("matrix products", model, tokens, plan)


def compare(name: str, model: Artifact, data: SampleSet, plan: Plan) -> None:
    """A row for the float model and one per scheme."""
    host, store = targets.load("host"), Store(model.path.parent)
    context = Context(None, {"calibration": data}, quiet, logging.getLogger("edgekit"))
    made = [store.make(scheme, OnnxInt8(scheme=scheme), {"parent": model}, context) for scheme in SCHEMES]  # type: ignore[arg-type]
    pairs = [(artifact, "onnxruntime") for artifact in (model, *made)]
    runs = execute_all(pairs, host, data, plan, outputs=False)
    times = [statistics.latency(run.processes, plan.threads, plan.batch) for run in runs]
    answers = [execute(artifact, host, data, plan, latency=False).outputs for artifact in (model, *made)]
    for index, scheme in enumerate(("float32", *SCHEMES)):
        ratios = [statistics.latency_ratio(times[index], times[other], paired=True) for other in (0, 1)]
        shown = "".join(
            f"{r.value:>{w}.3f} ({r.ci99[0]:.3f} - {r.ci99[1]:.3f}) " for r, w in zip(ratios, (10, 8), strict=True)
        )
        nearness = statistics.parity("", answers[0], answers[index]).sqnr_db if index else MAX_DB
        disturbed = "  disturbed: " + runs[index].invalid[0] if runs[index].invalid else ""
        print(f"{name:<16}{scheme:<14}{times[index].p50:>8.3f}{shown}{nearness:>6.1f}{disturbed}", flush=True)


@contextmanager
def matmuls() -> Iterator[Artifact]:
    """Pairs of matrix products as in a transformer's feed-forward part: (1, TOKENS, WIDTH), widened four times."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(1)
    nodes: list[Any] = []
    held: Mapping[str, Any] = {}
    for layer in range(LAYERS):
        source = f"t{layer}" if layer else "x"
        last = "y" if layer == LAYERS - 1 else f"t{layer + 1}"
        nodes += [
            helper.make_node("MatMul", [source, f"up{layer}"], [f"wide{layer}"], f"up{layer}"),
            helper.make_node("Relu", [f"wide{layer}"], [f"relu{layer}"], f"relu{layer}"),
            helper.make_node("MatMul", [f"relu{layer}", f"down{layer}"], [last], f"down{layer}"),
        ]
        held = {
            **held,
            f"up{layer}": rng.normal(size=(WIDTH, 4 * WIDTH)) / WIDTH**0.5,
            f"down{layer}": rng.normal(size=(4 * WIDTH, WIDTH)) / (2 * WIDTH) ** 0.5,
        }
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", TOKENS, WIDTH]) for n in ("x", "y")]
    constants = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in held.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    with TemporaryDirectory(prefix="edgekit-benchmark-") as folder:
        path = Path(folder, "m.onnx")
        save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
        store = Store(Path(folder, "run"))
        with store.lock():
            context = Context(None, {}, quiet, logging.getLogger("edgekit"))
            yield store.make("onnx", registry.load("steps", "import_onnx").of(str(path)), {}, context)


if __name__ == "__main__":
    main()
