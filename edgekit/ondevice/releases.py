"""Releases of one deployed model: `python releases.py JOB.json RESULT.json`, with the bundle's files next to the job.

    FOLDER/releases/ID/       a whole bundle, every sha256 checked, and `run`, which starts its predict.py
    FOLDER/environments/KEY/  numpy and the runtime, if the device's own Python does not have them
    FOLDER/current            → releases/ID, replaced by one rename; `previous` → the release before

The job's `do` is status, place, check, switch or rollback. Needs only Python 3.8.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys

SCHEMA = "edgekit-releases/1"
ID = re.compile(r"[0-9a-f]{16}")


class ReleaseError(Exception):
    """The request failed; the message says why."""


class Releases:
    def __init__(self, job):
        self.job = job
        self.folder = os.path.join(os.path.expanduser("~"), os.path.expanduser(job["folder"]))

    def path(self, id):
        if not ID.fullmatch(id):
            raise ReleaseError("%r is not a release" % id)
        return os.path.join(self.folder, "releases", id)

    def do_status(self):
        folder = os.path.join(self.folder, "releases")
        names = sorted(n for n in os.listdir(folder) if ID.fullmatch(n)) if os.path.isdir(folder) else []
        return {"current": self.linked("current"), "previous": self.linked("previous"), "releases": names}

    def do_place(self):
        """Copy the bundle's files, checked, to the release's folder; nothing is done if they are already there."""
        id, files = self.job["id"], self.job["files"]
        place = self.path(id)
        if not self.damaged(place, files):
            return {"placed": False}
        part = place + ".part"
        shutil.rmtree(part, ignore_errors=True)
        os.makedirs(part, mode=0o755)
        for name in files:
            to = os.path.join(part, name)
            os.makedirs(os.path.dirname(to), exist_ok=True)
            linked_or_copied(os.path.join("bundle", name), to)
        damaged = self.damaged(part, files)
        if damaged:
            shutil.rmtree(part, ignore_errors=True)
            raise ReleaseError("%s is damaged: its sha256 differs" % damaged)
        self.write_run(part, self.environment())
        sync(part)
        shutil.rmtree(place, ignore_errors=True)
        os.rename(part, place)
        return {"placed": True}

    def damaged(self, place, files):
        """The first file that is missing or whose sha256 differs, "" if there is none."""
        for name, sha in sorted(files.items()):
            try:
                with open(os.path.join(place, name), "rb") as file:
                    digest = hashlib.sha256()
                    for block in iter(lambda: file.read(1 << 20), b""):
                        digest.update(block)
            except OSError:
                return name
            if digest.hexdigest() != sha:
                return name
        return "" if os.access(os.path.join(place, "run"), os.X_OK) or place.endswith(".part") else "run"

    def environment(self):
        """Copy the runtime's environment into the deployment, so that cleaning edgekit's cache does not break it."""
        key = self.job["environment"]
        if not key:
            return ""
        source = next(p for p in os.environ["PYTHONPATH"].split(os.pathsep) if os.path.basename(p) == key)
        place = os.path.join(self.folder, "environments", key)
        if not os.path.isdir(place):
            shutil.rmtree(place + ".part", ignore_errors=True)
            shutil.copytree(source, place + ".part", copy_function=linked_or_copied)
            os.rename(place + ".part", place)
        return key

    def write_run(self, folder, key):
        packages = 'PYTHONPATH="$here/../../environments/%s"\nexport PYTHONPATH\n' % key if key else ""
        path = os.path.join(folder, "run")
        with open(path, "w") as file:
            file.write(
                "#!/bin/sh\n"
                'here=$(dirname "$(readlink -f "$0")")\n'
                '%sexec %s "$here/predict.py" "$@"\n' % (packages, shlex.quote(sys.executable))
            )
        os.chmod(path, 0o755)  # noqa: S103 - a program that every user of the device may start

    def do_check(self):
        """The release checks itself: it runs its own samples in its own process."""
        command = [os.path.join(self.path(self.job["id"]), "run"), "--check", "--threads", "1"]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            return {"check": json.loads(done.stdout)}
        except ValueError:
            lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
            ended = "died of signal %d" % -done.returncode if done.returncode < 0 else "ended with %d" % done.returncode
            return {"check": {"ok": False, "why": ": ".join([ended] + lines[-1:])[:300]}}

    def do_switch(self):
        """Make a release current; releases other than it and the previous one are deleted."""
        id, before = self.job["id"], self.linked("current")
        if not os.path.isdir(self.path(id)):
            raise ReleaseError("there is no release %s" % id)
        if before and before != id:
            self.link("previous", before)
        self.link("current", id)
        keep = {id, self.linked("previous")}
        for name in os.listdir(os.path.join(self.folder, "releases")):
            if name not in keep:
                shutil.rmtree(os.path.join(self.folder, "releases", name), ignore_errors=True)
        return dict(self.do_status(), at=os.path.join(self.folder, "current"), python=sys.executable)

    def do_rollback(self):
        """Check the previous release and make it current; the current one becomes the previous."""
        now, back = self.linked("current"), self.linked("previous")
        if not back or back == now or not os.path.isdir(self.path(back)):
            raise ReleaseError("there is no release before the current one in %s" % self.folder)
        self.job["id"] = back
        check = self.do_check()["check"]
        if not check["ok"]:
            return {"check": check, "current": now, "previous": back}
        self.link("current", back)
        if now:
            self.link("previous", now)
        at = os.path.join(self.folder, "current")
        return dict(self.do_status(), check=check, at=at, python=sys.executable)

    def linked(self, name):
        try:
            return os.path.basename(os.readlink(os.path.join(self.folder, name)))
        except OSError:
            return None

    def link(self, name, id):
        """A relative link, replaced by one rename: it always exists and is never broken."""
        part = os.path.join(self.folder, ".%s.part" % name)
        with contextlib.suppress(OSError):
            os.unlink(part)
        os.symlink(os.path.join("releases", id), part)
        os.rename(part, os.path.join(self.folder, name))
        sync_folder(self.folder)


def linked_or_copied(source, path):
    try:
        os.link(source, path, follow_symlinks=True)
    except OSError:
        shutil.copyfile(source, path)
    return path


def sync(folder):
    for at, _, names in os.walk(folder):
        for name in names:
            descriptor = os.open(os.path.join(at, name), os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        sync_folder(at)


def sync_folder(folder):
    descriptor = os.open(folder, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def main(job_path, result_path):
    with open(job_path, encoding="utf-8") as file:
        job = json.load(file)
    result = {"schema": SCHEMA, "error": None}
    releases = Releases(job)
    try:
        if job["do"] in ("place", "switch", "rollback"):
            os.makedirs(releases.folder, exist_ok=True)
            lock = open(os.path.join(releases.folder, ".lock"), "w")  # noqa: SIM115 - held until the process ends
            fcntl.flock(lock, fcntl.LOCK_EX)
        result.update(getattr(releases, "do_" + job["do"])())
    except ReleaseError as error:
        result["error"] = str(error)
    except OSError as error:
        result["error"] = "%s%s" % (error.strerror, ": " + str(error.filename) if error.filename else "")
    with open(result_path, "w", encoding="utf-8") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
