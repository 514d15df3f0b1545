"""What is said of a storage that cannot be used: the cause, without a password."""

from __future__ import annotations

import pytest

from edgekit.core.errors import NoSpace
from edgekit.workflows.optimize.causes import explained, masked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:hush@h:5/d", "postgresql://u:***@h:5/d"),
        ("postgresql://u:hu%40sh@h/d?connect_timeout=3", "postgresql://u:***@h/d?connect_timeout=3"),
        ("postgresql://u:hu/sh?hush@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:hu@sh@h/d", "postgresql://u:***@h/d"),
        ("postgresql://:hush@h/d", "postgresql://:***@h/d"),
        ("postgresql://u:hush/d", "postgresql://u:***/d"),
        ("postgresql://h/d?user=u&password=hush&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("postgresql://h/d?p%61ssword=hush", "postgresql://h/d?p%61ssword=***"),
        ("postgresql://h/d?sslPassword=hush;user=u", "postgresql://h/d?sslPassword=***;user=u"),
        ("mssql+pyodbc://?odbc_connect=SERVER%3Dh%3BPWD%3Dhush", "mssql+pyodbc://?odbc_connect=***"),
        ("host=h password=hush dbname=d", "host=h password=*** dbname=d"),
        ("postgresql://[::1]:5432/d", "postgresql://[::1]:5432/d"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("sqlite:////home/u:v@w/trials.db", "sqlite:////home/u:v@w/trials.db"),
    ],
)
def test_the_password_is_masked(url: str, shown: str) -> None:
    assert masked(url) == shown


def test_a_drivers_words_are_masked() -> None:
    url = "made-up://u:hu%40sh@h/d?password=quiet"
    said = explained(RuntimeError("cannot log in with hu@sh, hu%40sh or quiet [SQL: x]"), "x", url)
    assert said.why == "cannot log in with ***, *** or ***"
    assert "ab" not in explained(RuntimeError("user u, ab"), "x", "made-up://u:ab@h").why


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('could not translate host name "h" to address: Name or service not known', "its host is unknown"),
        ("failed to resolve host 'h': [Errno -3] Temporary failure in name resolution", "its host is unknown"),
        (
            'connection to server at "h", port 1 failed: Connection refused\n\tIs the server',
            "no database server answers",
        ),
        ("(2003, \"Can't connect to MySQL server on 'h'\")", "no database server answers"),
        ("connection timeout expired", "does not answer"),
        ('FATAL:  password authentication failed for user "u"', "rejects this user or this password"),
        ("(1045, \"Access denied for user 'u'@'h' (using password: YES)\")", "rejects this user or this password"),
        ("(1044, \"Access denied for user 'u'@'h' to database 'd'\")", "may not create tables"),
        ('FATAL:  database "d" does not exist', "no database of this name"),
        ("(1049, \"Unknown database 'd'\")", "no database of this name"),
        ("permission denied for schema public", "may not create tables"),
        ("FATAL:  sorry, too many clients already", "no more connections"),
    ],
)
def test_a_servers_words_name_the_cause(text: str, why: str) -> None:
    assert why in str(explained(RuntimeError(text), "cannot use", "postgresql://u@h/d").why)


def test_a_full_disk() -> None:
    assert isinstance(explained(RuntimeError("database or disk is full"), "x", "sqlite:///t.db"), NoSpace)
