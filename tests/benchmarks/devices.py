"""`make bench-devices`: device × runtime × precision, with where each number comes from; the table in docs/devices.md.

One network is trained, exported and made int8 for each kind of device, and measured on every target over the same test
samples: this machine, and the emulated boards and phone, which have no latency. Add your own boards by name:

    make bench-devices ARGS="--target my-pi --target my-phone"

Existing artifacts and measurements are reused. Emulated targets run one after another, because two cores are few.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from edgekit.core.measurement import Measurement
from edgekit.workflows import run

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "devices.md"
BEGIN, END = "<!-- bench-devices -->", "<!-- /bench-devices -->"
TARGETS = ("host", "emulated-cortex-a72", "emulated-cortex-a76", "emulated-phone")
SAMPLES = 256
HEAD = (
    "target",
    "runtime",
    "precision",
    "scheme",
    "accuracy",
    "as the host",
    "p50, ms",
    "instructions, M",
    "memory, MB",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", action="append", default=[], help="one more than those of the table")
    parser.add_argument(
        "--only", action="store_true", help="none but those named with --target; the page is left alone"
    )
    parser.add_argument("--recipe", default="mnist")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "devices")
    words = parser.parse_args()
    names = [*([] if words.only else TARGETS), *words.target]
    rows: list[Measurement] = []
    for name in names:
        emulated = name.startswith("emulated")
        # virtual seconds there: a hundredth is ten million instructions
        plan = {"samples": SAMPLES, **({"seconds": 0.01, "warmup_seconds": 0.0, "min_runs": 11} if emulated else {})}
        outcome = run.run(words.recipe, out=words.runs / name, target_names=[name], plan=plan, say=tell)
        rows += [m for m in outcome.measurements if m.runtime != "torch" and not m.artifact.startswith("ds.")]
        for failure in outcome.failures:
            tell(f"  {name}: {failure}")
    table = "\n".join(lines(rows))
    print(table)
    if not words.only:
        text = PAGE.read_text()
        before, _, rest = text.partition(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}")


def lines(rows: Iterable[Measurement]) -> list[str]:
    made = [f"| {' | '.join(HEAD)} | provenance |", "|---|---|---|---|--:|---|--:|--:|--:|---|"]
    return made + [f"| {' | '.join(cells(m))} | {m.provenance} |" for m in rows]


def cells(m: Measurement) -> list[str]:
    alike, count = m.facts.get("agreement"), m.facts.get("instructions")
    same = "-" if alike is None else "bit-identical" if alike["bit_identical"] else f"within {alike['max_abs']:.1e}"
    return [
        m.target,
        f"{m.runtime} {m.facts.get('runtime_version', '')}".strip(),
        m.precision,
        m.scheme or "-",
        f"{100 * m.metric.value:.2f}%" if m.metric else "-",
        same,
        f"{m.latency_ms.p50:.3f}" if m.latency_ms else "-",
        f"{count / 1e6:.2f}" if count else "-",
        f"{m.peak_rss_bytes / 1e6:.1f}" if m.peak_rss_bytes else "-",
    ]


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
