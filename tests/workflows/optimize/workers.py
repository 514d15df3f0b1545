"""Several workers of one search, forked when all is imported: python workers.py URL COUNT WANTED GRACE LOG.

Each appends "WORKER POINT" to the log when it begins a trial, and trials take a few hundredths of a second. Exits 0 if
every worker did.
"""

from __future__ import annotations

import dataclasses
import json
import os
import random
import sys
import time

import optuna.storages._rdb.models  # noqa: F401  (before the fork)
import sqlalchemy.pool  # noqa: F401
from workflows.optimize.made_up import SPACE, tried

from edgekit.core.errors import EdgekitError
from edgekit.workflows.optimize import claims
from edgekit.workflows.optimize.storage import Storage
from edgekit.workflows.optimize.study import Study

#: 32 points
SMALL = dataclasses.replace(
    SPACE,
    dimensions=tuple(
        dataclasses.replace(d, choices=d.choices[: 3 - (d.name != "precision")]) for d in SPACE.dimensions
    ),
)


def work(url: str, worker: str, wanted: int, grace_s: float, log: int) -> None:
    study = Study(Storage(url, claims.prepare, patience_s=30), "study", SMALL, 0, worker, worker, grace_s)
    while (point := study.next(wanted)) is not None:
        os.write(log, f"{worker} {json.dumps(dict(point), sort_keys=True)}\n".encode())
        time.sleep(random.uniform(0.02, 0.1))
        study.add(tried(point))
    study.close()


def main(url: str, count: str, wanted: str, grace_s: str, path: str) -> int:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    begin = time.monotonic() + 0.3
    children = []
    for worker in range(int(count)):
        if not (child := os.fork()):
            code = 1
            try:
                time.sleep(max(0, begin - time.monotonic()))
                work(url, str(worker), int(wanted), float(grace_s), log)
                code = 0
            except EdgekitError as error:
                print(f"worker {worker}: {error.what}: {error.why}", file=sys.stderr)
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(child, flush=True)
        children.append(child)
    return sum(os.waitpid(child, 0)[1] != 0 for child in children)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
