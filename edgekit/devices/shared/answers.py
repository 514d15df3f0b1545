"""The agent's answers (`ondevice/agent.py`) to each request: a line of JSON, then the bytes of its files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import InvalidVersion, Version

from edgekit.devices.shared.untrusted import json_object, record


@dataclass(frozen=True)
class Failure:
    """`kind`: full, denied, busy, damaged or system; `where`: the file, if any."""

    kind: str
    what: str
    where: str = ""


@dataclass(frozen=True)
class Done:
    pass


@dataclass(frozen=True)
class Hello:
    agent: int
    root: str
    free: int
    python: tuple[int, int, int]

    def problems(self) -> Iterator[str]:
        if self.free < 0:
            yield f"free is {self.free}"


@dataclass(frozen=True)
class Missing:
    missing: tuple[str, ...]
    free: int

    def problems(self) -> Iterator[str]:
        if self.free < 0:
            yield f"free is {self.free}"


@dataclass(frozen=True)
class Versions:
    versions: Mapping[str, str | None]

    def problems(self) -> Iterator[str]:
        for version in self.versions.values():
            try:
                Version(version or "0")
            except InvalidVersion:
                yield f"{version!r} is not a version"


@dataclass(frozen=True)
class Has:
    has: bool


@dataclass(frozen=True)
class Pip:
    """`code`: exit code, or the negative signal; None if it was stopped. `said`: the end of its output."""

    code: int | None
    timed_out: bool
    said: str

    def problems(self) -> Iterator[str]:
        if (self.code is None) != self.timed_out:
            yield f"code is {self.code}, and timed_out is {self.timed_out}"


@dataclass(frozen=True)
class Ran(Pip):
    """`free`: bytes on its disk, `temperature_c` in degrees Celsius, `throttled`: the Raspberry Pi firmware's flags."""

    free: int
    temperature_c: float | None
    throttled: int


@dataclass(frozen=True)
class Cleaned:
    bytes: int
    root: str

    def problems(self) -> Iterator[str]:
        if self.bytes < 0:
            yield f"bytes is {self.bytes}"


@dataclass(frozen=True)
class Files:
    """The name and the size in bytes of each file that follows the line."""

    files: tuple[tuple[str, int], ...] = ()

    def problems(self) -> Iterator[str]:
        names = [name for name, _ in self.files]
        if len(set(names)) < len(names):
            yield "it names a file twice"
        for name, size in self.files:
            if size < 0:
                yield f"{name!r} has {size} bytes"


SCHEMAS: Mapping[str, type] = {
    "hello": Hello,
    "missing": Missing,
    "versions": Versions,
    "has": Has,
    "pip": Pip,
    "run": Ran,
    "clean": Cleaned,
    **dict.fromkeys(("put", "discard", "lock", "unpack"), Done),
}


def read(do: str, line: bytes) -> tuple[dict[str, Any], tuple[tuple[str, int], ...]]:
    """The answer to the request `do`, with its `error`, if any, and its files. Raises ValueError with a sentence."""
    answer = json_object(line)
    files = record(Files, {"files": answer.pop("files", [])}).files
    if "error" in answer:
        if set(answer) != {"error"} or not isinstance(answer["error"], dict):
            raise ValueError("its error is not an object")
        record(Failure, answer["error"])
    else:
        record(SCHEMAS[do], answer)
    return answer, files
