"""Errors: their exit codes, what the operating system's refusals become, and hints for misspelt names."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.core import errors
from edgekit.core.errors import EdgekitError, InputError, Missing, Problem, RecipeError, os_errors, suggest


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("ParityFailed", 1),
        ("BudgetMissed", 1),
        ("CannotConvert", 1),
        ("InputError", 2),
        ("NoSpace", 2),
        ("Locked", 2),
        ("Missing", 3),
        ("DeviceError", 4),
        ("Interrupted", 130),
        ("EdgekitError", 70),
    ],
)
def test_exit_codes(kind: str, code: int) -> None:
    assert getattr(errors, kind).code == code


def test_the_reason_is_part_of_the_text() -> None:
    assert str(EdgekitError("it failed", "no disk", "buy one")) == "it failed: no disk"
    assert str(EdgekitError("it failed")) == "it failed"


def test_a_recipe_lists_all_of_its_problems() -> None:
    problems = [Problem("train", "lr is 0", "raise it"), Problem("chain 1", "is empty")]
    error = RecipeError("a.toml", problems)
    assert error.problems == tuple(problems) and "2 problems" in str(error)
    assert [str(problem) for problem in problems] == ["train: lr is 0 (raise it)", "chain 1: is empty"]


def test_what_to_install() -> None:
    assert Missing.install("edgekit optimize", "optuna", "optimize").next == "pip install 'edgekit-toolkit[optimize]'"


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, "NoSpace", "no space left"),
        (errno.EDQUOT, "NoSpace", "no space left"),
        (errno.EACCES, "NoPermission", "permission denied"),
        (errno.EROFS, "NoPermission", "permission denied"),
        (errno.ENOENT, "InputError", "no such file"),
        (errno.EISDIR, "InputError", "folder"),
        (errno.ENOTDIR, "InputError", "folder"),
        (errno.ENAMETOOLONG, "InputError", "name too long"),
        (errno.ELOOP, "InputError", "symbolic links"),
        (errno.EIO, "InputError", "input/output error"),
    ],
)
def test_refusals_of_the_system(number: int, kind: str, words: str) -> None:
    with pytest.raises(InputError) as caught, os_errors("write", Path("a/b")):
        raise OSError(number, "as the system puts it", "c/d")
    assert type(caught.value) is getattr(errors, kind)
    assert "c/d" in caught.value.what and words in caught.value.why
    assert isinstance(caught.value.__cause__, OSError)


def test_the_path_is_named_where_the_system_names_none() -> None:
    with pytest.raises(InputError, match="cannot read a/b"), os_errors("read", Path("a/b")):
        raise OSError(errno.ENOENT, "gone")


def test_what_is_not_known_passes() -> None:
    with pytest.raises(OSError) as caught, os_errors("read", "x"):
        raise OSError(errno.EIO, "the disk is broken")
    assert not isinstance(caught.value, EdgekitError)
    with pytest.raises(ValueError), os_errors("read", "x"):
        raise ValueError


def test_near_names() -> None:
    known = ("onnx", "openvino", "tflite")
    assert suggest("onx", known) == "did you mean onnx?"
    assert suggest("zzz", known) == "known: onnx, openvino, tflite"
    assert suggest("zzz", ()) == ""


@given(st.text(), st.lists(st.text(min_size=1)))
def test_any_name_gets_an_answer(name: str, known: list[str]) -> None:
    hint = suggest(name, tuple(known))
    assert bool(hint) == bool(known)


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.EBUSY])
def test_any_refusal_that_names_a_file_is_no_bug(number: int) -> None:
    with pytest.raises(InputError, match="cannot write c/d"), os_errors("write", "a"):
        raise OSError(number, "as the system puts it", "c/d")


def test_a_file_that_grows_too_large() -> None:
    with pytest.raises(errors.NoSpace, match="larger than the system allows"), os_errors("write", "a"):
        raise OSError(errno.EFBIG, "File too large")


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("Error while serializing: I/O error: No space left on device (os error 28)", True),
        ("basic_ios::clear: iostream error", True),
        ("(sqlite3.OperationalError) database or disk is full", True),
        ("bad file", False),
    ],
)
def test_a_full_disk_in_a_librarys_words(text: str, full: bool) -> None:
    assert errors.is_disk_full(text) is full
