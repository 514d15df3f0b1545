"""A hostile device: an `ssh` and an adb server that answer honestly, except to the request that a test attacks.

`HostileSsh` is an `ssh` on the PATH: this file, run as a program. It speaks the agent's protocol (`ondevice/agent.py`)
with canned answers. `HostileAdb` is an adb server for the system's own `adb`; its one phone answers every script.
Attacks are named after what the device does; `ATTACKS` is all of them.
"""

from __future__ import annotations

import io
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

FACTS = """
== edgekit 1

== uname
Linux
6.1.0
x86_64

== cpuinfo
processor\t: 0
model name\t: Hostile CPU
flags\t\t: avx avx2

== cores
1

== meminfo
MemTotal:        1000000 kB

== libc
glibc 2.36

== disk
Filesystem 1024-blocks Used Available Capacity Mounted on
/dev/x 1000000 500000 500000 50% /

== date
1764000000

== python
3.11.2 cpython 64

== end
"""
TIMES = [1000] * 20
#: the honest result of a job; its outputs are those of `output` below
RESULT: dict[str, Any] = {
    "schema": "edgekit-runner/1",
    "error": None,
    "load_ms": 1.0,
    "floor_rss_bytes": 1000,
    "peak_rss_bytes": 2000,
    "outputs": {"output": "out/output0.npy"},
    "output_batch": 64,
    "facts": {"runtime_version": "1.32.0"},
    "first_ms": 1.0,
    "warmups": 3,
    "steady": True,
    "batch": 1,
    "times_ns": TIMES,
    "cpu_ns": TIMES,
    "first_token_ns": [],
    "watch": {"cpu_share": 1.0, "steal_share": 0.0, "throttled": 0, "load_average": 0.0},
    "energy_mj": None,
    "energy_source": "",
}


def endlessly(write: Callable[[bytes], None], block: bytes, pause: float = 0.0) -> None:
    while True:
        write(block)
        time.sleep(pause)


def silence(_: Callable[[bytes], None], __: bytes) -> None:
    time.sleep(3600)


def half(write: Callable[[bytes], None], honest: bytes) -> None:
    write(honest[: len(honest) // 2])


def half_then_silence(write: Callable[[bytes], None], honest: bytes) -> None:
    half(write, honest)
    time.sleep(3600)


#: what it does in place of its honest bytes; then it hangs up
ATTACKS: dict[str, Callable[[Callable[[bytes], None], bytes], None]] = {
    "garbage": lambda write, _: write(os.urandom(50_000) + b"\n" + os.urandom(50_000)),
    "an endless line": lambda write, _: endlessly(write, b"x" * 65536),
    "endless lines": lambda write, _: endlessly(write, b"[]\n" * 20_000),
    "a drip": lambda write, _: endlessly(write, b" ", 0.05),
    "silence": silence,
    "a half": half,
    "a half, then silence": half_then_silence,
    "nothing": lambda write, _: None,
    "brackets": lambda write, _: write(b'{"a":' * 100_000 + b"\n"),
    "a long number": lambda write, _: write(b'{"free": ' + b"9" * 10_000 + b"}\n"),
    "NaN": lambda write, _: write(b'{"free": NaN}\n'),
    "a list": lambda write, _: write(b"[1, 2]\n"),
    "an empty object": lambda write, _: write(b"{}\n"),
    "escape codes": lambda write, _: write(b'{"error": {"kind": "\x1b[31m", "what": "\\u001b]0;pwned\\u0007"}}\n'),
    "an error that is a text": lambda write, _: write(b'{"error": "no"}\n'),
}


class HostileSsh:
    """`attack(at, what)`: attack at the greeting ("greeting") or at the answer to a request ("run", "versions", …).

    `what` is one of `ATTACKS`, a JSON object to answer with, {"result": FIELDS} to replace fields of the job's result
    (None: leave it out), or {"files": [[NAME, SIZE], …]} to send other files.
    """

    def __init__(self, folder: Path, output: bytes) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "output0.npy").write_bytes(output)
        (folder / "attack.json").write_text("{}")
        path = folder / "ssh"
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -E "{__file__}" "{folder}" "$@"\n')
        path.chmod(0o755)

    def attack(self, at: str, what: object) -> None:
        (self.folder / "attack.json").write_text(json.dumps({"at": at, "what": what}))


def main(folder: Path, command: str) -> None:
    attack = json.loads((folder / "attack.json").read_text())

    def write(data: bytes) -> None:
        while data:
            data = data[os.write(1, data) :]

    def answer(at: str, honest: bytes) -> None:
        if attack.get("at") != at:
            write(honest)
        elif isinstance(attack["what"], str):
            ATTACKS[attack["what"]](write, honest)
            raise SystemExit
        else:
            write(json.dumps(attack["what"]).encode() + b"\n")

    source = sys.stdin.buffer
    script = source.read(int(re.search(r"count=(\d+)", command)[1]))  # type: ignore[index]
    source.read(int(re.search(rb"len\(source\) < (\d+)", script)[1]))  # type: ignore[index]
    if attack.get("at") == "messages":
        endlessly(lambda block: os.write(2, block) and None, b"\x1b[31mnoise" * 10_000)
    answer("greeting", FACTS.encode())
    line = {"agent": 1, "root": "/root/.cache/edgekit", "free": 10**9, "python": [3, 11, 2]}
    answer("hello", json.dumps({**line, "files": []}).encode() + b"\n")
    for text in source:
        request = json.loads(text)
        if request["do"] == "put":
            source.read(request["bytes"])
        files = {}
        if request["do"] == "run":
            files = ran(folder, request, attack)
        honest: dict[str, Any] = {
            "missing": {"missing": list(request.get("files", ())), "free": 10**9},
            "versions": {"versions": dict.fromkeys(request.get("packages", ()), "1.32.0")},
            "has": {"has": False},
            "pip": {"code": 1, "timed_out": False, "said": "no"},
            "run": {"code": 0, "timed_out": False, "said": "", "free": 10**9, "temperature_c": 40.0, "throttled": 0},
            "clean": {"bytes": 10, "root": "/root/.cache/edgekit"},
        }.get(request["do"], {})
        what = attack.get("what")
        listed = [[name, len(data)] for name, data in files.items()]
        if request["do"] == attack.get("at") == "run" and isinstance(what, dict) and "files" in what and len(what) == 1:
            write(json.dumps({**honest, "files": what["files"]}).encode() + b"\n")
            endlessly(write, b"\0" * 65536)
        elif request["do"] == "run" and isinstance(what, dict) and "result" in what:
            write(json.dumps({**honest, "files": listed}).encode() + b"\n")
        else:
            answer(request["do"], json.dumps({**honest, "files": listed}).encode() + b"\n")
        for data in files.values():
            write(data)


def ran(folder: Path, request: dict[str, Any], attack: dict[str, Any]) -> dict[str, bytes]:
    """The files of a job's answer."""
    what = attack.get("what")
    outputs = bool(request["job"].get("outputs"))
    result = {**RESULT, **({} if outputs else {"outputs": {}})}
    files = {"output0.npy": (folder / "output0.npy").read_bytes()} if outputs else {}
    if isinstance(what, dict) and "result" in what:
        if isinstance(what["result"], str):
            return {"result.json": what["result"].encode(), **files}
        result.update(what["result"])
        result = {name: value for name, value in result.items() if value != "absent"}
        files.update({name: bytes.fromhex(data) for name, data in what.get("sent", {}).items() if outputs})
    return {"result.json": json.dumps(result).encode(), **files}


class HostileAdb:
    """An adb server with one phone, "hostile"; `attack(part of a script or command, what)`: as `HostileSsh`."""

    def __init__(self, output: bytes) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._at, self._what = "", b""
        self._attack: Callable[[Callable[[bytes], None], bytes], None] | None = None
        self.files = {"result.json": json.dumps(RESULT).encode(), "output0.npy": output}
        self._closing = False
        threading.Thread(target=self._serve, daemon=True).start()

    def attack(self, at: str, what: str | bytes) -> None:
        """`what`: one of `ATTACKS`, or the bytes that it sends in place of the honest ones."""
        self._at = at
        self._attack = ATTACKS[what] if isinstance(what, str) else lambda write, _: write(what)

    def close(self) -> None:
        self._closing = True
        self._listener.close()

    def _serve(self) -> None:
        while not self._closing:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._client, args=(client,), daemon=True).start()

    def _client(self, client: socket.socket) -> None:
        with client:
            try:
                while self._request(client):
                    pass
            except (OSError, ValueError):
                return

    def _request(self, client: socket.socket) -> bool:
        """One request of the protocol of adb's server; True if the connection goes on to another one."""
        size = _received(client, 4)
        if not size:
            return False
        text = _received(client, int(size, 16)).decode()

        def said(answer: bytes) -> None:
            client.sendall(b"OKAY%04x" % len(answer) + answer)

        if text == "host:version":
            said(b"0029")
        elif text.startswith(("host:transport", "host:tport")):
            client.sendall(b"OKAY" + (b"\1\0\0\0\0\0\0\0" if ":tport" in text else b""))
            return True
        elif text.endswith("get-state"):
            said(b"device")
        elif text.endswith("features") or text.startswith("host"):
            said(b"")
        elif text.startswith("sync:"):
            client.sendall(b"OKAY")
            _sync(client)
        else:
            client.sendall(b"OKAY")
            honest = self._honest(text)
            if self._attack and self._at in text:
                self._attack(client.sendall, honest)
            else:
                client.sendall(honest)
        return False

    def _honest(self, text: str) -> bytes:
        if text.startswith("exec:"):
            return self.files[text.rpartition("/")[2]]
        output = ""
        if "edgekit 1" in text:
            output = FACTS
        elif "df -Pk" in text:
            output = "Filesystem 1024-blocks Used Available Capacity Mounted on\n/dev/x 9000000 0 9000000 0% /data\n"
        elif "sha256sum" in text:
            output = "".join(f"{sha}  {sha}\n" for sha in re.findall(r"[0-9a-f]{64}", text))
        elif "wc -c" in text:
            names = re.search(r"for name in ([^;]*);", text)[1].split()  # type: ignore[index]
            output = "".join(f"{len(self.files[name])} {name}\n" for name in names if name in self.files)
        return f"{output}\n== exit 0\n".encode()


def _received(client: socket.socket, size: int) -> bytes:
    data = io.BytesIO()
    while data.tell() < size:
        block = client.recv(size - data.tell())
        if not block:
            return b""
        data.write(block)
    return data.getvalue()


def _sync(client: socket.socket) -> None:
    """`adb push`: every file is accepted."""
    while header := _received(client, 8):
        kind, size = header[:4], int.from_bytes(header[4:], "little")
        if kind == b"QUIT":
            return
        if kind == b"DONE":
            client.sendall(b"OKAY\0\0\0\0")
            continue
        _received(client, size)
        if kind == b"STAT":
            client.sendall(b"STAT" + (0).to_bytes(12, "little"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[-1])
