"""edgekit compared with the quickstarts of Ultralytics, Olive and optimum: what one types, waits for and gets.

Each tool has an environment of its own in the cache, set up at first use; the models and data are made at first use,
too. Then every quickstart runs in an empty folder, without network, and edgekit measures the file that it made on the
test data. `--only WORDS` runs those whose tool or model is named; `--page` writes docs/quickstarts-compared.md.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import resource
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import compared
import inputs
from quickstarts import QUICKSTARTS, Quickstart

from edgekit.measure import targets

REPOSITORY = Path(__file__).parents[3]
EDGEKIT = "edgekit"
#: tool → what pip installs for its quickstarts
PACKAGES = {
    "Ultralytics": ("ultralytics==8.4.190", "openvino", "nncf", "onnx", "onnxruntime", "onnxslim"),
    "Olive": ("olive-ai[cpu]==0.13.0", "requests", "pillow"),
    "optimum": ("optimum-onnx[onnxruntime]==0.1.0", "datasets"),
    "optimum-intel": ("optimum-intel[openvino,nncf]==2.2.0", "datasets"),
    EDGEKIT: ("-e", f"{REPOSITORY}[onnx,tflite,openvino,images,metrics]", "transformers==5.24.0"),
}
#: programs that are in another tool's environment
ELSEWHERE = {"yolo": "Ultralytics"}
#: PyTorch and what it brings: which build pip finds is not the tool's doing
PYTORCH = re.compile(r"(torch|nvidia|triton|cuda|functorch|torchgen)(\b|[-_])|torch-")
SECONDS = 600
#: what tells a metric, and a latency, in what a tool prints
METRIC = re.compile(r"\b(accuracy|mAP)\b\D{0,10}\d")
LATENCY, UNTIMED = re.compile(r"\b(p50|latency)\b"), "not timed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", type=Path, help="the folder that Ultralytics and torchvision are in")
    parser.add_argument("--only", nargs="*", default=(), help="tools or models")
    parser.add_argument("--json", type=Path, default=inputs.cache() / "rows.json", help="where the rows are kept")
    parser.add_argument("--page", action="store_true", help="write the page from the rows")
    parser.add_argument("--show", action="store_true", help="run nothing")
    options = parser.parse_args()
    sys.path += [str(options.packages)] if options.packages else []
    document = json.loads(options.json.read_text()) if options.json.is_file() else {"rows": {}}
    if not options.show:
        run(document, options.only, options.json)
    if options.page:
        compared.write(document, QUICKSTARTS, REPOSITORY / "docs" / "quickstarts-compared.md")
    print(compared.text(document, QUICKSTARTS))


def run(document: dict[str, Any], only: tuple[str, ...], file: Path) -> None:
    """Add the rows to the document, and write it after each."""
    chosen = [q for q in QUICKSTARTS if not only or {q.tool, q.model} & set(only)]
    helpers = {EXPORTS[q.model][0] for q in chosen if q.model in EXPORTS}
    ready = {tool: environment(tool) for tool in PACKAGES if tool in {EDGEKIT, *helpers, *(q.tool for q in chosen)}}
    given = {}
    for model in dict.fromkeys(q.model for q in chosen):
        if model != "detector":
            subprocess.run([str(ready[EDGEKIT]), inputs.__file__, model], check=True)
        given[model] = MODELS[model]()
    document["cpu"] = targets.device(targets.load("host")).facts()["cpu"]
    for tool, python in ready.items():
        document.setdefault("megabytes", {})[tool] = size(python)
        document.setdefault("versions", {})[tool] = installed(python)
    for model, links in given.items():
        document["rows"][f"float {model}"] = floats(model, links, ready)
    for quickstart in chosen:
        say(f"{quickstart.tool}: {quickstart.model}, {quickstart.result} …")
        document["rows"][compared.key(quickstart)] = row(quickstart, given[quickstart.model], ready)
        file.write_text(json.dumps(document, indent=1) + "\n")


#: model → the tool and the command that write its float ONNX file
EXPORTS = {
    "detector": ("Ultralytics", "yolo export model=detector.pt format=onnx imgsz=96"),
    "bert": ("optimum", "optimum-cli export onnx --model bert --task text-classification ."),
}
MODELS = {"detector": inputs.detector, "classifier": inputs.classifier, "bert": inputs.reader}


def environment(tool: str) -> Path:
    """The Python of the tool's environment, set up at first use."""
    folder = inputs.cache() / tool.lower()
    python, ready = folder / "bin" / "python", folder / ".ready"
    packages = " ".join(PACKAGES[tool])
    if not ready.is_file() or ready.read_text() != packages:
        say(f"installing {tool} …")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES[tool]], check=True)
        ready.write_text(packages)
    return python


def size(python: Path) -> int:
    """Megabytes of what is installed, without PyTorch and what it brings."""
    site = next(python.parents[1].glob("lib/python*/site-packages"))
    counted = [p for p in site.iterdir() if not PYTORCH.match(p.name) or p.name.startswith("torchvision")]
    files = [f for p in counted for f in ([p] if p.is_file() else p.rglob("*"))]
    return round(sum(f.stat().st_size for f in files if f.is_file() and not f.is_symlink()) / 1e6)


def installed(python: Path) -> str:
    names = "('ultralytics', 'olive-ai', 'optimum-onnx', 'optimum-intel', 'edgekit-toolkit')"
    code = (
        "from importlib.metadata import distributions as d; "
        f"print(', '.join(sorted({{x.name + ' ' + x.version for x in d() if x.name in {names}}})))"
    )
    return subprocess.run([str(python), "-I", "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def row(quickstart: Quickstart, links: Mapping[str, Path], ready: Mapping[str, Path]) -> dict[str, Any]:
    """What happened: seconds, what was said, the file and its metric; or `failed`."""
    folder = inputs.cache() / "work" / compared.key(quickstart).replace(" ", "-").replace(",", "")
    fill(folder, links)
    for name, text in quickstart.files.items():
        (folder / name).write_text(text)
    outcome: dict[str, Any] = {"seconds": 0.0, "cpu_seconds": 0.0, "check_seconds": 0.0}
    said = ""
    for command in quickstart.commands:
        done, seconds, cpu = typed(command, quickstart.tool, folder, ready)
        outcome["seconds"] += seconds
        outcome["cpu_seconds"] += cpu
        said += done.stdout + done.stderr
        if done.returncode:
            return {**outcome, "failed": last_line(done)}
    (folder / "said.txt").write_text(said)
    made = sorted(folder.glob(quickstart.made))
    made = [f for f in made if f.suffix in (".onnx", ".xml", ".tflite")]
    if not made:
        return {**outcome, "failed": f"it made no {quickstart.made}"}
    latency = bool(LATENCY.search(said)) and UNTIMED not in said
    outcome |= {"metric_told": bool(METRIC.search(said)), "latency_told": latency}
    for command in quickstart.checks:
        done, seconds, _ = typed(command, quickstart.tool, folder, ready)
        outcome["check_seconds"] += seconds
        if done.returncode:
            outcome["check_failed"] = last_line(done)
    return {**outcome, **measured(made[0], quickstart.model, folder, ready)}


def fill(folder: Path, links: Mapping[str, Path]) -> None:
    """An empty folder with what the user has: the model as a copy, the data as links."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, path in links.items():
        if path.is_file():
            shutil.copy(path, folder / name)
        else:
            (folder / name).symlink_to(path)


def typed(
    command: str, tool: str, folder: Path, ready: Mapping[str, Path]
) -> tuple[subprocess.CompletedProcess[str], float, float]:
    """The command as a user of this tool types it, its seconds and CPU seconds."""
    python = ready[ELSEWHERE.get(shlex.split(command)[0], tool)]
    unset = ("PYTHONPATH", "EDGEKIT_DATA", "EDGEKIT_OUTSIDE")
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    variables |= {"PATH": f"{python.parent}:{variables['PATH']}", "YOLO_CONFIG_DIR": str(inputs.cache())}
    variables |= {"HF_HUB_OFFLINE": "1", "YOLO_OFFLINE": "1", "OLIVE_DISABLE_TELEMETRY": "1", "NO_COLOR": "1"}
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    words = ["timeout", str(SECONDS), "bash", "-c", command]
    done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done, time.monotonic() - started, cpu


def measured(file: Path, model: str, folder: Path, ready: Mapping[str, Path]) -> dict[str, Any]:
    """The file's size, and its metric and latency on the test data, by edgekit."""
    parts = [file, file.with_suffix(".bin")] if file.suffix == ".xml" else [file, *file.parent.glob(f"{file.name}.*")]
    found: dict[str, Any] = {"kB": sum(p.stat().st_size for p in parts if p.is_file()) / 1000, "file": file.name}
    command = f"{EDGEKIT} bench {shlex.quote(str(file))} --data {test_data(model)} --quick --json --out measured"
    done, _, _ = typed(command, EDGEKIT, folder, ready)
    with contextlib.suppress(ValueError, IndexError, KeyError, TypeError):
        m = json.loads(done.stdout)["measurements"][-1]
        latency = m["latency_ms"] or {}
        return {**found, "metric": m["metric"]["name"], "value": m["metric"]["value"], "p50": latency.get("p50")}
    return {**found, "not_measured": last_line(done)}


def test_data(model: str) -> str:
    return {"detector": "pictures/data.yaml:test", "classifier": "photos:test"}.get(model, f"{inputs.cache()}/test.npz")


def floats(model: str, links: Mapping[str, Path], ready: Mapping[str, Path]) -> dict[str, Any]:
    """The float model's metric, from its ONNX file."""
    folder = inputs.cache() / "work" / f"float-{model}"
    fill(folder, links)
    command = EXPORTS.get(model)
    if command:
        done, _, _ = typed(command[1], command[0], folder, ready)
        if done.returncode:
            return {"failed": last_line(done)}
    return measured(next(folder.glob("*.onnx")), model, folder, ready)


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """Its error in one line."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1][:200] if lines else f"exit code {done.returncode}"


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
