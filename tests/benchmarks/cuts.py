"""`make bench-cuts`: connections are cut at random moments of `bench` and `deploy`; nothing is left half-installed.

A real sshd on this machine, and a real adbd in namespaces of its own (as root, with mmdebstrap). Half of the cuts end
the connection, half end every process of the device, as a power failure does. After each cut:

- the command ended with exit code 4, or 0 if it had finished, and without a traceback;
- the release in use on the device is whole, or there is none;
- the same command, run again, ends with 0 and leaves no partial file, no job and no process.

    make bench-cuts ARGS="--cuts 50 --seed 7 --json cuts.json"
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])  # in place of this folder, whose devices.py is another module

import tomli_w
from devices import adbd, sshd
from helpers import BARS, QUICK_PLAN, environment, run_cli, start

from edgekit.core.target import Target

#: a command takes at most this many seconds after its connection was cut
ENDS_SECONDS = 90.0
ARTIFACTS = ("onnx", "onnx-int8")


class Device(Protocol):
    """`root`: what edgekit stores there; `deployed`: the folder of a deployment."""

    name: str
    root: Path
    deployed: Path

    def cut(self, *, power: bool) -> None: ...

    def mend(self) -> None: ...

    def target(self) -> Target: ...

    def close(self) -> None: ...


class Pi:
    name = "board"

    def __init__(self, folder: Path) -> None:
        self.board = sshd.Board(folder / "board")
        self.board.folder.mkdir()
        sshd._write(self.board)
        self.board.start()
        os.environ["EDGEKIT_SSH_CONFIG"] = str(self.board.config)
        self.root, self.deployed = self.board.cache / "edgekit", self.board.home / "edgekit" / "run"

    def cut(self, *, power: bool) -> None:
        if power:
            self.board.stop()
            return
        # the processes of sshd alone: what they started finds that its input has ended
        for pid in sshd._descendants(self.board.process.pid)[1:]:  # type: ignore[union-attr]
            with suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text().startswith("sshd"):
                    os.kill(pid, signal.SIGKILL)

    def mend(self) -> None:
        if self.board.process is None:
            self.board.start()

    def target(self) -> Target:
        return self.board.target()

    def close(self) -> None:
        self.board.stop()


class Phone:
    name = "phone"

    def __init__(self, folder: Path) -> None:
        adbd.own_server()
        (folder / "phone").mkdir()
        self.adbd = adbd.Adbd(folder / "phone")
        self.root, self.deployed = self.adbd.home / ".edgekit", self.adbd.home / "edgekit" / "run"
        self.cut, self.mend = self.adbd.cut, self.adbd.mend

    def target(self) -> Target:
        return self.adbd.target("phone")

    def close(self) -> None:
        self.adbd.close()
        adbd.stop_server()


@dataclass(frozen=True)
class Cut:
    """`after`: seconds from the command's start; `code`: how the cut command ended, `again`: how the next one did."""

    device: str
    command: str
    kind: str
    after: float
    code: int
    seconds: float
    said: str
    again: int
    problems: tuple[str, ...]


def cuts(device: Device, run: Path, count: int, chance: random.Random) -> Iterator[Cut]:
    """Cut `count` commands; the moments are spread evenly over what the command takes without a cut."""
    lengths: dict[str, float] = {}
    for index in range(count + 4):
        command, artifact = ("bench", "deploy")[index % 2], ARTIFACTS[index // 2 % 2]
        words = [command, run / artifact, "--target", device.name]
        words += ["--processes", "2"] if command == "bench" else []
        shutil.rmtree(device.root, ignore_errors=True)  # everything is sent again
        if index < 4:  # without a cut; the first of each also builds and downloads what it needs
            began = time.monotonic()
            ended = run_cli(*words, cwd=run.parent, env=environment())
            assert ended.code == 0, ended.err
            lengths[command] = time.monotonic() - began
            continue
        yield one(device, command, words, lengths[command] * chance.random(), power=bool(index // 4 % 2))


def one(device: Device, command: str, words: Sequence[object], after: float, *, power: bool) -> Cut:
    run = Path(str(words[1])).parent
    process = start(*words, cwd=run.parent, env=environment())
    time.sleep(after)
    device.cut(power=power)
    cut_at = time.monotonic()
    problems = []
    try:
        _, said = process.communicate(timeout=ENDS_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        _, said = process.communicate()
        problems.append(f"it went on for {ENDS_SECONDS:.0f} s")
    seconds = time.monotonic() - cut_at
    if process.returncode not in (0, 4) or "Traceback" in said:
        problems.append(f"it ended with {process.returncode}: {said[-300:]}")
    problems += damaged(device.deployed)
    device.mend()
    ended = run_cli(*words, cwd=run.parent, env=environment())
    if ended.code != 0:
        problems.append(f"the next one ended with {ended.code}: {ended.err[-300:]}")
    problems += damaged(device.deployed)
    # what an agent that was cut off has to do itself, it does when it finds that
    stop = time.monotonic() + 10
    while (left := leftovers(device)) and time.monotonic() < stop:
        time.sleep(0.1)
    kind = "power" if power else "connection"
    last = next((line for line in reversed(said.splitlines()) if line.startswith("edgekit: ")), "")
    return Cut(
        device.name, command, kind, round(after, 2), process.returncode, round(seconds, 2), last, ended.code,
        (*problems, *left),
    )  # fmt: skip


def damaged(deployed: Path) -> list[str]:
    """Is the release in use whole, by its manifest's sha256?"""
    current = deployed / "current"
    if not current.is_symlink():
        return []
    try:
        manifest = json.loads((current / "manifest.json").read_text())
        bad = [
            name
            for name, entry in manifest["files"].items()
            if hashlib.sha256((current / name).read_bytes()).hexdigest() != entry["sha256"]
        ]
    except (OSError, ValueError) as error:
        return [f"the release in use is damaged: {error}"]
    return [f"{name} of the release in use is damaged" for name in bad]


def leftovers(device: Device) -> list[str]:
    """Partial files and jobs on the device."""
    parts = [path for root in (device.root, device.deployed) for path in root.rglob("*.part")]
    parts += [path for path in (device.root / "jobs", device.root / "sent.tar") if path.is_file()]
    jobs = list((device.root / "jobs").iterdir()) if (device.root / "jobs").is_dir() else []
    return [f"{path} is left" for path in (*parts, *jobs)]


@contextmanager
def prepared(kinds: Sequence[Callable[[Path], Device]]) -> Iterator[tuple[Path, list[Device]]]:
    """A run folder with two artifacts, and the devices, known as targets."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ.update(XDG_CONFIG_HOME=str(folder / "config"), XDG_CACHE_HOME=str(folder / "cache"))
        (folder / "bars.toml").write_text(BARS + QUICK_PLAN)
        ended = run_cli("run", "bars.toml", "--out", "run", cwd=folder, env=environment())
        assert ended.code == 0, ended.err
        devices: list[Device] = []
        try:
            for kind in kinds:
                devices.append(kind(folder))
                remember(devices[-1], folder)
            yield folder / "run", devices
        finally:
            for device in devices:
                device.close()


def remember(device: Device, folder: Path) -> None:
    """Write the device's target file to the user's own folder of targets."""
    place = folder / "config" / "edgekit" / "targets"
    place.mkdir(parents=True, exist_ok=True)
    fields = {"name": device.name, "title": "a device that is cut off"}
    table = {name: value for name, value in {**asdict(device.target()), **fields}.items() if value}
    (place / f"{device.name}.toml").write_text(tomli_w.dumps(table))


def table(rows: Sequence[Cut]) -> str:
    head = ("device", "command", "cut", "cuts", "exit 4", "exit 0", "longest end, s", "next run finished", "problems")
    lines = [f"| {' | '.join(head)} |", "|---|---|---|--:|--:|--:|--:|--:|--:|"]
    for key in sorted({(row.device, row.command, row.kind) for row in rows}):
        some = [row for row in rows if (row.device, row.command, row.kind) == key]
        codes = [row.code for row in some]
        figures = [len(some), codes.count(4), codes.count(0), f"{max(row.seconds for row in some):.1f}"]
        figures += [sum(row.again == 0 for row in some), sum(bool(row.problems) for row in some)]
        lines.append(f"| {' | '.join(map(str, (*key, *figures)))} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=50, help="of each device")
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time, which is printed")
    parser.add_argument("--only", choices=("ssh", "adb"), help="one of the devices")
    parser.add_argument("--json", type=Path, help="write every cut to this file")
    words = parser.parse_args()
    seed = words.seed if words.seed is not None else random.SystemRandom().randrange(10**6)
    chance = random.Random(seed)
    print(f"seed {seed}", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the devices are stopped
    kinds: list[Callable[[Path], Device]] = []
    if words.only != "adb":
        kinds.append(Pi)
    if words.only != "ssh":
        if why := adbd.missing():
            sys.exit(f"no adbd here: {why}; --only ssh leaves it out")
        kinds.append(Phone)
    rows: list[Cut] = []
    with prepared(kinds) as (run, devices):
        for device in devices:
            for cut in cuts(device, run, words.cuts, chance):
                print(f"{len(rows) + 1:3} {cut}", file=sys.stderr, flush=True)
                rows.append(cut)
    print(table(rows))
    if words.json:
        words.json.write_text(json.dumps({"seed": seed, "cuts": [asdict(row) for row in rows]}, indent=1) + "\n")
    return 1 if any(row.problems for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
