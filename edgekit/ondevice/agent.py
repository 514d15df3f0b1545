"""What runs on a device for as long as edgekit works with it, reached over one connection's standard streams.

It comes as source on its own standard input, so nothing is installed; it needs Python 3.8 and nothing else. It keeps
files by their sha256 in `~/.cache/edgekit`, makes runtime environments there, and runs one job at a time. When the
connection ends, whatever the reason, its input ends: it kills the job that runs, and goes.

Each request is a line of JSON with `do`, followed by `bytes` bytes where it says so; so is each answer. While a job
runs nothing else happens here: the wait for its end and for the connection's is one `select` without a poll.
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
TAIL = 4000  # bytes of a process's messages that go into an answer


class Gone(Exception):
    """The connection ended."""


class Agent:
    def __init__(self, root):
        self.root = root
        self.waiting = b""
        self.out = os.dup(1)
        os.dup2(2, 1)  # whatever prints does not get between the answers
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
            raise Gone
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

    # --- what can be asked for ---

    def do_missing(self, request):
        """Which of these files (sha256 → size) are not here, or not whole; how much room there is."""
        absent = [sha for sha, size in request["files"].items() if not self.whole(sha, size)]
        return {"missing": absent, "free": self.free()}, []

    def do_put(self, request):
        """One file, kept only where its sha256 is right."""
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
                return {"error": {"kind": "damaged", "what": "what arrived has another sha256"}}, []
            os.replace(part, path)
        finally:
            for _ in blocks:  # where the disk is full, the rest is still on its way
                pass
            with contextlib.suppress(OSError):
                os.unlink(part)
        return {}, []

    def do_forget(self, request):
        """These files (sha256) are not needed again."""
        for sha in request["files"]:
            remove(self.kept(sha))
        return {}, []

    def do_lock(self, request):
        """Keep others from measuring here at the same time; waits for as long as it is told."""
        self.lock = self.lock or open(os.path.join(self.folder("."), "lock"), "w")  # noqa: SIM115 - held until the end
        stop = time.monotonic() + request["wait"]
        while True:
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > stop:
                    return {"error": {"kind": "busy", "what": "another edgekit measures there"}}, []
                time.sleep(0.1)
        for path in glob.glob(os.path.join(glob.escape(self.root), "*", "*")):
            if path.endswith(".part") or os.path.basename(os.path.dirname(path)) == "jobs":
                remove(path)  # left by one that was cut off
        return {}, []

    def do_versions(self, request):
        """Versions of distributions, None where there is none: in this Python as it is, or with an environment."""
        code = (
            "import json, sys\nfrom importlib import metadata as m\n"
            "found = {}\nfor name in sys.argv[1:]:\n    try:\n        found[name] = m.version(name)\n"
            "    except m.PackageNotFoundError:\n        found[name] = None\nprint(json.dumps(found))"
        )
        command = [sys.executable, "-c", code] + request["packages"]
        done = subprocess.run(command, cwd="/", env=self.environment(request), stdout=subprocess.PIPE)
        return {"versions": json.loads(done.stdout or b"{}")}, []

    def do_has(self, request):
        return {"has": os.path.isdir(os.path.join(self.root, "environments", request["key"]))}, []

    def do_pip(self, request):
        """Ask pip something (an environment is made where there is a `key`)."""
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
        """An environment out of wheels that are here already (file name → sha256)."""
        import zipfile

        part = self.part(request["key"])
        for _, sha in sorted(request["wheels"].items()):
            with zipfile.ZipFile(self.kept(sha)) as wheel:
                for member in wheel.infolist():
                    unpack(wheel, member, part)
        self.finish(part, request["key"])
        return {}, []

    def do_run(self, request):
        """One job in a process of its own: the files it names linked into a folder, its `out` folder sent back."""
        folder = request["folder"] = tempfile.mkdtemp(dir=self.folder("jobs"))
        for name, sha in request["links"].items():
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
        """Everything that edgekit put here goes."""
        size = sum(os.lstat(os.path.join(at, name)).st_size for at, _, names in os.walk(self.root) for name in names)
        shutil.rmtree(self.root)
        return {"bytes": size, "root": self.root}, []

    # --- how ---

    def supervise(self, command, folder, environment, timeout):
        """Run to the end, to the time-out, or until the connection goes; its messages pass through as they come."""
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
            file.write("500")  # where memory runs out, it is the job that goes
        pipe, tail, stop = child.stdout.fileno(), b"", time.monotonic() + timeout
        try:
            while True:
                left = stop - time.monotonic()
                ready = select.select([0, pipe], [], [], max(0.0, left))[0]
                if not ready or left < 0:
                    return {"code": None, "timed_out": True, "said": tail.decode("utf-8", "replace")}
                if 0 in ready:
                    raise Gone  # nothing is asked while a job runs: this is the end of the connection
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

    def whole(self, sha, size):
        path = self.kept(sha)
        if not os.path.isfile(path) or os.path.getsize(path) != size:
            return False
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
        return digest.hexdigest() == sha

    def free(self):
        """Bytes that this user may still write where the files are, or will be."""
        at = self.root
        while not os.path.isdir(at) and at != os.path.dirname(at):
            at = os.path.dirname(at)
        found = os.statvfs(at)
        return found.f_bavail * found.f_frsize


def unpack(wheel, member, folder):
    """One file of a wheel: what belongs to site-packages, wherever the wheel keeps it (PEP 427)."""
    first, _, rest = member.filename.partition("/")
    if first.endswith(".data"):
        scheme, _, name = rest.partition("/")
        if scheme not in ("purelib", "platlib") or not name:
            return
        member.filename = name
    wheel.extract(member, folder)


def remove(path):
    if os.path.isdir(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            os.unlink(path)


def place(source, path):
    """The same file under another name; a copy where the file system has no links."""
    try:
        os.link(source, path)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
        shutil.copyfile(source, path)


def temperature():
    """Degrees of the hottest thermal zone, None where there is none."""
    found = []
    for path in glob.glob("/sys/class/thermal/thermal_zone*/temp"):
        with contextlib.suppress(OSError, ValueError), open(path) as file:
            found.append(int(file.read()) / 1000.0)
    return max(found) if found else None


def throttled():
    """The Raspberry Pi firmware's flags, 0 elsewhere; bits 1 to 3: capped, slowed down, at the soft limit, just now."""
    with contextlib.suppress(OSError, ValueError), open("/sys/devices/platform/soc/soc:firmware/get_throttled") as file:
        return int(file.read(), 16)
    return 0


def os_error(error):
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    what = os.strerror(error.errno) if error.errno else str(error)
    return {"kind": "full" if full else "system", "what": what, "where": error.filename or ""}


def main():
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    for name in ("SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), lambda *_: sys.exit(1))
    with contextlib.suppress(Gone, BrokenPipeError):
        Agent(os.path.join(root, "edgekit")).serve()


if __name__ == "__main__":
    main()
