"""Redirect what libraries print and log to edgekit's log."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator

#: loggers that warn of a library's own steps
LOUD = ("torch.onnx._internal.exporter._registration", "onnxscript.optimizer._constant_folding")


@contextlib.contextmanager
def muted(log: logging.Logger, *, native: bool = False, loggers: Iterable[str] = ()) -> Iterator[None]:
    """What a library prints and warns of goes to `log`, at its debug level.

    `native`: also what C++ code writes, to the file descriptors of stdout and stderr. `loggers`: those that may report
    errors only (`root`: the root logger).
    """
    with contextlib.ExitStack() as stack:
        if native:
            stack.enter_context(_descriptors(log))
        stack.enter_context(_errors_only((*LOUD, *loggers)))
        stack.enter_context(forwarded(log, "torch"))  # it logs the traceback of what it raises
        stack.enter_context(_python(log))
        yield


@contextlib.contextmanager
def _python(log: logging.Logger) -> Iterator[None]:
    """Prints and warnings of Python code."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for line in [*printed.getvalue().splitlines(), *(str(w.message) for w in caught)]:
        log.debug("exporter: %s", line)


class _Forward(logging.Handler):
    def __init__(self, log: logging.Logger, library: str) -> None:
        super().__init__()
        self._log, self._library = log, library

    def emit(self, record: logging.LogRecord) -> None:
        self._log.debug("%s: %s", self._library, record.getMessage())


@contextlib.contextmanager
def forwarded(log: logging.Logger, library: str) -> Iterator[None]:
    """What the loggers of a library say goes to `log`, at its debug level, and nowhere else."""
    loggers = [each for each in tuple(logging.root.manager.loggerDict.values()) if isinstance(each, logging.Logger)]
    own = [(each, each.handlers) for each in loggers if f"{each.name}.".startswith(f"{library}.") and each.handlers]
    for logger, _ in own:
        logger.handlers = [_Forward(log, library)]
    try:
        yield
    finally:
        for logger, handlers in own:
            logger.handlers = handlers


@contextlib.contextmanager
def _errors_only(names: Iterable[str]) -> Iterator[None]:
    levels = [(logger, logger.level) for logger in map(logging.getLogger, names)]
    for logger, _ in levels:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for logger, level in levels:
            logger.setLevel(level)


@contextlib.contextmanager
def _descriptors(log: logging.Logger) -> Iterator[None]:
    """What is written to stdout and stderr past Python."""
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    with tempfile.TemporaryFile() as printed:
        try:  # a signal may interrupt any line: what is redirected here is restored
            for descriptor in (1, 2):
                os.dup2(printed.fileno(), descriptor)
            yield
        finally:
            for stream in streams:
                stream.flush()
            for descriptor, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)
            printed.seek(0)
            for line in printed.read().decode("utf-8", "replace").splitlines():
                log.debug("converter: %s", line)
