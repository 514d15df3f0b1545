"""Run a command as on a CPU that has AVX2 and no VNNI: `python tests/benchmarks/without_vnni edgekit run mnist`.

ONNX Runtime, LiteRT and OpenVINO choose their kernels by the CPUID instruction, which cannot be intercepted. So their
libraries are copied, each `cpuid` in the copies is replaced by `ud2` (both are two bytes), and a preloaded library
answers the signal with the CPU's own answer less AVX-512, VNNI, GFNI and AMX; it hides them in /proc/cpuinfo as well.
The outputs are those of such a CPU; the times are those of its kernels on this CPU's microarchitecture. qemu gives the
same outputs without times, hundreds of times slower. Needs Linux on x86, gcc and objdump.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from platformdirs import user_cache_path

PACKAGES = {"onnxruntime": "onnxruntime", "ai_edge_litert": "ai-edge-litert", "openvino": "openvino"}
#: libraries without kernels for a CPU
OTHER = re.compile(r"gpu|npu|frontend|vendors|WebGpu")
CPUID, UD2 = b"\x0f\xa2", b"\x0f\x0b"
HERE = Path(__file__).resolve().parent


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = copies()
    shim = folder / "hide.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", shim, HERE / "hide.c", "-ldl"], check=True)
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    os.environ.update(LD_PRELOAD=str(shim), PYTHONPATH=path)
    os.execvp(sys.argv[1], sys.argv[1:])


def copies() -> Path:
    """The folder with the changed packages, made once per version."""
    versions = "-".join(version(name) for name in PACKAGES.values())
    folder = user_cache_path("edgekit") / f"without-vnni-{versions}"
    if not (folder / "complete").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        for package in PACKAGES:
            found = importlib.util.find_spec(package)
            assert found and found.submodule_search_locations, f"{package} is not installed"
            shutil.copytree(found.submodule_search_locations[0], folder / package, symlinks=True)
            for library in (folder / package).rglob("*.so*"):
                if not library.is_symlink() and not OTHER.search(str(library.relative_to(folder))):
                    replace(library)
        (folder / "complete").touch()
    return folder


def replace(library: Path) -> None:
    """Put `ud2` in the place of each `cpuid` of a library."""
    with subprocess.Popen(["objdump", "-d", "--no-show-raw-insn", library], stdout=subprocess.PIPE, text=True) as dump:
        assert dump.stdout
        sites = [int(line.split(":")[0], 16) for line in dump.stdout if line.rstrip().endswith("\tcpuid")]
    if not sites:
        return
    headers = subprocess.run(["readelf", "-lW", library], capture_output=True, text=True, check=True).stdout
    loads = [tuple(int(n, 16) for n in load) for load in re.findall(r"LOAD\s+(\w+)\s+(\w+)\s+\w+\s+(\w+)", headers)]
    data = bytearray(library.read_bytes())
    for site in sites:
        at = next(site - address + offset for offset, address, size in loads if address <= site < address + size)
        assert data[at : at + 2] == CPUID
        data[at : at + 2] = UD2
    library.write_bytes(data)
    print(f"{library.name}: {len(sites)} cpuid replaced", file=sys.stderr)


if __name__ == "__main__":
    main()
