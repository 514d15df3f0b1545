"""The agent: it runs on a device during a session and communicates over the connection's standard streams.

Its source is sent over its standard input, so nothing is installed; it needs only Python 3.8. It keeps files by their
sha256 in `~/.cache/edgekit`, creates runtime environments there, and runs one job at a time. When the connection ends
for any reason, its input ends: it kills the running job and exits.

A request is a line of JSON with `do`, followed by `bytes` bytes, if given; an answer is a line of JSON, followed by its
files. While a job runs, one `select` waits for the end of the job or of the connection, without polling.
"""

import contextlib
import errno
import fcntl
import glob
import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

BLOCK = 1 << 16
FOLDERS = ("environments", "files", "jobs")  # below the root: other folders are not the agent's
TAIL = 4000  # last bytes of a process's output that are part of an answer


class Disconnected(Exception):
    """The connection ended."""


class Agent:
    def __init__(self, root):
        self.root = root
        self.waiting = b""
        self.out = os.dup(1)
        os.dup2(2, 1)  # other output must not mix with the answers
        self.lock = None

    def folder(self, name):
        path = os.path.join(self.root, name)
        os.makedirs(path, mode=0o700, exist_ok=True)
        return path

    # --- the connection ---

    def serve(self):
        try:
            self.answer({"agent": 1, "root": self.root, "free": self.free(), "python": list(sys.version_info[:3])})
        except OSError as error:
            self.answer({"error": os_error(error)})
            return
        while True:
            line = self.line()
            request = json.loads(line)
            request.pop("folder", None)
            try:
                try:
                    reply, paths = getattr(self, "do_" + request["do"])(request)
                except OSError as error:
                    reply, paths = {"error": os_error(error)}, []
                self.answer(reply, paths)
            finally:
                if "folder" in request:
                    shutil.rmtree(request["folder"], ignore_errors=True)

    def more(self):
        block = os.read(0, BLOCK)
        if not block:
            raise Disconnected
        return block

    def line(self):
        while b"\n" not in self.waiting:
            self.waiting += self.more()
        line, _, self.waiting = self.waiting.partition(b"\n")
        return line

    def payload(self, size):
        """The `size` bytes that follow a request, in blocks."""
        while size:
            block, self.waiting = (self.waiting or self.more()), b""
            block, self.waiting = block[:size], block[size:]
            size -= len(block)
            yield block

    def answer(self, reply, paths=()):
        """The answer, then the files' bytes, one after the other."""
        sizes = [[os.path.basename(path), os.path.getsize(path)] for path in paths]
        self.write(json.dumps(dict(reply, files=sizes)).encode() + b"\n")
        for path, (_, size) in zip(paths, sizes):
            with open(path, "rb") as file:
                while size:
                    block = file.read(min(BLOCK, size))
                    self.write(block or b"\0" * min(BLOCK, size))
                    size -= len(block) or min(BLOCK, size)

    def write(self, data):
        while data:
            data = data[os.write(self.out, data) :]

    # --- requests ---

    def do_missing(self, request):
        """Which of these files (sha256 → size) are missing or damaged, and the free bytes."""
        missing = [sha for sha, size in request["files"].items() if not self.intact(sha, size)]
        return {"missing": missing, "free": self.free()}, []

    def do_put(self, request):
        """Receive one file; it is kept only if its sha256 is right."""
        path, digest = os.path.join(self.folder("files"), request["sha256"]), hashlib.sha256()
        blocks = self.payload(request["bytes"])
        part = "%s.%d.part" % (path, os.getpid())
        try:
            with open(part, "wb") as file:
                for block in blocks:
                    digest.update(block)
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != request["sha256"]:
                return {"error": {"kind": "damaged", "what": "the sha256 of the received file differs"}}, []
            os.replace(part, path)
        finally:
            for _ in blocks:  # read the rest of the payload, for example if the disk is full
                pass
            with contextlib.suppress(OSError):
                os.unlink(part)
        return {}, []

    def do_discard(self, request):
        """Delete these files (sha256)."""
        for sha in request["files"]:
            remove(self.kept(sha))
        return {}, []

    def do_lock(self, request):
        """Keep other edgekit processes from measuring at the same time; waits for up to `wait` seconds."""
        self.lock = self.lock or open(os.path.join(self.folder("."), "lock"), "w")  # noqa: SIM115 - held until the end
        stop = time.monotonic() + request["wait"]
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > stop:
                    return {"error": {"kind": "busy", "what": "another edgekit process is measuring on it"}}, []
                time.sleep(0.1)
        for name in FOLDERS:
            for path in glob.glob(os.path.join(glob.escape(self.root), name, "*")):
                if path.endswith(".part") or name == "jobs":
                    remove(path)  # left by an interrupted session
        return {}, []

    def do_versions(self, request):
        """Versions of distributions, None if not installed, in this Python or in an environment."""
        code = (
            "import json, sys\nfrom importlib import metadata as m\n"
            "versions = {}\nfor name in sys.argv[1:]:\n    try:\n        versions[name] = m.version(name)\n"
            "    except m.PackageNotFoundError:\n        versions[name] = None\nprint(json.dumps(versions))"
        )
        command = [sys.executable, "-c", code] + request["packages"]
        done = subprocess.run(command, cwd="/", env=self.environment(request), stdout=subprocess.PIPE)
        return {"versions": json.loads(done.stdout or b"{}")}, []

    def do_has(self, request):
        return {"has": os.path.isdir(os.path.join(self.root, "environments", request["key"]))}, []

    def do_pip(self, request):
        """Run pip; with a `key`, it installs into an environment."""
        command = [sys.executable, "-m", "pip"] + request["arguments"]
        part = ""
        if request.get("key"):
            part = self.part(request["key"])
            command += ["--target", part]
        environment = dict(os.environ, PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1")
        reply = self.supervise(command, "/", environment, request["limit"])
        if part and reply["code"] == 0:
            self.finish(part, request["key"])
        elif part:
            shutil.rmtree(part, ignore_errors=True)
        return reply, []

    def do_unpack(self, request):
        """Create an environment from received wheels (file name → sha256)."""
        import zipfile

        part = self.part(request["key"])
        for _, sha in sorted(request["wheels"].items()):
            with zipfile.ZipFile(self.kept(sha)) as wheel:
                for member in wheel.infolist():
                    unpack(wheel, member, part)
        self.finish(part, request["key"])
        return {}, []

    def do_run(self, request):
        """Run one job in its own process: its files are linked into a folder, and its `out` folder is sent back."""
        folder = request["folder"] = tempfile.mkdtemp(dir=self.folder("jobs"))
        for name, sha in request["links"].items():
            if not is_plain(name):
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), name)
            path = os.path.join(folder, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            place(self.kept(sha), path)
        out = os.path.join(folder, "out")
        os.mkdir(out)
        with open(os.path.join(folder, "job.json"), "w") as file:
            json.dump(request["job"], file)
        environment = dict(self.environment(request), OMP_NUM_THREADS=str(request["threads"]), PYTHONHASHSEED="0")
        command = [sys.executable, "runner/runner.py", "job.json", "out/result.json"]
        reply = self.supervise(command, folder, environment, request["limit"])
        reply.update(free=self.free(), temperature_c=temperature(), throttled=throttled())
        paths = [os.path.join(out, name) for name in sorted(os.listdir(out))]
        return reply, [path for path in paths if os.path.isfile(path) and not path.endswith(".part")]

    def do_clean(self, request):
        """Delete what this agent stores on the device. On a machine that runs edgekit, other files are in its cache."""
        size = 0
        for folder in (os.path.join(self.root, name) for name in FOLDERS):
            size += sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(folder) for name in names)
            if os.path.isdir(folder) and not os.path.islink(folder):
                shutil.rmtree(folder)
        remove(os.path.join(self.root, "lock"))
        with contextlib.suppress(OSError):
            os.rmdir(self.root)
        return {"bytes": size, "root": self.root}, []

    # --- helpers ---

    def supervise(self, command, folder, environment, timeout):
        """Run a process until it ends, times out, or the connection ends; its output is forwarded."""
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        with contextlib.suppress(OSError), open("/proc/%d/oom_score_adj" % child.pid, "w") as file:
            file.write("500")  # if memory runs out, the kernel kills the job first
        pipe, tail, stop = child.stdout.fileno(), b"", time.monotonic() + timeout
        try:
            while True:
                left = stop - time.monotonic()
                ready = select.select([0, pipe], [], [], max(0.0, left))[0]
                if not ready or left < 0:
                    return {"code": None, "timed_out": True, "said": tail.decode("utf-8", "replace")}
                if 0 in ready:
                    raise Disconnected  # no request is sent while a job runs, so this is the end of the connection
                block = os.read(pipe, BLOCK)
                if not block:
                    break
                tail = (tail + block)[-TAIL:]
                os.write(2, block)
            return {"code": child.wait(), "timed_out": False, "said": tail.decode("utf-8", "replace")}
        finally:
            with contextlib.suppress(OSError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            child.stdout.close()

    def environment(self, request):
        key = request.get("environment")
        return dict(os.environ, PYTHONPATH=os.path.join(self.root, "environments", key)) if key else dict(os.environ)

    def part(self, key):
        part = os.path.join(self.folder("environments"), key + ".part")
        shutil.rmtree(part, ignore_errors=True)
        os.mkdir(part)
        return part

    def finish(self, part, key):
        os.replace(part, os.path.join(self.root, "environments", key))

    def kept(self, sha):
        return os.path.join(self.root, "files", sha)

    def intact(self, sha, size):
        path = self.kept(sha)
        if not os.path.isfile(path) or os.path.getsize(path) != size:
            return False
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        return digest.hexdigest() == sha

    def free(self):
        """Free bytes for this user in the agent's folder."""
        at = self.root
        while not os.path.isdir(at) and at != os.path.dirname(at):
            at = os.path.dirname(at)
        status = os.statvfs(at)
        return status.f_bavail * status.f_frsize


def unpack(wheel, member, folder):
    """Extract one file of a wheel into site-packages; files of other schemes are skipped (PEP 427)."""
    first, _, rest = member.filename.partition("/")
    if first.endswith(".data"):
        scheme, _, name = rest.partition("/")
        if scheme not in ("purelib", "platlib") or not name:
            return
        member.filename = name
    wheel.extract(member, folder)


def is_plain(name):
    """Is this a relative path without "..", as a file of a job is named? (core/relative_paths.py)"""
    if not isinstance(name, str) or not name.isprintable() or "\\" in name or name[1:2] == ":":
        return False
    parts = name.split("/")
    sizes = [len(part.encode()) for part in parts]
    return not {"", ".", ".."} & set(parts) and max(sizes) <= 255 and sum(sizes) + len(parts) - 1 <= 1024


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)


def place(source, path):
    """Hard-link a file; copy it if the file system does not support links."""
    try:
        os.link(source, path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
        shutil.copyfile(source, path)


def temperature():
    """Temperature of the hottest thermal zone in degrees Celsius, None if there is none."""
    degrees = []
    for path in glob.glob("/sys/class/thermal/thermal_zone*/temp"):
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            degrees.append(int(file.read()) / 1000.0)
    return max(degrees) if degrees else None


def throttled():
    """The Raspberry Pi firmware's flags, else 0; bits 1 to 3: now capped, throttled, at the soft limit."""
    with contextlib.suppress(OSError, ValueError), open("/sys/devices/platform/soc/soc:firmware/get_throttled") as file:
        return int(file.read(), 16)
    return 0


def os_error(error):
    kind = {errno.ENOSPC: "full", errno.EDQUOT: "full", errno.EACCES: "denied", errno.EROFS: "denied"}.get(error.errno)
    what = os.strerror(error.errno) if error.errno else str(error)
    return {"kind": kind or "system", "what": what, "where": str(error.filename or "")}


def main():
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    for name in ("SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), lambda *_: sys.exit(1))
    with contextlib.suppress(Disconnected, BrokenPipeError):
        Agent(os.path.join(root, "edgekit")).serve()


if __name__ == "__main__":
    main()
