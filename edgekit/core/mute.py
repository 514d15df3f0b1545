"""Redirect what libraries print and log to edgekit's log file."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(log: logging.Logger) -> Iterator[None]:
    """Send the exporter's output and warnings to the log file."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        registration = logging.getLogger("torch.onnx._internal.exporter._registration")
        level = registration.level
        registration.setLevel(logging.ERROR)
        try:
            yield
        finally:
            registration.setLevel(level)
    for line in [*printed.getvalue().splitlines(), *(str(w.message) for w in caught)]:
        log.debug("exporter: %s", line)


@contextlib.contextmanager
def quiet_root() -> Iterator[None]:
    """Silence the quantizer's warnings, which it writes to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


@contextlib.contextmanager
def silent(log: logging.Logger) -> Iterator[None]:
    """Send the converters' output, warnings and logs to the log file, including output from their C++ code."""
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    saved = [os.dup(descriptor) for descriptor in (1, 2)]
    with tempfile.TemporaryFile() as printed:
        for descriptor in (1, 2):
            os.dup2(printed.fileno(), descriptor)
        try:
            with quiet(log):
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
