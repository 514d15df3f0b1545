"""The system images of emulated boards: Debian for arm64, built once and kept in the user's cache.

`pi` is Debian 12 with OpenSSH's server, Python and the runtimes' wheels; `phone` is Debian 13's userland with the real
adbd, a busybox shell and no Python. Packages are only unpacked: building an image executes no arm64 code.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

from edgekit.core import children
from edgekit.core.errors import DeviceError, Missing, os_errors
from edgekit.core.target import Target
from edgekit.core.temporary import TemporaryFolder, temporary_folder
from edgekit.devices.shared import environment as environments
from edgekit.devices.shared.facts import Facts, parse_facts
from edgekit.ondevice import agent

SOURCE = Path(agent.__file__).parent / "board"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR = "http://deb.debian.org/debian"
#: time-out of building an image in seconds; most of it is the download
BUILD_SECONDS = 1200.0
#: required command → Debian package
TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "arch-test": "arch-test",
    "qemu-system-aarch64": "qemu-system-arm",
    "ssh-keygen": "openssh-client",
}
_BASE = "bash,dash,coreutils,grep,sed,findutils,tar,gzip,procps,util-linux,mount,base-files,base-passwd,libc-bin"
#: system → (suite of Debian, packages)
SYSTEMS = {
    "pi": ("bookworm", f"linux-image-arm64,busybox-static,python3,openssh-server,{_BASE},libgomp1,libstdc++6"),
    "phone": ("trixie", "adbd,busybox-static,dash,coreutils,base-files,base-passwd,libc-bin,libgomp1,libstdc++6"),
}
#: runtimes whose wheels are in the image; other runtimes and versions are pushed as to any board
RUNTIMES = {"onnxruntime": ">=1.20", "litert": ">=2.1"}


@dataclass(frozen=True)
class Image:
    """The files that a board starts from; `disk` is copied for each board, and only the copy is written to."""

    kernel: Path
    busybox: Path
    modules: tuple[Path, ...]
    disk: Path


def check_tools(*more: tuple[str, str]) -> None:
    """Raises Missing, with the install command, if a program is not installed."""
    required = {**TOOLS, **dict(more)}
    if os.geteuid() != 0:
        required["fakeroot"] = "fakeroot"
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
    absent = sorted({package for name, package in required.items() if shutil.which(name, path=path) is None})
    if not KEYRING.is_file():
        absent.append("debian-archive-keyring")
    if absent:
        next = f"sudo apt-get install --no-install-recommends {' '.join(absent)}"
        raise Missing("emulated boards need programs that are not installed", ", ".join(absent), next)


def cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("edgekit") / "boards"


def image(system: str) -> Image:
    """The image of a system, built and cached. Raises Missing or DeviceError."""
    check_tools()
    folder = cache() / "images" / f"{system}-{_key(system)}"
    if not folder.is_dir():
        environments.log.info("building the %s system for emulated boards, once", system)
        _build(system, folder)
    if system == "phone":  # the phone uses the kernel of `pi`
        return dataclasses.replace(image("pi"), disk=folder / "disk.img")
    modules = tuple(sorted((folder / "modules").glob("*.ko")))
    return Image(folder / "kernel", folder / "busybox", modules, folder / "disk.img")


def facts() -> Facts:
    """The facts of the `pi` system that select its wheels."""
    sections = {"uname": "Linux\n\naarch64", "libc": "glibc 2.36", "python": "3.11.2 cpython 64"}
    return parse_facts(sections)


def _environments() -> dict[str, str]:
    """Key of each environment → its runtime."""
    target = Target("emulated", "", "qemu", arch="aarch64", runtimes=RUNTIMES)
    return {environments.environment_key(name, target, facts()): name for name in RUNTIMES}


def _key(system: str) -> str:
    suite, packages = SYSTEMS[system]
    parts = [suite, packages, *(path.read_text() for path in sorted(SOURCE.iterdir()))]
    parts += sorted(_environments()) if system == "pi" else []
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _build(system: str, folder: Path) -> None:
    suite, packages = SYSTEMS[system]
    with os_errors("write", folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = TemporaryFolder(folder.parent)
        part = temporary.path
        for place in (part.parent, part):
            place.chmod(0o755)  # apt reads it as another user
    try:
        _overlay(system, part / "overlay")
        prefix = ["fakeroot"] if os.geteuid() != 0 else []
        mirror = os.environ.get("EDGEKIT_DEBIAN_MIRROR") or MIRROR
        command = [*prefix, "sh", str(SOURCE / "build.sh"), suite, packages, mirror, str(KEYRING), str(part)]
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin", "LC_ALL": "C"}
        try:
            done = children.run(command, env=environment, text=True, timeout=BUILD_SECONDS)
        except subprocess.TimeoutExpired as error:
            what = "the system for emulated boards cannot be built"
            raise DeviceError(what, f"it took longer than {BUILD_SECONDS:.0f} s", "run it again") from error
        if done.returncode != 0:
            lines = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()
            line = next((line for line in lines if line.startswith(("E:", "mke2fs"))), lines[-1])
            hint = f"is {mirror} in reach? set another mirror in EDGEKIT_DEBIAN_MIRROR"
            raise DeviceError("the system for emulated boards cannot be built", line[:300], hint)
        with os_errors("write", folder):
            if not folder.exists():
                part.rename(folder)
    finally:
        temporary.remove()


def _overlay(system: str, overlay: Path) -> None:
    """The files added to Debian's: the init program, and the environments of `pi`."""
    with os_errors("write", overlay):
        (overlay / "usr" / "sbin").mkdir(parents=True)
        (overlay / "etc").mkdir()
        shutil.copy(SOURCE / f"{system}.sh", overlay / "usr/sbin/board")
        (overlay / "usr/sbin/board").chmod(0o755)
        (overlay / "etc" / "hosts").write_text("127.0.0.1 localhost board\n")
    if system == "pi":
        for key, runtime in _environments().items():
            _unpacked(runtime, overlay / "home/pi/.cache/edgekit/environments" / key)


def _unpacked(runtime: str, place: Path) -> None:
    """Unpack a runtime's wheels as an environment. Raises DeviceError if they are not available."""
    target = Target("emulated boards", "", "qemu", arch="aarch64", runtimes=RUNTIMES)
    with temporary_folder() as folder:
        output = ""
        for packages in environments.choices(runtime, target):
            output = environments.download(packages, facts(), folder)
            if not output:
                break
        if output:
            raise environments.no_wheels(target, runtime, facts(), output)
        with os_errors("write", place):
            place.mkdir(parents=True)
            for path in sorted(folder.glob("*.whl")):
                with zipfile.ZipFile(path) as wheel:
                    for member in wheel.infolist():
                        agent.unpack(wheel, member, str(place))
