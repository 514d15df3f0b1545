"""Releases of one deployed model: `python releases.py JOB.json RESULT.json`, with the bundle's files next to the job.

    FOLDER/releases/ID/       a whole bundle, every sha256 checked, and `run`, which starts its predict.py
    FOLDER/environments/KEY/  numpy and the runtime, if the device's own Python does not have them
    FOLDER/current            → releases/ID, replaced by one rename; `previous` → the release before

Only files that a release's manifest lists, unchanged, are ever deleted: others are the user's, and stay.

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
MANIFEST = "manifest.json"
RUN = "#!/bin/sh\nhere="


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
        links = {"current": self.linked("current"), "previous": self.linked("previous")}
        return dict(links, releases=self.releases())

    def releases(self):
        """The ids of the releases; other folders are the user's."""
        folder = os.path.join(self.folder, "releases")
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        return [name for name in names if ID.fullmatch(name) and os.path.isfile(os.path.join(folder, name, MANIFEST))]

    def do_place(self):
        """Copy the bundle's files, checked, to the release's folder; nothing is done if they are already there."""
        id, files = self.job["id"], self.job["files"]
        place = self.path(id)
        for name in files:
            if not is_plain(name):
                raise ReleaseError("%r is not a file of a bundle" % (name,))
        if os.path.islink(place) or os.path.islink(os.path.dirname(place)):
            raise ReleaseError("%s is a link" % place)
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
        if os.path.isdir(place):  # a damaged one
            remove_release(place)
            if os.path.isdir(place):
                os.rename(place, free_name(place))
        os.rename(part, place)
        return {"placed": True}

    def damaged(self, place, files):
        """The first file that is missing or whose sha256 differs, "" if there is none."""
        for name, sha in sorted(files.items()):
            if sha256(os.path.join(place, name)) != sha:
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
        for old in set(self.releases()) - {id, self.linked("previous")}:
            remove_release(self.path(old))
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
        path = os.path.join(self.folder, name)
        if os.path.lexists(path) and not ID.fullmatch(self.linked(name) or ""):
            raise ReleaseError("%s is not a link that edgekit made: move it away" % path)
        part = os.path.join(self.folder, ".%s.part" % name)
        with contextlib.suppress(OSError):
            os.unlink(part)
        os.symlink(os.path.join("releases", id), part)
        os.rename(part, path)
        sync_folder(self.folder)


def is_plain(name):
    """Is this a relative path without "..", as a file of a bundle is named? (core/relative_paths.py)"""
    if not isinstance(name, str) or not name.isprintable() or "\\" in name or name[1:2] == ":":
        return False
    parts = name.split("/")
    sizes = [len(part.encode()) for part in parts]
    return not {"", ".", ".."} & set(parts) and max(sizes) <= 255 and sum(sizes) + len(parts) - 1 <= 1024


def remove_release(place):
    """Delete the files of a release that are as they were placed, and its folders if they are then empty."""
    if os.path.islink(place):
        return
    try:
        with open(os.path.join(place, MANIFEST), encoding="utf-8") as file:
            hashes = {name: entry["sha256"] for name, entry in json.load(file)["files"].items() if is_plain(name)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
    folders = {place}
    for name, sha in hashes.items():
        path = os.path.join(place, name)
        folder = os.path.dirname(path)
        if os.path.realpath(folder) != os.path.join(os.path.realpath(place), os.path.dirname(name)).rstrip(os.sep):
            continue  # through a link
        while len(folder) > len(place):
            folders.add(folder)
            folder = os.path.dirname(folder)
        if not os.path.islink(path) and sha256(path) == sha:
            os.unlink(path)
    run = os.path.join(place, "run")
    with contextlib.suppress(OSError), open(run, encoding="utf-8", errors="replace") as file:
        if not os.path.islink(run) and file.read(len(RUN)) == RUN:
            os.unlink(run)
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(place, MANIFEST))  # last: without it this is no release
    for folder in sorted(folders, reverse=True):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


def free_name(place):
    """The first free name PLACE.kept, for what is the user's."""
    number = 1
    while os.path.lexists("%s.kept-%d" % (place, number)):
        number += 1
    return "%s.kept-%d" % (place, number)


def sha256(path):
    """The sha256 of a file, "" if it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError:
        return ""
    return digest.hexdigest()


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
