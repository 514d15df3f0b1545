"""Targets, and the measurement plan."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

_FORM = re.compile(
    r"(?:(?P<user>[A-Za-z_][A-Za-z0-9_.-]{0,63})@)?"
    r"(?:(?P<host>[A-Za-z0-9][A-Za-z0-9._-]{0,252})|\[(?P<v6>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9]+)?)\])"
    r"(?::(?P<port>[0-9]{1,5}))?"
)


@dataclass(frozen=True)
class Address:
    """`user` "" and `port` 0 are taken from the user's ssh configuration. `host` may be an alias defined there."""

    host: str
    user: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """`[user@]host[:port]`; an IPv6 address is in brackets. Raises ValueError with a sentence."""
        match = _FORM.fullmatch(text)
        port = int(match["port"] or 0) if match else 0
        if not match or port > 65535 or (match["port"] and not port):
            why = "write user@host, user@host:port or an alias of your ssh configuration"
            raise ValueError(f"{text!r} is not an address: {why}")
        return cls(match["host"] or match["v6"], match["user"] or "", port)

    def words(self) -> list[str]:
        """The arguments of an ssh command line that name the host, user and port."""
        user = ["-l", self.user] if self.user else []
        port = ["-p", str(self.port)] if self.port else []
        return [*user, *port, "--", self.host]

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (f"{self.user}@" if self.user else "") + host + (f":{self.port}" if self.port else "")


#: adb's name of a device: a serial number, or host:port
_SERIAL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\]:[0-9]{1,5}")

#: the allowed values of a field, as a pattern and in words; free text (title, notes) is only printed
_FIELDS = {
    "name": (r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "letters, digits, '.', '_' and '-'"),
    "device": (r"[a-z][a-z0-9_]*", "small letters"),
    "arch": (r"[A-Za-z0-9_]*", "letters, digits and '_'"),
    "python": (r"[A-Za-z0-9_./][A-Za-z0-9_./+-]*", "a command's name or path"),
    "cpu": (r"([a-z0-9][a-z0-9-]*)?", "a processor as qemu names it, such as cortex-a72"),
    "system": (r"(pi|phone)?", "pi or phone"),
}


def _target_problems(target: Target) -> Iterator[str]:
    """The problems with a target file's fields, one sentence each."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    for name, (pattern, words) in _FIELDS.items():
        if not re.fullmatch(pattern, getattr(target, name)):
            yield f"{name} must be {words}, not {getattr(target, name)!r}"
    for flag in target.isa:
        if not re.fullmatch(r"[a-z0-9_]+", flag):
            yield f"isa must hold flags as Linux names them, not {flag!r}"
    for runtime, versions in target.runtimes.items():
        if not re.fullmatch(r"[a-z][a-z0-9_]*", runtime):
            yield f"runtimes must be named as `edgekit targets list` does, not {runtime!r}"
        try:
            SpecifierSet(versions)
        except InvalidSpecifier:
            yield f"runtimes.{runtime} must be a version specifier such as '>=1.20', not {versions!r}"
    for runtime, path in target.libraries.items():
        if runtime not in target.runtimes or not path or "\0" in path or "\n" in path:
            yield f"libraries.{runtime} must be the path of a library of a runtime in `runtimes`"
    if target.address and target.device == "adb":
        if not _SERIAL.fullmatch(target.address):
            yield f"address: {target.address!r} is not a serial number: `adb devices` lists them"
    elif target.address:
        try:
            Address.parse(target.address)
        except ValueError as error:
            yield f"address: {error}"


Provenance = Literal["measured", "emulated", "simulated-instructions", "estimated"]


@dataclass(frozen=True)
class Plan:
    """How to measure. Times are in seconds; the latency is measured with `batch` and `threads`."""

    threads: int = 1
    batch: int = 1
    precision: Literal["fp32", "bf16"] = "fp32"
    processes: int = 15
    seconds: float = 0.15
    warmup_seconds: float = 0.1
    min_runs: int = 10
    samples: int = 0
    timeout: float = 600.0
    #: seconds of continuous inference, recording temperature and clock over time; 0: none
    sustained: float = 0.0
    #: of a model that generates text: its latency is that of a request with so many tokens, for so many new ones
    prompt: int = 64
    new_tokens: int = 32
    #: false: outputs only, no latency and no memory
    latency: bool = True

    def problems(self) -> Iterator[str]:
        for name in ("threads", "batch", "processes", "min_runs", "prompt", "new_tokens"):
            if getattr(self, name) < 1:
                yield f"{name} must be at least 1"
        if self.seconds <= 0 or self.warmup_seconds < 0 or self.timeout <= 0:
            yield "seconds and timeout must be positive, warmup_seconds not negative"
        if self.samples < 0:
            yield "samples must be 0 (all) or more"
        if self.sustained < 0:
            yield "sustained must be 0 (none) or a positive number of seconds"
        if self.sustained and not self.latency:
            yield "a sustained load is measured by its latency: leave out one of sustained and no-latency"


#: the plan's fields that --quick and --thorough change
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "quick": {"processes": 5, "seconds": 0.1},
    "thorough": {"processes": 30, "seconds": 0.2},
}


@dataclass(frozen=True)
class Target:
    """A board, a phone or this host: how to reach it and what it can run."""

    name: str
    title: str
    device: str
    arch: str = ""
    isa: tuple[str, ...] = ()
    cores: int = 0
    memory_mb: int = 0
    runtimes: Mapping[str, str] = field(default_factory=dict)
    notes: str = ""
    #: [user@]host[:port] for ssh, a serial number for adb; never in a shipped file
    address: str = ""
    #: the device's Python
    python: str = "python3"
    #: for qemu: the name of the emulated processor, and the system, "pi" or "phone"
    cpu: str = ""
    system: str = ""
    #: runtime → path of the C library to push to a phone; default: the one in the Linux wheel
    libraries: Mapping[str, str] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        return _target_problems(self)

    @property
    def isa_class(self) -> str:
        """The instruction-set class that decides an int8 scheme: x86-vnni, x86, arm64, …"""
        if self.arch in ("x86_64", "amd64", "x86"):
            return "x86-vnni" if {"avx512_vnni", "avx_vnni", "amx_int8"} & set(self.isa) else "x86"
        return {"aarch64": "arm64"}.get(self.arch, self.arch)
