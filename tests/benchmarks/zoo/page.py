"""docs/models.md: what works with which network, from the kept results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from architectures import NETWORKS
from stages import FORMATS, STAGES, bug

Results = Mapping[str, dict[str, Any]]

TITLES = {
    "torchvision": "torchvision",
    "timm": "timm",
    "ultralytics": "Ultralytics",
    "transformers": "Hugging Face",
    "none": "No package",
}
TRAINED = "Trained weights"

HEAD = """# Public architectures

What `make zoo` found: public architectures as their packages build them, through `edgekit import`, `edgekit inspect`,
`edgekit export`, `quantize --int8 --fast`, `prune --ratio 0.3 --epochs 0` and `bench`, each a command of its own. It
writes this page.

- **ONNX, TFLite, OpenVINO**: SQNR of the exported model against torch, in dB.
- **int8**: SQNR against the float model of the same format, in dB; in brackets how many times faster than float it is,
  on one thread, both from the same bench (CPU times where the machine is busy). †: less than 90% of the samples keep
  their top class, so that `quantize` ends with exit code 1; the classes of random weights are close to each other. ‡:
  the weights alone are int8: static int8 was not faster than float, or changed more classes than `quantize` allows.
- **pruned**: the share of the MACs that is left. 30% of the channels are removed wherever that is possible.
- **CPU**: seconds of CPU time of all commands.

Weights are random, with the BatchNorm statistics of a batch, unless a package ships trained ones: the SQNRs say
that a conversion is right, and little about accuracy. Images are small where the architecture allows it. "no" is
refused, for the reason below the tables; what is empty was not run. Measured on {machine}.
"""


def document(results: Results, machine: str = "one x86-64 machine with VNNI") -> str:
    parts = [HEAD.format(machine=machine), summary(results) + "\n"]
    groups: dict[str, list[str]] = {}
    for name, network in NETWORKS.items():
        if results.get(name):
            groups.setdefault(TRAINED if network.trained else TITLES[network.package], []).append(name)
    for title, names in groups.items():
        parts.append(f"## {title}\n\n" + table(names, results))
    if refused := refusals(results):
        parts.append("## What is refused\n\n" + "\n".join(refused) + "\n")
    return "\n".join(parts)


def summary(results: Results) -> str:
    tried = [name for name, found in results.items() if found]

    def count(stage: str) -> int:
        return sum(works(results[name].get(stage)) is True for name in tried)

    whole = sum(all(stage in results[name] for stage in STAGES) for name in tried)
    bugs = sum(bool(bug(result)) for name in tried for result in results[name].values())
    return (
        f"{len(tried)} of {len(NETWORKS)} networks were run, {whole} of them through every stage: {count('import')} are"
        f" imported, {count('export')} exported to all three formats, {count('int8')} made int8 in all three,"
        f" {count('prune')} pruned. {bugs} commands ended in a crash, a traceback or exit code 70."
    )


def table(names: list[str], results: Results) -> str:
    columns = ["network", "input", "ONNX", "TFLite", "OpenVINO", "int8 ONNX", "int8 TFLite", "int8 OpenVINO"]
    lines = [f"| {' | '.join([*columns, 'pruned', 'CPU, s'])} |", "|---|---|" + "--:|" * 8]
    for name in names:
        found = results[name]
        float_, int8 = ([_parity(found, stage, format) for format in FORMATS] for stage in ("export", "int8"))
        seconds = sum(result["seconds"] for result in found.values())
        cells = [f"`{name}`", NETWORKS[name].size, *float_, *int8, _pruned(found), f"{seconds:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _parity(found: dict[str, Any], stage: str, format: str) -> str:
    result = found.get(stage)
    if result is None:
        return "no" if works(found.get("import")) is False else ""
    cell = result.get("formats", {}).get(format)
    if cell is None:
        return "as imported" if works(result) else "no"
    if "why" in cell:
        return "no"
    parity = "same" if cell["sqnr_db"] is None else f"{cell['sqnr_db']:.0f}"
    parity += "†" if "floor" in cell else ""
    parity += "‡" if cell.get("name", "").endswith("-dynamic") else ""
    ratio = found.get("bench", {}).get("speedup", {}).get(format) if stage == "int8" else None
    return f"{parity} ({ratio:.1f}×)" if ratio else parity


def _pruned(found: dict[str, Any]) -> str:
    result = found.get("prune")
    if result is None:
        return "no" if works(found.get("import")) is False else ""
    return f"{result['macs']:.0%}" if "macs" in result else "no"


def refusals(results: Results) -> list[str]:
    """A line per network, stage and reason."""
    lines = []
    for name, found in results.items():
        for stage in STAGES:
            if (result := found.get(stage)) and not works(result):
                lines += [f"- `{name}`, {what}: {why}" for what, why in _reasons(stage, result)]
    return lines


def _reasons(stage: str, result: dict[str, Any]) -> list[tuple[str, str]]:
    formats: dict[str, list[str]] = {}
    for format, cell in result.get("formats", {}).items():
        if "why" in cell:
            formats.setdefault(cell["why"], []).append(format)
    return [(f"{stage} to {', '.join(to)}", why) for why, to in formats.items()] or [(stage, result["why"])]


def works(result: dict[str, Any] | None) -> bool | None:
    """None: it was not tried."""
    if result is None:
        return None
    if cells := result.get("formats"):
        return not any("why" in cell for cell in cells.values())
    return not result["code"]


def line(result: dict[str, Any]) -> str:
    """For the terminal."""
    cells = {
        format: cell.get("why") or f"{cell['sqnr_db'] or float('nan'):.0f} dB"
        for format, cell in result.get("formats", {}).items()
    }
    more = {**cells, **result.get("speedup", {}), **({"macs": result["macs"]} if "macs" in result else {})}
    text = ", ".join(f"{key} {value}" for key, value in more.items()) or result["why"]
    return f"exit {result['code']}, {result['seconds']:.0f} s  {text}"
