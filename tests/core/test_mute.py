"""What libraries print goes to the log, wherever they print it, and everything is as before afterwards."""

from __future__ import annotations

import logging
import os
import sys
import warnings

import pytest

from edgekit.core.mute import LOUD, muted

LOG = logging.getLogger("edgekit.test")


def test_prints_and_warnings_go_to_the_log(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, "edgekit.test"), muted(LOG):
        print("of the library")
        warnings.warn("of old", DeprecationWarning, stacklevel=1)
    print("of ours")
    assert capsys.readouterr().out == "of ours\n"
    assert "of the library" in caplog.text and "of old" in caplog.text


def test_native_code_too(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    with caplog.at_level(logging.DEBUG, "edgekit.test"), muted(LOG, native=True):
        os.write(1, b"to stdout\n")
        os.write(2, b"to stderr \xff\n")
    print("of ours")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("of ours\n", "")
    assert "to stdout" in caplog.text and "to stderr" in caplog.text


def test_what_a_library_logs(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """Below it, too: torch gives each of its loggers a handler, and logs the traceback of what it raises."""
    own = [logging.getLogger(name) for name in ("torch.made_up", "torch.made_up.below", "torchvision.made_up")]
    for logger in own:
        logger.handlers, logger.propagate = [logging.StreamHandler(sys.stderr)], False
    with caplog.at_level(logging.DEBUG, "edgekit.test"), muted(LOG):
        for logger in own:
            logger.error("from %s", logger.name, exc_info=ValueError("what it raises"))
    assert "from torch.made_up.below" in caplog.text and "what it raises" not in caplog.text
    assert capfd.readouterr().err.count("from ") == 1, "another library's"
    assert all(type(logger.handlers[0]) is logging.StreamHandler for logger in own)
    for logger in own:
        logger.handlers = []


@pytest.mark.parametrize("native", [False, True])
def test_an_exception_passes_and_restores(native: bool) -> None:
    before, stdout, levels = sys.stdout, os.fstat(1).st_ino, [logging.getLogger(name).level for name in LOUD]
    with pytest.raises(ZeroDivisionError), muted(LOG, native=native, loggers=("some.library",)):
        assert logging.getLogger("some.library").level == logging.ERROR
        raise ZeroDivisionError
    assert sys.stdout is before and os.fstat(1).st_ino == stdout
    assert [logging.getLogger(name).level for name in LOUD] == levels
    assert logging.getLogger("some.library").level == logging.NOTSET
