"""`make kills`: SIGKILL and SIGTERM at random moments over every command; nothing finished is lost, nothing is left.

python tests/benchmarks/kills.py [--count 500] [--minutes M] [--out runs/kills.json] [--seed N]

Each command runs in a copy of the same run folder, is killed up to three times, and then runs to its end. It is killed
at a random moment of its own duration, so also while it starts. After each kill it is checked that:

- every artifact of every run folder can be read, with the sha256 that it had before the kill,
- no process that it started is left (they are known by a variable of their environment; Linux only),
- after SIGTERM: it ended within 20 s, with exit code 143, and no temporary folder or half-made one is left.

After the command has finished: its exit code is that of an undisturbed run, and the temporary folders that SIGKILL left
are gone. It prints a table and writes every kill to a JSON file, which it continues if that is interrupted, too.
Exit code 1 if a check failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

TESTS = Path(__file__).parents[1]
sys.path.insert(0, str(TESTS))

from helpers import BARS, QUICK_PLAN, command, environment, is_running, wait_until  # noqa: E402

from edgekit.core.errors import EdgekitError  # noqa: E402
from edgekit.core.files import sha256  # noqa: E402
from edgekit.runs.results import read as read_results  # noqa: E402
from edgekit.runs.store import RESULTS, Store  # noqa: E402

SIGNS = (signal.SIGKILL, signal.SIGTERM)
MARK = "EDGEKIT_KILLS_TEST"
#: after so many kills a command is left to finish
KILLS_EACH = 3
#: seconds until a process has to be gone: after SIGTERM, and, of its children, after SIGKILL
TERM_SECONDS, GONE_SECONDS = 20.0, 8.0
COMMAND_SECONDS = 600.0
#: torch's own cache of compiled code, one for all processes, which it keeps in the temporary folder
TORCH_CACHE = "torchinductor_"

_BRIEF = ("--processes", "2", "--quick")
COMMANDS: dict[str, tuple[str, ...]] = {
    "run": ("run", "bars.toml", "--out", "new"),
    "train": ("train", "bars", "--epochs", "4", "--out", "new"),
    "prune": ("prune", "run/torch", "--ratio", "0.5", "--round-to", "2", "--epochs", "1", "--max-drop", "90"),
    "export": ("export", "run/torch", "--to", "onnx,openvino", "--out", "run"),
    "quantize": ("quantize", "run/torch", "--int8", "--to", "onnx", "--fast", "--max-drop", "90", "--out", "run"),
    "bench": ("bench", "run", *_BRIEF),
    "verify": ("verify", "run"),
    "compare": ("compare", "run", "--stored", "--html", "page.html"),
    "inspect": ("inspect", "run/onnx"),
    "predict": ("predict", "run/onnx", "bars:test:0"),
    "import": ("import", "run/onnx/model.onnx", "--out", "new"),
    "optimize": ("optimize", "bars", "--trials", "2", "--epochs", "1", "--max-drop", "90", *_BRIEF, "--out", "new"),
    "deploy": ("deploy", "run/onnx", "--target", "host", "--path", "deployed"),
}
#: what a command makes again, with other settings than the run's recipe
REPLACED = {"quantize": "run/onnx-int8"}


@dataclass
class Kill:
    """One kill, and what was wrong after it."""

    command: str
    sign: str
    after_seconds: float
    #: it had ended before
    missed: bool = False
    #: a run to the end, undisturbed
    finish: bool = False
    failures: list[str] = field(default_factory=list)


class Place:
    """A working folder for one command at a time, with a temporary folder of its own."""

    def __init__(self, root: Path, base: Path, name: str) -> None:
        self.name, self.folder, self.temporary = name, root / "work", root / "tmp"
        for folder in (self.folder, self.temporary):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base, self.folder)
        self.temporary.mkdir()
        self.mark = uuid.uuid4().hex
        self.environment = environment(TMPDIR=str(self.temporary), **{MARK: self.mark})

    def start(self) -> subprocess.Popen[str]:
        pipes = {"stdout": subprocess.DEVNULL, "stderr": (self.folder.parent / "stderr.txt").open("w")}
        words = command(*COMMANDS[self.name])
        settings = {"cwd": self.folder, "env": self.environment, "text": True, "start_new_session": True}
        return subprocess.Popen(words, **pipes, **settings)  # type: ignore[call-overload, no-any-return]

    def processes(self) -> list[int]:
        """The processes that have this place's mark in their environment."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if f"{MARK}={self.mark}".encode() in path.read_bytes() and is_running(int(path.parent.name)):
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    def artifacts(self) -> dict[str, str]:
        """Run folder and artifact → sha256 of its record, for every artifact that counts. Raises EdgekitError."""
        found = {}
        for run in (self.folder / "run", self.folder / "new"):
            store = Store(run)
            for name in store.names():
                store.get(name)
                found[f"{run.name}/{name}"] = sha256(run / name / "artifact.json")
            if (run / RESULTS).is_file():
                read_results(run / RESULTS)
        return found

    def left(self) -> list[str]:
        """Temporary and half-made files and folders."""
        unfinished = [*self.folder.rglob(".making-*"), *self.folder.rglob("*.part"), *self.folder.rglob(".old-*")]
        temporary = [path for path in self.temporary.iterdir() if not path.name.startswith(TORCH_CACHE)]
        return [str(path) for path in (*temporary, *unfinished)]

    def stderr(self) -> str:
        return (self.folder.parent / "stderr.txt").read_text(errors="replace")

    def check(self, before: Mapping[str, str]) -> list[str]:
        """What is wrong with the artifacts and processes."""
        failures = []
        try:
            after = self.artifacts()
            own = {name: before[name] for name in before if name not in after or name != REPLACED.get(self.name)}
            failures += [f"{name} was lost or changed" for name in own if after.get(name) != own[name]]
        except EdgekitError as error:
            failures.append(f"a folder cannot be read: {error}")
        if not wait_until(lambda: not self.processes(), GONE_SECONDS):
            failures.append(f"processes are left: {_commands(self.processes())}")
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)
        if "Traceback" in self.stderr():
            failures.append(f"a traceback: {self.stderr().strip().splitlines()[-1]}")
        return failures

    def kill(self, sign: signal.Signals, seconds: float) -> Kill:
        kill = Kill(self.name, sign.name, round(seconds, 3))
        before, old = self.artifacts(), self.left()  # a SIGKILL's, until a command runs that sweeps them
        process = self.start()
        try:
            process.wait(seconds)
            kill.missed = True
        except subprocess.TimeoutExpired:
            process.send_signal(sign)
        try:
            code = process.wait(TERM_SECONDS)
        except subprocess.TimeoutExpired:
            kill.failures.append(f"it did not end within {TERM_SECONDS:.0f} s: {self.stderr()[-300:]}")
            process.kill()
            code = process.wait()
        kill.failures += self.check(before)
        if not kill.missed and sign == signal.SIGTERM:
            # before edgekit's handler is installed, and after the command has ended
            if code not in (143, -signal.SIGTERM, 0):
                kill.failures.append(f"exit code {code}: {self.stderr()[-300:]}")
            if left := sorted(set(self.left()) - set(old)):
                inside = [str(path) for folder in left for path in Path(folder).rglob("*")][:20]
                kill.failures.append(f"left: {left} with {inside}; exit code {code}: {self.stderr()[-300:]}")
        return kill

    def finish(self) -> Kill:
        """Run it to its end."""
        kill, before, started = Kill(self.name, "", 0.0, finish=True), self.artifacts(), time.monotonic()
        code = self.start().wait(COMMAND_SECONDS)
        kill.after_seconds = round(time.monotonic() - started, 3)
        if code != 0:
            kill.failures.append(f"exit code {code}: {self.stderr()[-300:]}")
        kill.failures += self.check(before)
        # a command that needs no temporary folder leaves this to the next one that does
        make = "from edgekit.core.temporary import temporary_folder\nwith temporary_folder(): pass"
        subprocess.run([sys.executable, "-c", make], env=self.environment, check=True)
        if left := self.left():
            kill.failures.append(f"left: {left}")
        return kill


def _commands(pids: list[int]) -> list[str]:
    paths = [Path(f"/proc/{pid}/cmdline") for pid in pids]
    return [path.read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200] for path in paths if path.exists()]


def prepare(folder: Path) -> Path:
    """The recipe, and a run folder with finished artifacts."""
    folder.mkdir(parents=True)
    (folder / "bars.toml").write_text(BARS + QUICK_PLAN)
    words = command("run", "bars.toml", "--out", "run")
    subprocess.run(words, cwd=folder, env=environment(), check=True, capture_output=True)
    return folder


def attack(root: Path, base: Path, name: str, rng: random.Random, kills: int, seconds: float) -> list[Kill]:
    """Kill one command so many times, then run it to its end. `seconds`: how long it takes undisturbed."""
    place = Place(root, base, name)
    found = []
    for _ in range(kills):
        found.append(place.kill(rng.choice(SIGNS), rng.uniform(0.02, seconds)))
        if found[-1].missed:
            break
    return [*found, place.finish()]


def table(kills: list[Kill]) -> str:
    lines = [f"{'command':10} {'SIGKILL':>8} {'SIGTERM':>8} {'finished':>9} {'failures':>9}"]
    for name in (*COMMANDS, "all"):
        rows = [kill for kill in kills if name in (kill.command, "all")]
        hits = [kill for kill in rows if not kill.missed and not kill.finish]
        counts = [sum(kill.sign == sign.name for kill in hits) for sign in SIGNS]
        failed = sum(bool(kill.failures) for kill in rows)
        lines.append(f"{name:10} {counts[0]:8} {counts[1]:8} {sum(kill.finish for kill in rows):9} {failed:9}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=500, help="kills in all, with those of the JSON file")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no further command after that")
    parser.add_argument("--out", type=Path, default=Path("runs/kills.json"))
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--command", action="append", choices=COMMANDS, help="only this one; repeat")
    options = parser.parse_args()
    stop, rng = time.monotonic() + 60 * options.minutes, random.Random(options.seed)
    print(f"seed {options.seed}", flush=True)
    kills = [Kill(**row) for row in json.loads(options.out.read_text())["kills"]] if options.out.is_file() else []
    names = options.command or list(COMMANDS)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="kills-") as folder:
        root = Path(folder)
        base = prepare(root / "base")
        durations: dict[str, float] = {}
        turn = len(kills)
        while (hits := sum(not kill.missed and not kill.finish for kill in kills)) < options.count:
            if time.monotonic() > stop:
                break
            name = names[turn % len(names)]
            turn += 1
            new = [] if name in durations else attack(root, base, name, rng, 0, 0.0)
            if new:
                durations[name] = new[0].after_seconds
            new += attack(root, base, name, rng, min(KILLS_EACH, options.count - hits), durations[name])
            for kill in new:
                for failure in kill.failures:
                    print(f"{name}, {kill.sign or 'to the end'} after {kill.after_seconds} s: {failure}", flush=True)
            kills += new
            options.out.write_text(json.dumps({"kills": [asdict(kill) for kill in kills]}, indent=1) + "\n")
    print(table(kills))
    return 1 if any(kill.failures for kill in kills) else 0


if __name__ == "__main__":
    sys.exit(main())
