"""The zoo's stages: edgekit's commands as a user types them, and what is kept of their answers."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from architectures import Network, samples

from edgekit.core.statistics import MIN_SQNR_DB

TESTS = Path(__file__).resolve().parents[2]
FORMATS = ("onnx", "tflite", "openvino")
#: seconds a stage may take on the clock, and bytes of private memory of each of its processes
SECONDS, MEMORY = 400, 10 << 30
#: seconds that a command has between SIGTERM and SIGKILL
STOPPING = 10
#: calibration samples; half of them check the int8 model
SAMPLES = 32
#: what an int8 model's name ends with: where static int8 is not faster than float, `quantize` chooses int8 weights
INT8 = ("-int8", "-dynamic")
#: exit codes of a refusal: a failed check, invalid input, a package that is not installed
REFUSED = (1, 2, 3)

NET = """
from architectures import made


def make():
    return made({name!r})
"""


class Place:
    """A network's working folder."""

    def __init__(self, network: Network, folder: Path, packages: list[str]) -> None:
        self.network, self.folder = network, folder
        path = [str(Path(__file__).parent), str(TESTS), str(TESTS.parent), *packages, os.environ.get("PYTHONPATH", "")]
        threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
        self.environment = {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, path))}

    @property
    def imported(self) -> bool:
        return (self.folder / "run").is_dir()

    def run(self, stage: str) -> dict[str, Any]:
        """What is kept: `code`, CPU `seconds`, `why` it was refused, and the stage's own."""
        self.folder.mkdir(parents=True, exist_ok=True)
        words, read = STAGES[stage](self)
        code, seconds, out, err = self._edgekit(*words)
        try:
            answer = json.loads(out)
        except ValueError:
            answer = {}
        error = answer.get("error") or {}
        why = one_line(": ".join(filter(None, (error.get("what"), error.get("why")))))
        if code and not why:
            why = one_line(err.strip().splitlines()[-1] if err.strip() else "it said nothing")
        kept = {"command": " ".join(words), "code": code, "seconds": round(seconds, 1), "why": why}
        if "Traceback" in err:
            kept["traceback"] = err[-4000:]
        return {**kept, **read(answer)}

    def _edgekit(self, *words: str) -> tuple[int, float, str, str]:
        """Exit code (negative: the signal that ended it), CPU seconds with its children, stdout, stderr."""
        with (self.folder / "out").open("w+") as out, (self.folder / "err").open("w+") as err:
            process = subprocess.Popen(
                [sys.executable, "-m", "edgekit", *words, "--json"],
                cwd=self.folder,
                env=self.environment,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))
            deadline, stopped = time.monotonic() + SECONDS, False
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                if pid:
                    break
                if time.monotonic() > deadline:
                    os.killpg(process.pid, signal.SIGKILL if stopped else signal.SIGTERM)
                    deadline, stopped = deadline + STOPPING, True
                time.sleep(0.05)
            if stopped:
                err.write(f"\nit was stopped after {SECONDS} s\n")
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = [(self.folder / name).read_text() for name in ("out", "err")]
        return process.returncode, usage.ru_utime + usage.ru_stime, texts[0], texts[1]

    @property
    def source(self) -> str:
        """What is imported: the file that the package ships, or code."""
        if not self.network.file:
            (self.folder / "net.py").write_text(NET.format(name=self.network.name).lstrip())
            return "net.py:make"
        find = "import importlib.util, sys; print(importlib.util.find_spec(sys.argv[1]).origin)"
        words = [sys.executable, "-c", find, self.network.package]
        done = subprocess.run(words, env=self.environment, capture_output=True, text=True)
        return str(Path(done.stdout.strip() or self.network.package).with_name(self.network.file))

    def write_samples(self) -> str:
        values = samples(self.network, SAMPLES)
        np.savez(self.folder / "samples.npz", **{name: value.numpy() for name, value in values.items()})
        return "samples.npz"


Stage = Callable[[Place], tuple[list[str], Callable[[dict[str, Any]], dict[str, Any]]]]


def _import(place: Place) -> Any:
    shapes = place.network.inputs.items() if place.network.file else ()
    sizes = [word for name, shape in shapes for word in ("--shape", f"{name}={'x'.join(map(str, shape))}")]
    return ["import", place.source, *sizes, "--out", "run"], lambda answer: {}


def _inspect(place: Place) -> Any:
    return ["inspect", f"run/{_float(place)}"], lambda answer: {}


def _export(place: Place) -> Any:
    formats = [format for format in FORMATS if format != _float(place)]
    return ["export", "run", "--to", ",".join(formats)], lambda answer: {"formats": _formats(answer, formats, ("",))}


def _int8(place: Place) -> Any:
    words = ["quantize", "run", "--fast", "--to", ",".join(FORMATS), "--calibration", place.write_samples()]
    return words, lambda answer: {"formats": _formats(answer, FORMATS, INT8)}


def _prune(place: Place) -> Any:
    def read(answer: dict[str, Any]) -> dict[str, Any]:
        pruned = ((answer.get("result") or {}).get("pruned") or [{}])[0]
        return {key: pruned[key] for key in ("macs", "parameters", "whole") if key in pruned}

    return ["prune", "run", "--ratio", "0.3", "--epochs", "0"], read


def _bench(place: Place) -> Any:
    names = [f"{format}{kind}" for format in FORMATS for kind in ("", *INT8)]
    words = [f"run/{name}" for name in names if (place.folder / "run" / name).is_dir()]
    return ["bench", *words, "--quick", "--processes", "3"], lambda answer: {"speedup": _speedups(answer)}


#: in their order; each builds the words of a command and the reader of its answer
STAGES: Mapping[str, Stage] = {
    "import": _import,
    "inspect": _inspect,
    "export": _export,
    "int8": _int8,
    "prune": _prune,
    "bench": _bench,
}


def _float(place: Place) -> str:
    """The name of the imported artifact."""
    return "onnx" if place.network.file else "torch"


def _formats(answer: dict[str, Any], formats: Sequence[str], suffixes: Sequence[str]) -> dict[str, Any]:
    """By format: `sqnr_db` of what was made, or `why` there is nothing of use.

    `floor`: why the check is below the floor although the SQNR is not. That is the top-1 agreement: the top classes of
    random weights are closer to each other than those of trained ones.
    """
    made = {artifact["name"] for artifact in answer.get("artifacts", ())}
    result = answer.get("result") or {}
    findings = {finding["artifact"]: finding for finding in result.get("findings", ())}
    kept: dict[str, Any] = {}
    for format in formats:
        names = [f"{format}{suffix}" for suffix in suffixes]
        name = next((name for name in names if name in made), names[0])
        finding = findings.get(name) or {}
        parity = finding.get("parity") or {}
        floor = finding.get("failed") == "floor" and parity["sqnr_db"] >= MIN_SQNR_DB and not parity["constant"]
        if name not in made or (finding.get("failed") and not floor):
            check = f"{finding['failed']}: {finding['reason']}" if finding.get("failed") else ""
            kept[format] = {"why": one_line(check or _problem(answer, format))}
        else:
            kept[format] = {"name": name, "sqnr_db": parity.get("sqnr_db"), "unverified": finding.get("unverified", "")}
            kept[format] |= {"floor": one_line(finding["reason"])} if floor else {}
    return kept


def _problem(answer: dict[str, Any], format: str) -> str:
    problems = [f"{problem['where']}: {problem['what']}" for problem in answer.get("problems", ())]
    error = answer.get("error") or {}
    whole = ": ".join(filter(None, (error.get("what"), error.get("why"))))
    return next((text for text in problems if format in text), whole or "; ".join(problems))


def _speedups(answer: dict[str, Any]) -> dict[str, float]:
    """Format → p50 of float by p50 of int8, both of this bench."""
    times = {
        (row["format"], row["precision"] in ("int8", "dynamic")): row["latency_ms"]["p50"]
        for row in answer.get("measurements", ())
        if row["latency_ms"]
    }
    return {
        format: round(times[format, False] / times[format, True], 2)
        for format in FORMATS
        if {(format, False), (format, True)} <= times.keys()
    }


def one_line(text: str) -> str:
    return " ".join(text.split())[:400]


def bug(result: dict[str, Any]) -> str:
    """Why it is a bug of edgekit; "" if it is none."""
    if result["code"] and result["code"] not in REFUSED:
        return f"exit code {result['code']}: {result['why']}"
    return "a traceback" if result.get("traceback") else ""
