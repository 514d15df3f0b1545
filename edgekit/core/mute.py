"""Libraries that print or log without being asked, silenced while they work."""

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
    """The exporter's prints and warnings go to the log file."""
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
    """The quantizer warns on the root logger about its own steps."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


@contextlib.contextmanager
def silent(log: logging.Logger) -> Iterator[None]:
    """What the converters print, warn of and log goes to the log file, also what comes from their C++ parts."""
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        stream.flush()
    kept = [os.dup(descriptor) for descriptor in (1, 2)]
    with tempfile.TemporaryFile() as printed:
        for descriptor in (1, 2):
            os.dup2(printed.fileno(), descriptor)
        try:
            with quiet(log):
                yield
        finally:
            for stream in streams:
                stream.flush()
            for descriptor, copy in zip((1, 2), kept, strict=True):
                os.dup2(copy, descriptor)
                os.close(copy)
            printed.seek(0)
            for line in printed.read().decode("utf-8", "replace").splitlines():
                log.debug("converter: %s", line)
