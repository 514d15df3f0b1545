"""What a device says of itself: one shell script that any POSIX shell runs, and a pure parser for each thing it prints.

The script only reads. A section that a system does not have is empty, and its parser gives the value for "not known".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

START, END = "== edgekit 1", "== end"

#: PYTHON is put in quoted. Nothing in it reads standard input: what follows there is for the agent.
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


@dataclass(frozen=True)
class Facts:
    """What was read. "", 0 and None mean that the device does not tell.

    `clock` is seconds since 1970 as the device has it, `temperature` degrees Celsius of its hottest zone, `bits` those
    of its Python, `throttled` the Raspberry Pi firmware's flags.
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
        """What stays the same from one run to the next: part of what makes two measurements comparable."""
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


def read(found: Mapping[str, str]) -> Facts:
    """All of it, from the sections by name."""
    system, release, arch = uname(found.get("uname", ""))
    version, implementation, bits = python(found.get("python", ""))
    model = found.get("model", "").strip()
    return Facts(
        system=system,
        release=release,
        arch=arch,
        cpu=cpu(found.get("cpuinfo", "")) or model or arch,
        isa=isa(found.get("cpuinfo", "")),
        cores=number(found.get("cores", "")) or cores(found.get("cpuinfo", "")),
        memory_bytes=memory_bytes(found.get("meminfo", "")),
        model=model,
        glibc=glibc(found.get("libc", "")),
        os=os_name(found.get("release", "")),
        page_bytes=number(found.get("page", "")),
        free_bytes=free_bytes(found.get("disk", "")),
        clock=number(found.get("date", "")),
        temperature=temperature(found.get("thermal", "")),
        governor=found.get("governor", "").strip(),
        throttled=throttled(found.get("throttled", "")),
        python=version,
        implementation=implementation,
        bits=bits,
    )


def sections(text: str) -> dict[str, str]:
    """Name → text. What a login shell printed before the start is left out."""
    _, _, text = text.partition(START)
    parts = re.split(r"^== (\w+)$", text.partition(END)[0], flags=re.MULTILINE)
    return {name: body.strip("\n") for name, body in zip(parts[1::2], parts[2::2], strict=True)}


def uname(text: str) -> tuple[str, str, str]:
    """`uname -s; uname -r; uname -m`: ("Linux", "6.1.0-25-arm64", "aarch64")."""
    lines = [*text.split("\n"), "", "", ""]
    return lines[0].strip(), lines[1].strip(), lines[2].strip()


def cpu(text: str) -> str:
    """The cores' name: x86 says it; Arm gives numbers, of several kinds where there are big and little cores."""
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
    """The flags that decide which kernels a runtime picks; those that every core has."""
    every = _values(text, "flags") or _values(text, "Features")
    common = set.intersection(*(set(flags.split()) for flags in every)) if every else set()
    return tuple(flag for flag in (every[0].split() if every else ()) if flag in common & INSTRUCTION_SETS)


def cores(text: str) -> int:
    return len(_values(text, "processor"))


def memory_bytes(text: str) -> int:
    """MemTotal: what the kernel has, less than what is soldered on."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def glibc(text: str) -> tuple[int, int] | None:
    """`getconf GNU_LIBC_VERSION`; None for another C library (musl has none of glibc's wheels)."""
    found = re.search(r"glibc (\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def os_name(text: str) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)"?$', text, re.MULTILINE)
    return found[1] if found else ""


def free_bytes(text: str) -> int | None:
    """`df -Pk`: the last line's fourth column, kilobytes that this user may still write."""
    columns = text.strip().splitlines()[-1].split() if text.strip() else []
    found = [word for word in columns if word.isdecimal()]
    return int(found[2]) * 1024 if len(found) >= 3 else None


def temperature(text: str) -> float | None:
    """Thermal zones in thousandths of a degree; a zone that is switched off can give nonsense."""
    degrees = [int(word) / 1000 for word in text.split() if re.fullmatch(r"-?\d+", word)]
    sane = [value for value in degrees if -40 < value < 150]
    return max(sane) if sane else None


def throttled(text: str) -> int:
    """The Raspberry Pi firmware's flags; bits 0 to 3 are now: low voltage, capped, throttled, at the soft limit."""
    found = re.fullmatch(r"(?:0x)?([0-9a-fA-F]{1,8})", text.strip())
    return int(found[1], 16) if found else 0


def python(text: str) -> tuple[tuple[int, int, int] | None, str, int]:
    """(version, implementation, bits of a pointer); (None, "", 0) where there is none."""
    found = re.search(r"^(\d+)\.(\d+)\.(\d+) (\w+) (\d+)$", text, re.MULTILINE)
    return ((int(found[1]), int(found[2]), int(found[3])), found[4], int(found[5])) if found else (None, "", 0)


def number(text: str) -> int:
    return int(text) if re.fullmatch(r"\d{1,18}", text.strip()) else 0


def _values(text: str, key: str) -> list[str]:
    """One entry per processor that has the line `key : value`."""
    return re.findall(rf"^{key}\s*:\s*(.*?)\s*$", text, re.MULTILINE)


#: the flags that decide which kernels a runtime picks, as Linux names them (x86, then Arm)
INSTRUCTION_SETS = frozenset(
    "avx avx2 fma avx512f avx512bw avx512vl avx512_vnni avx_vnni avx512_bf16 avx512_fp16 amx_tile amx_int8 amx_bf16 "
    "neon asimd asimdhp asimddp i8mm bf16 sve sve2".split()
)
