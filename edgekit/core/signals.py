"""SIGINT (Ctrl-C), SIGTERM and SIGHUP end a command alike: as a KeyboardInterrupt in the main thread.

So finished work is kept, child processes are stopped and temporary folders are removed. The exit code is 128 plus the
signal's number. A second signal ends the process at once; `timeout` and terminals send one signal to the process and
again to its group, so what comes within SAME_SECONDS is the same one.

Python runs no handler while native code runs. If that lasts longer than GRACE_SECONDS, a thread removes the temporary
folders and ends the process; native code that holds the interpreter lock delays that, too, until it releases it.

The handlers are installed even if SIGINT is ignored, as shells do in a background job. SIGHUP stays ignored if it was:
that is what `nohup` is for. Child programs start with the default handlers.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
SAME_SECONDS = 1.0
GRACE_SECONDS = 5.0
#: what `_retry` writes to the pipe in place of a signal's number
LOST = 0


class Interrupt(KeyboardInterrupt):
    """A type of its own: after a plain KeyboardInterrupt inside `exec`, as in the making of a dataclass, CPython ends
    itself by SIGINT in place of the exit code, even if it was caught (`unhandled_keyboard_interrupt`).
    """


class _State:
    received = 0
    #: the handler has run: KeyboardInterrupt was raised
    raised = False
    #: the command has ended: a signal no longer changes the result
    finished = False
    pipe: tuple[int, int] | None = None


def install() -> None:
    """Install the handlers, once; does nothing outside the main thread."""
    if _State.pipe or threading.current_thread() is not threading.main_thread():
        return
    _State.pipe = reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    sys.unraisablehook = _retry
    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_reset)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()


def exit_code() -> int:
    """128 plus the number of the signal that interrupted the command; that of SIGINT if none did."""
    return 128 + (_State.received or signal.SIGINT)


def received() -> bool:
    return _State.received != 0


def finish() -> None:
    """The command has ended: a first signal no longer interrupts what is left.

    A signal that came while a temporary folder was made or removed may have left it.
    """
    _State.finished = True
    _remove_temporary_folders()


def _interrupt(number: int, frame: FrameType | None) -> None:
    _State.received = _State.received or number
    if not _State.raised and not _State.finished:
        _State.raised = True
        raise Interrupt


def _retry(unraisable: Any) -> None:
    """A KeyboardInterrupt that Python ignores, since a finalizer cannot raise, is raised again a little later."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt) and _State.pipe:
        os.write(_State.pipe[1], bytes([LOST]))
    else:
        sys.__unraisablehook__(unraisable)


def _watch(reader: int) -> None:
    """End the process after a second signal, and if the handler does not run in time."""
    began: float | None = None
    resent = False
    while True:
        waits = None if began is None or _State.raised or _State.finished else began + GRACE_SECONDS - time.monotonic()
        if not select.select([reader], [], [], waits and max(0.0, waits))[0]:
            if not _State.raised and not _State.finished:
                _end()
            continue
        number = os.read(reader, 1)[0]
        if number == LOST:
            time.sleep(0.05)
            _State.raised, resent = False, True
            signal.pthread_kill(threading.main_thread().ident or 0, _State.received)
        elif resent:
            resent = False
        elif number in SIGNALS and signal.getsignal(number) is _interrupt:
            _State.received = _State.received or number
            if began is not None and time.monotonic() > began + SAME_SECONDS:
                _end()
            began = began or time.monotonic()


def _end() -> None:
    """Child processes end with this one: see `children`."""
    _remove_temporary_folders()
    os._exit(exit_code())


def _remove_temporary_folders() -> None:
    loaded = sys.modules.get("edgekit.core.temporary")  # a command that made none need not load it
    getattr(loaded, "remove_all", lambda: None)()


def _block() -> None:
    """Before a fork: a signal to the child must not reach its parent's pipe."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def _reset() -> None:
    """A forked child has the default handlers."""
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        if signal.getsignal(number) is _interrupt:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    _unblock()
