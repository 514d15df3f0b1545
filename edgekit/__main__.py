"""`python -m edgekit` and the `edgekit` command."""

from __future__ import annotations

import os
import sys

# `python -m` lets the modules of the working directory replace installed ones: numpy.py of a cloned folder would run
# (pathlib would, too, so os it is)
try:
    folder = os.getcwd()  # noqa: PTH109
except OSError:  # it was deleted
    folder = ""
if sys.path[:1] == [folder] != [os.path.dirname(os.path.dirname(os.path.abspath(__file__)))]:  # noqa: PTH100, PTH120
    del sys.path[0]

from edgekit.core import signals


def main() -> None:
    try:
        signals.install()
        from edgekit.cli import main as run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while this began, a module was imported, or the message was printed
        code = signals.exit_code()
    signals.finish()
    sys.exit(code)


if __name__ == "__main__":
    main()
