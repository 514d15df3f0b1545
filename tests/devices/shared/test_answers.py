"""The real agent's answers pass the check (tests/devices/test_ssh.py); here, those that do not."""

from __future__ import annotations

import json

import pytest

from edgekit.devices.shared.answers import SCHEMAS, read


@pytest.mark.parametrize("do", sorted(SCHEMAS))
@pytest.mark.parametrize(
    "answer",
    [
        {"pwned": 1},
        {"error": {}},
        {"error": None},
        {"error": {"kind": 1, "what": ""}},
        {"files": 3},
        {"files": [[1, 2]]},
    ],
)
def test_an_answer_of_another_form_is_refused(do: str, answer: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(do, json.dumps(answer).encode())


def test_an_answer_and_its_files() -> None:
    line = b'{"missing": ["a"], "free": 5, "files": [["x", 3]]}'
    assert read("missing", line) == ({"missing": ["a"], "free": 5}, (("x", 3),))
    error = {"kind": "full", "what": "No space left on device", "where": "/x"}
    assert read("put", json.dumps({"error": error, "files": []}).encode()) == ({"error": error}, ())
