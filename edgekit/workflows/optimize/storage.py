"""The database that a search is stored in: opened and checked by its URL, its errors in plain words, no password shown.

Optuna makes its tables when a storage is opened, one by one and without a lock: of several processes that open an
empty database at once, some fail. Opening is repeated until it succeeds. Later operations are repeated while the
database does not answer, for a limited time.
"""

from __future__ import annotations

import contextlib
import logging
import random
import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from edgekit.core.errors import InputError, Missing
from edgekit.workflows.optimize.causes import EXAMPLES, explained, masked, passes
from edgekit.workflows.setup import Say, silent

if TYPE_CHECKING:
    import optuna
    from sqlalchemy import Engine

T = TypeVar("T")

#: seconds for which a database is waited for that other processes are just setting up, and for one that was lost
OPEN_S, LOST_S = 60.0, 300.0
#: errors that pass by themselves while several processes make the tables, or while a server starts
PASSING = re.compile(
    r"already exists|duplicate|UNIQUE constraint|concurrently updated|is locked|deadlock|starting up|too many (clients"
    r"|connections)|remaining connection slots",
    re.IGNORECASE,
)

#: module of a driver → what to install
PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}

LIBPQ = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "tcp_user_timeout": 60000}
#: driver → arguments by which a server that vanished is noticed, in seconds and milliseconds
PATIENCE: dict[str, dict[str, Any]] = {
    "sqlite": {"timeout": 30},
    "pymysql": {"connect_timeout": 10, "read_timeout": 60, "write_timeout": 60},
    "mysqldb": {"connect_timeout": 10, "read_timeout": 60, "write_timeout": 60},
    "psycopg": LIBPQ,
    "psycopg2": LIBPQ,
}


def local(path: Path) -> str:
    """The URL of an SQLite file."""
    return "sqlite:///" + str(path.resolve()).replace("%", "%25").replace("?", "%3F")


@contextmanager
def quiet() -> Iterator[Any]:
    """Optuna, its log and that of its connections muted. Raises Missing."""
    try:
        import optuna
    except ImportError as error:
        raise Missing.install("edgekit optimize", "optuna", "optimize") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL)  # it logs a traceback for each lost connection
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its experimental arguments
        yield optuna


class Storage:
    """An open storage. `name` is its URL without the password."""

    def __init__(
        self,
        url: str,
        prepare: Callable[[Engine], None] | None = None,
        say: Say = silent,
        patience_s: float = LOST_S,
    ) -> None:
        """Open and check the storage, and make Optuna's tables if they are missing.

        `prepare` does the same for what workers share; without it there is a single worker. `patience_s`: how long a
        lost database is waited for. Raises Missing for a driver that is not installed, InputError for a storage that
        cannot be used, with the cause; NoSpace.
        """
        self.url, self.name, self.say, self.patience_s = url, masked(url), say, patience_s
        #: called after each failure, before the next attempt
        self.on_failure: Callable[[], None] = lambda: None
        self.engine, self.optuna = self._opened(prepare)

    def _opened(self, prepare: Callable[[Engine], None] | None) -> tuple[Engine, optuna.storages.RDBStorage]:
        if re.match(r"[^/?]*://[^/?]*@[^/?]*@", self.url):
            why, next = "it has more than one @", "write an @ in the user or the password as %40"
            raise InputError(f"cannot use the storage {self.name}", why, next)
        deadline = time.monotonic() + OPEN_S
        while True:
            try:
                return self._connected(prepare)
            except InputError:
                raise
            except ModuleNotFoundError as error:
                module = str(error.name).partition(".")[0]
                package = PACKAGES.get(module, module)
                raise Missing.install(f"the storage {self.name}", package, "") from None
            except Exception as error:  # SQLAlchemy and its drivers have many kinds
                if not PASSING.search(str(error)) or time.monotonic() > deadline:
                    raise explained(error, f"cannot use the storage {self.name}", self.url) from None
            time.sleep(random.uniform(0.05, 0.5))

    def _connected(self, prepare: Callable[[Engine], None] | None) -> tuple[Engine, optuna.storages.RDBStorage]:
        with quiet() as optuna:
            import sqlalchemy
            from sqlalchemy.pool import NullPool

            try:
                parsed = sqlalchemy.make_url(self.url)
                known = {k: v for k, v in PATIENCE.get(_driver(parsed), {}).items() if k not in parsed.query}
                in_memory = parsed.drivername.startswith("sqlite") and parsed.database in (None, "", ":memory:")
                pool = {} if in_memory else {"poolclass": NullPool}  # no connection is held during a trial
                options: dict[str, Any] = {"connect_args": known, **pool}
                engine = sqlalchemy.create_engine(parsed, **options)
            except (sqlalchemy.exc.ArgumentError, ValueError) as error:
                unknown = isinstance(error, sqlalchemy.exc.NoSuchModuleError)
                why = f"unknown kind of database: {self.name.partition(':')[0]}" if unknown else "it is not a URL"
                if "invalid literal for int" in str(error):
                    raise explained(error, f"cannot use the storage {self.name}", self.url) from None
                raise InputError(f"cannot use the storage {self.name}", why, EXAMPLES) from None
            if prepare is not None and in_memory:
                why = "a database in memory cannot be shared"
                raise InputError(f"cannot use the storage {self.name}", why, EXAMPLES)
            with engine.connect():  # the cause is plainest here
                pass
            # Optuna fills braces in a URL
            url = self.url.replace("{", "{{").replace("}", "}}")
            storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
            if prepare is not None:
                prepare(engine)
            return engine, storage

    def run(self, do: Callable[[], T]) -> T:
        """`do`, repeated while the database does not answer. Raises InputError after `patience_s`."""
        with quiet() as optuna:
            from sqlalchemy import exc

            started = time.monotonic()
            pause, told = 0.1, False
            while True:
                try:
                    return do()
                except (exc.SQLAlchemyError, optuna.exceptions.StorageInternalError, KeyError) as error:
                    cause = error.__cause__ or error
                    if isinstance(cause, KeyError) and "Record does not exist" not in str(cause):
                        raise
                    self.on_failure()
                    lost = explained(cause, f"lost the storage {self.name}", self.url)
                    lasting = isinstance(cause, exc.ProgrammingError) or not passes(cause)
                    if not lasting:
                        lost.next = "when it is back, run the same command again: finished trials are kept"
                    if lasting or time.monotonic() - started > self.patience_s:
                        raise lost from None
                    if not told and time.monotonic() - started > 1:
                        self.say(f"  waiting   for the storage {self.name}: {lost.why}")
                        told = True
                time.sleep(pause)
                pause = min(2 * pause, 5)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.optuna.engine.dispose()
            self.engine.dispose()


def _driver(url: Any) -> str:
    return str(url.get_dialect().driver).replace("pysqlite", "sqlite")
