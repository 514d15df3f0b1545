"""An emulated board: started when first used, then reached like a real one, over ssh or adb.

It computes what a board computes, but its speed is not a board's. Its clock counts instructions (see
`shared/emulator.py`), and a timed run records those.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from edgekit.core import children
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
        """The ssh or adb device of the board, which is started first."""
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
            why = "an emulated board has one core, on which instructions are counted"
            raise InputError(f"{self.target.name} runs one thread", why, "leave --threads at 1")
        return self.inside.run(job, out)

    def discard_inputs(self, paths: Iterable[Path]) -> None:
        self.inside.discard_inputs(paths)

    def incompatibilities(self, artifact: Artifact, runtime: str) -> Iterator[str]:
        return self.inside.incompatibilities(artifact, runtime)

    def releases(self, folder: str) -> Releases:
        return self.inside.releases(folder)

    def clean(self) -> dict[str, Any]:
        """Remove the board's disk and keys; the board is not started for that."""
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
    output = children.run(command, text=True).stdout
    words = output.split("\n")[0].split()
    return f"qemu {words[3]}" if len(words) > 3 else "qemu"
