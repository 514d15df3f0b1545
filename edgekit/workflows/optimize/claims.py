"""Which points are being tried, by whom: a table in the storage that several workers share.

A row is a claim: (study, point) is its primary key, so that the database lets one worker insert it. It is deleted
when the trial is stored. While a worker lives, a thread counts its claim's `beats` up; a worker that sees a count stand
still for `grace_s` deletes the claim, whose point is then free. No clocks are compared.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
import time
import uuid
from typing import TYPE_CHECKING

from edgekit.workflows.optimize.space import Point, key
from edgekit.workflows.optimize.storage import Storage

if TYPE_CHECKING:
    from sqlalchemy import Engine, MetaData

#: seconds without a sign of life after which a worker counts as dead, and beats in that time
GRACE_S, BEATS = 120.0, 6
TABLE = "edgekit_claims"


def tables() -> MetaData:
    """The table of claims."""
    from sqlalchemy import Column, Integer, MetaData, String, Table, Text

    metadata = MetaData()
    names = (Column(name, String(64), primary_key=True) for name in ("study", "point_sha256"))
    Table(TABLE, metadata, *names, Column("point", Text), Column("owner", String(64)), Column("beats", Integer))
    return metadata


def prepare(engine: Engine) -> None:
    """Make the table if it is missing, and check that it can be written."""
    metadata = tables()
    metadata.create_all(engine)
    row = {"study": "", "point_sha256": uuid.uuid4().hex, "point": "", "owner": "", "beats": 0}
    with engine.connect() as connection:
        connection.execute(metadata.tables[TABLE].insert().values(**row))
        connection.rollback()


class Claims:
    """The claims of one study. `owner` identifies this worker (at most 64 characters)."""

    def __init__(self, storage: Storage, study: str, owner: str, grace_s: float = GRACE_S) -> None:
        self.storage, self.study, self.owner, self.grace_s = storage, study, owner, grace_s
        self._table = tables().tables[TABLE]
        #: (point, owner) of another's claim → its count, and when it was first seen
        self._seen: dict[tuple[str, str], tuple[int, float]] = {}
        # a database that was away tells nothing about the other workers
        storage.on_failure = self._seen.clear
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        storage.run(self.release)  # what a killed process of this worker left

    def take(self, point: Point) -> bool:
        """Claim a point; False if another worker has it."""
        taken = self.storage.run(lambda: self._inserted(point))
        if taken and self._thread is None:
            self._thread = threading.Thread(target=self._beat, name="claims", daemon=True)
            self._thread.start()
        return taken

    def _inserted(self, point: Point) -> bool:
        from sqlalchemy import exc, insert, select

        mine = {"study": self.study, "point_sha256": _sha256(point), "owner": self.owner}
        try:
            with self.storage.engine.begin() as connection:
                connection.execute(insert(self._table).values(**mine, point=json.dumps(dict(point)), beats=0))
        except exc.IntegrityError:
            table = self._table
            same = (table.c.study == self.study, table.c.point_sha256 == mine["point_sha256"])
            with self.storage.engine.connect() as connection:  # mine: its answer was lost with the connection
                return connection.execute(select(table.c.owner).where(*same)).scalar() == self.owner
        return True

    def others(self) -> list[Point]:
        """The points that other workers are trying. Claims of dead workers are deleted."""
        return self.storage.run(self._others)

    def _others(self) -> list[Point]:
        from sqlalchemy import delete, select

        table, now, live = self._table, time.monotonic(), []
        with self.storage.engine.begin() as connection:
            rows = connection.execute(
                select(table).where(table.c.study == self.study, table.c.owner != self.owner)
            ).all()
            present = {(row.point_sha256, row.owner) for row in rows}
            for gone in self._seen.keys() - present:
                del self._seen[gone]
            for row in rows:
                beats, since = self._seen.get((row.point_sha256, row.owner), (-1, now))
                if beats != row.beats:
                    self._seen[row.point_sha256, row.owner] = row.beats, now
                elif now - since > self.grace_s:
                    same = (table.c[name] == getattr(row, name) for name in ("study", "point_sha256", "owner", "beats"))
                    connection.execute(delete(table).where(*same))
                    continue
                live.append(json.loads(row.point))
        return live

    def release(self) -> None:
        """Delete this worker's claims."""
        from sqlalchemy import delete

        with self.storage.engine.begin() as connection:
            mine = (self._table.c.study == self.study, self._table.c.owner == self.owner)
            connection.execute(delete(self._table).where(*mine))

    def _beat(self) -> None:
        from sqlalchemy import update

        table = self._table
        beat = update(table).where(table.c.study == self.study, table.c.owner == self.owner)
        while not self._stop.wait(self.grace_s / BEATS):
            with contextlib.suppress(Exception), self.storage.engine.begin() as connection:  # the next one may succeed
                connection.execute(beat.values(beats=table.c.beats + 1))

    def close(self) -> None:
        """Stop the heartbeat, and free the claims if the database answers."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=1)
        with contextlib.suppress(Exception):
            self.release()


def _sha256(point: Point) -> str:
    return hashlib.sha256(json.dumps(key(point)).encode()).hexdigest()
