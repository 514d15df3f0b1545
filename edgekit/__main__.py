"""`python -m edgekit` and the `edgekit` command."""

from __future__ import annotations

import sys

from edgekit.core import signals


def main() -> None:
    signals.install()
    try:
        from edgekit.cli import main as run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while a module was imported, or the message was printed
        code = signals.exit_code()
    signals.finish()
    sys.exit(code)


if __name__ == "__main__":
    main()
