"""An emulated board: started when it is first asked for, then reached like a real one, over ssh.

What it computes is a board's; how long it takes is not. So its clock counts instructions (see `_boards`), and these are
what is kept of a timed run.
"""

from __future__ import annotations

import dataclasses
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from edgekit.core.artifact import Artifact
from edgekit.core.device import Device, Job
from edgekit.core.errors import InputError
from edgekit.core.target import Provenance
from edgekit.devices.adb import Adb
from edgekit.devices.shared import adb, emulator
from edgekit.devices.shared.facts import Facts
from edgekit.devices.shared.releases import Releases
from edgekit.devices.ssh import Ssh


class Qemu(Device):
    provenance: ClassVar[Provenance] = "emulated"
    timed: ClassVar[bool] = False

    @property
    def inside(self) -> Ssh | Adb:
        """The device as it is reached, with the board up."""
        if self.target.system == "phone":
            phone = emulator.board(self.target, adb.is_up)
            return Adb(dataclasses.replace(self.target, address=f"127.0.0.1:{phone.port}"))
        board = emulator.board(self.target, emulator.ssh_is_up)
        return Ssh(dataclasses.replace(self.target, address=board.address), str(board.config))

    @property
    def machine(self) -> Facts:
        return self.inside.machine

    @property
    def sent_bytes(self) -> int:
        return self.inside.sent_bytes

    def facts(self) -> Mapping[str, Any]:
        return {**self.inside.facts(), "emulator": _emulator()}

    def run(self, job: Job, out: Path) -> Mapping[str, Any]:
        if job.plan.threads > 1:
            why = "an emulated board has one core: instructions are counted on that"
            raise InputError(f"{self.target.name} runs one thread", why, "leave --threads at 1")
        return self.inside.run(job, out)

    def forget(self, paths: Iterable[Path]) -> None:
        self.inside.forget(paths)

    def incompatibilities(self, artifact: Artifact, runtime: str) -> Iterator[str]:
        return self.inside.incompatibilities(artifact, runtime)

    def releases(self, folder: str) -> Releases:
        return self.inside.releases(folder)

    def clean(self) -> dict[str, Any]:
        """Its disk and keys go; nothing is started for that."""
        return emulator.clean(self.target.name)

    @classmethod
    def stop_all(cls) -> None:
        Ssh.stop_all()
        Adb.stop_all()
        emulator.stop_all()


@cache
def _emulator() -> str:
    """`QEMU emulator version 7.2.22 (Debian …)` → "qemu 7.2.22"."""
    command = ["qemu-system-aarch64", "--version"]
    said = subprocess.run(command, capture_output=True, text=True).stdout
    words = said.split("\n")[0].split()
    return f"qemu {words[3]}" if len(words) > 3 else "qemu"
