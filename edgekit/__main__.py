"""`python -m edgekit` and the `edgekit` command."""

from __future__ import annotations

import sys

from edgekit.cli import main as run


def main() -> None:
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
