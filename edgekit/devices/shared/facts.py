"""Probe a device: one shell script that any POSIX shell runs, and a pure parser for each of its sections.

The script only reads. A section that a system does not have is empty, and its parser returns the value for "unknown".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.devices.shared.untrusted import shown

START, END = "== edgekit 1", "== end"

#: PYTHON is replaced, quoted. Nothing in the script reads standard input: the rest of it is for the agent.
SCRIPT = rf"""
LC_ALL=C; export LC_ALL; PATH="$PATH:/usr/local/bin:/usr/bin:/bin"
unset OMP_NUM_THREADS OMP_THREAD_LIMIT
python=PYTHON
say() {{ printf '\n== %s\n' "$1"; }}
exec 3<&0 </dev/null
printf '\n{START}\n'
say uname; uname -s; uname -r; uname -m
say cpuinfo; cat /proc/cpuinfo 2>/dev/null
say cores; nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null
say meminfo; cat /proc/meminfo 2>/dev/null
say model; tr -d '\000' 2>/dev/null </proc/device-tree/model
say libc; getconf GNU_LIBC_VERSION 2>/dev/null
say release; cat /etc/os-release 2>/dev/null
say page; getconf PAGESIZE 2>/dev/null
say disk; df -Pk "${{HOME:-/}}" 2>/dev/null
say date; date +%s
say thermal; for zone in /sys/class/thermal/thermal_zone*; do cat "$zone/temp" 2>/dev/null; done
say governor; cat /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor 2>/dev/null
say throttled; cat /sys/devices/platform/soc/soc:firmware/get_throttled 2>/dev/null
say python; "$python" -c 'import sys
print("%d.%d.%d" % sys.version_info[:3], sys.implementation.name, 64 if sys.maxsize > 2**32 else 32)' 2>/dev/null
printf '\n{END}\n'
exec <&3 3<&-
"""

#: Arm's own cores by (implementer, part) as /proc/cpuinfo gives them (MIDR_EL1; the names are Arm's)
ARM_CORES: Mapping[str, str] = {
    "0xd03": "Cortex-A53",
    "0xd04": "Cortex-A35",
    "0xd05": "Cortex-A55",
    "0xd07": "Cortex-A57",
    "0xd08": "Cortex-A72",
    "0xd09": "Cortex-A73",
    "0xd0a": "Cortex-A75",
    "0xd0b": "Cortex-A76",
    "0xd0c": "Neoverse-N1",
    "0xd0d": "Cortex-A77",
    "0xd40": "Neoverse-V1",
    "0xd41": "Cortex-A78",
    "0xd42": "Cortex-A78AE",
    "0xd44": "Cortex-X1",
    "0xd49": "Neoverse-N2",
    "0xd4f": "Neoverse-V2",
}

ARM_LTD = "0x41"
#: more processors than any machine has
MOST_CORES = 1 << 16


@dataclass(frozen=True)
class Facts:
    """The facts of a device. "", 0 and None mean unknown.

    `clock` is the device's time in seconds since 1970, `temperature` that of its hottest zone in degrees Celsius,
    `bits` the pointer size of its Python, `throttled` the Raspberry Pi firmware's flags.
    """

    system: str
    release: str
    arch: str
    cpu: str
    isa: tuple[str, ...]
    cores: int
    memory_bytes: int
    model: str
    glibc: tuple[int, int] | None
    os: str
    page_bytes: int
    free_bytes: int | None
    clock: int
    temperature: float | None
    governor: str
    throttled: int
    python: tuple[int, int, int] | None
    implementation: str
    bits: int

    def identity(self) -> dict[str, Any]:
        """The facts that do not change between runs: part of a measurement's identity."""
        return {
            "cpu": self.cpu,
            **({"board": self.model} if self.model else {}),
            "arch": self.arch,
            "isa": list(self.isa),
            "cores": self.cores,
            "memory_bytes": self.memory_bytes,
            "governor": self.governor or "unknown",
            "os": f"{self.system} {self.release}",
        }


def parse_facts(sections: Mapping[str, str]) -> Facts:
    """All facts, from the sections by name."""
    system, release, arch = uname(sections.get("uname", ""))
    version, implementation, bits = python(sections.get("python", ""))
    model = shown(sections.get("model", ""), 100)
    return Facts(
        system=system,
        release=release,
        arch=arch,
        cpu=shown(cpu(sections.get("cpuinfo", "")) or model or arch),
        isa=isa(sections.get("cpuinfo", "")),
        cores=min(number(sections.get("cores", "")) or cores(sections.get("cpuinfo", "")), MOST_CORES),
        memory_bytes=memory_bytes(sections.get("meminfo", "")),
        model=model,
        glibc=glibc(sections.get("libc", "")),
        os=os_name(sections.get("release", "")),
        page_bytes=number(sections.get("page", "")),
        free_bytes=free_bytes(sections.get("disk", "")),
        clock=number(sections.get("date", "")),
        temperature=temperature(sections.get("thermal", "")),
        governor=shown(sections.get("governor", ""), 40),
        throttled=throttled(sections.get("throttled", "")),
        python=version,
        implementation=implementation,
        bits=bits,
    )


def sections(text: str) -> dict[str, str]:
    """Name → text. Output of a login shell before the start is dropped."""
    _, _, text = text.partition(START)
    parts = re.split(r"^== (\w+)$", text.partition(END)[0], flags=re.MULTILINE)
    return {name: body.strip("\n") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def uname(text: str) -> tuple[str, str, str]:
    """`uname -s; uname -r; uname -m`: ("Linux", "6.1.0-25-arm64", "aarch64")."""
    lines = [*text.split("\n"), "", "", ""]
    arch = lines[2].strip()
    return shown(lines[0], 40), shown(lines[1], 100), arch if re.fullmatch(r"[A-Za-z0-9_]{1,20}", arch) else ""


def cpu(text: str) -> str:
    """The cores' name: x86 prints it; Arm prints numbers, several where there are big and little cores."""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    implementers, parts = _values(text, "CPU implementer"), _values(text, "CPU part")
    names = [
        ARM_CORES.get(part, f"Arm part {part}") if implementer == ARM_LTD else f"implementer {implementer} part {part}"
        for implementer, part in zip(implementers, parts, strict=False)
    ]
    return " + ".join(dict.fromkeys(names))


def isa(text: str) -> tuple[str, ...]:
    """The flags, common to all cores, that decide which kernels a runtime uses."""
    per_core = _values(text, "flags") or _values(text, "Features")
    common = set.intersection(*(set(flags.split()) for flags in per_core)) if per_core else set()
    return tuple(flag for flag in (per_core[0].split() if per_core else ()) if flag in common & INSTRUCTION_SETS)


def cores(text: str) -> int:
    return len(_values(text, "processor"))


def memory_bytes(text: str) -> int:
    """MemTotal: the memory available to the kernel, less than the installed memory."""
    match = re.search(r"^MemTotal:\s+(\d{1,15}) kB", text, re.MULTILINE)
    return int(match[1]) * 1024 if match else 0


def glibc(text: str) -> tuple[int, int] | None:
    """`getconf GNU_LIBC_VERSION`; None for another C library (musl cannot load glibc's wheels)."""
    match = re.search(r"glibc (\d{1,3})\.(\d{1,3})(?!\d)", text)
    return (int(match[1]), int(match[2])) if match else None


def os_name(text: str) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]*)"?$', text, re.MULTILINE)
    return shown(match[1], 100) if match else ""


def free_bytes(text: str) -> int | None:
    """`df -Pk`: the last line's fourth column, the kilobytes available to this user."""
    columns = text.strip().splitlines()[-1].split() if text.strip() else []
    numbers = [word for word in columns if re.fullmatch(r"\d{1,15}", word)]
    return int(numbers[2]) * 1024 if len(numbers) >= 3 else None


def temperature(text: str) -> float | None:
    """Thermal zones in thousandths of a degree; a zone that is off can print an invalid value."""
    degrees = [int(word) / 1000 for word in text.split() if re.fullmatch(r"-?\d{1,9}", word)]
    sane = [value for value in degrees if -40 < value < 150]
    return max(sane) if sane else None


def throttled(text: str) -> int:
    """The Raspberry Pi firmware's flags; bits 0 to 3 are current: low voltage, capped, throttled, at the soft limit."""
    match = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{1,8})", text.strip())
    return int(match[1], 16) if match else 0


def python(text: str) -> tuple[tuple[int, int, int] | None, str, int]:
    """(version, implementation, bits of a pointer); (None, "", 0) if there is no Python."""
    match = re.search(r"^(\d{1,3})\.(\d{1,3})\.(\d{1,3}) (\w{1,40}) (\d{1,3})$", text, re.MULTILINE)
    return ((int(match[1]), int(match[2]), int(match[3])), match[4], int(match[5])) if match else (None, "", 0)


def number(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,18}", text.strip()) else 0


def _values(text: str, key: str) -> list[str]:
    """The values of all lines `key : value`, one per processor."""
    return re.findall(rf"^{key}\s*:\s*(.*?)\s*$", text, re.MULTILINE)


#: the flags that decide which kernels a runtime uses, by Linux's names (x86, then Arm)
INSTRUCTION_SETS = frozenset(
    "avx avx2 fma avx512f avx512bw avx512vl avx512_vnni avx_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16 "
    "neon asimd asimdhp asimddp i8mm bf16 sve sve2".split()
)
