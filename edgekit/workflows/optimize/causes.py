"""Why a storage cannot be used, in plain words without a password: from what SQLAlchemy, drivers and servers say."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote, unquote_plus

from edgekit.core.errors import InputError, NoSpace

EXAMPLES = "for example sqlite:///trials.db, postgresql://user@host/base or mysql+pymysql://user@host/base"


class Cause(NamedTuple):
    """`passes`: waiting may help."""

    pattern: str
    why: str
    next: str
    passes: bool = False


#: the first that matches counts
CAUSES = (
    Cause(
        r"resolve host|translate host|Name or service not known|Unknown .*server host|getaddrinfo|nodename nor servname"
        r"|name resolution",
        "its host is unknown",
        "check the host in the URL",
        passes=True,
    ),
    Cause(
        r"Connection refused|Can't connect to|No such file or directory.*socket|No route to host|unreachable",
        "no database server answers at its host and port",
        "start the server, or check the host and the port in the URL",
        passes=True,
    ),
    Cause(
        r"timeout expired|timed out",
        "its host does not answer",
        "check the host and the port in the URL, and firewalls between",
        passes=True,
    ),
    Cause(
        r'database "[^"]*" does not exist|Unknown database',
        "the server has no database of this name",
        "create it (PostgreSQL: createdb NAME), or check the name in the URL",
    ),
    Cause(
        r"permission denied|denied to|command denied|readonly|read-only|must be owner|no schema has been selected"
        r"|Access denied for user [^ ]* to database",
        "its user may not create tables in it or write to them",
        "grant it the rights (PostgreSQL: GRANT CREATE, USAGE ON SCHEMA), or name another user",
    ),
    Cause(
        r'password|authentication|Access denied|role "[^"]*" does not exist|pg_hba',
        "the server rejects this user or this password",
        "check both in the URL; special characters are written as %XX",
    ),
    Cause(
        r"unable to open database file",
        "its folder does not exist, or may not be written",
        "create the folder, or name another file",
    ),
    Cause(
        r"not a database|malformed",
        "the file is not an SQLite database, or is damaged",
        "name another file, or move this one away",
    ),
    Cause(
        r"too many|remaining connection slots",
        "the server accepts no more connections",
        "start fewer workers, or raise its limit (PostgreSQL: max_connections)",
        passes=True,
    ),
    Cause(
        r"is locked|lock timeout|Lock wait|deadlock",
        "another process holds its lock",
        "run the same command again",
        passes=True,
    ),
    Cause(
        r"no such table|relation .* does not exist|Table .* doesn't exist|Record does not exist",
        "its tables or this search were deleted",
        "run the same command again: it starts a new search",
    ),
    Cause(
        r"terminat|closed|gone away|Lost connection|consuming input|recovery mode|shutting down|starting up"
        r"|reset by peer|no connection to|EOF",
        "the connection was lost",
        "start the database server again, then run the same command again",
        passes=True,
    ),
    Cause(
        r"invalid literal for int|invalid port",
        "its port is not a number",
        "write user:password@host:port; special characters in the password as %XX",
    ),
)

FULL = re.compile(r"disk is full|No space left|could not extend", re.IGNORECASE)
SECRET = re.compile(r"pass|pwd|secret|token|credential", re.IGNORECASE)


def passes(error: BaseException) -> bool:
    """May waiting help? Unknown errors of an open database are taken for a lost connection."""
    text = str(error)
    found = next((cause for cause in CAUSES if re.search(cause.pattern, text, re.IGNORECASE | re.DOTALL)), None)
    return not FULL.search(text) and (found is None or found.passes)


def explained(error: BaseException, what: str, url: str) -> InputError:
    """The error that says why, in place of a driver's."""
    text = str(error)
    if FULL.search(text):
        return NoSpace(what, "no space left on its disk", "free some space, then run the same command again")
    if "compatible with the table schema" in text:
        upgrade = f"save a copy, then: optuna storage upgrade --storage '{masked(url)}'"
        newer = "pip install -U optuna, or name a database that no other program uses"
        next = upgrade if "storage upgrade" in text else newer
        return InputError(what, "its tables were made by another version of Optuna", next)
    for cause in CAUSES:
        if re.search(cause.pattern, text, re.IGNORECASE | re.DOTALL):
            return InputError(what, cause.why, cause.next)
    return InputError(what, _without_secrets(text, url) or type(error).__name__, EXAMPLES)


def masked(url: str) -> str:
    """The URL without what is, or may be, a password: after `user:`, or in a query's keys and values."""
    for start, end in reversed(_secrets(url)):
        url = f"{url[:start]}***{url[end:]}"
    return url


def _secrets(url: str) -> list[tuple[int, int]]:
    """The places of secrets in a URL, in order. It may be written wrongly: rather too much than too little."""
    spans = []
    user = re.match(r"[^/?]*://[^:/@?]*:(.*)@", url, re.DOTALL)
    port = re.match(r"[^/?]*://(?!\[)[^/?]*?:(?!\d+(?:[/?]|$))([^/?]+)", url)  # user:password without @host
    if found := user or port:
        spans.append(found.span(1))
    pairs = re.compile(r"([^?&;=\s]+)\s*=\s*([^?&;\s]+)")
    for match in pairs.finditer(url, spans[0][1] if spans else 0):
        if SECRET.search(unquote_plus(match[0])):
            spans.append(match.span(2))
    return spans


def _without_secrets(text: str, url: str) -> str:
    """The start of a driver's message, without its SQL; "" if a secret is too short to be found in it."""
    text = " ".join(re.split(r"\[SQL|\(Background", text)[0].split())[:300]
    for start, end in _secrets(url):
        for secret in {url[start:end], unquote(url[start:end]), unquote_plus(url[start:end])}:
            text = text.replace(secret, "***") if len(secret) > 2 else ""
    return text
