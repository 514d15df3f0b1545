"""`make fuzz`: damaged files of every kind that edgekit reads, and the commands that read them.

No input may end a command by a traceback, exit code 70 or a signal, hold it for more than 20 s, make it take more than
2 GB, execute code, write outside of its own folder, lose a file, or print control characters. What fails is kept under
--failed, one file for each way to fail, and goes to tests/fuzz/corpus once it is fixed: every run begins with that.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:1] = [str(HERE.parent), str(HERE.parent / "members")]
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE.parent / "members"), os.environ.get("PYTHONPATH", "")])

from fuzz import attack, kinds  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=0, help="inputs in all (default: no limit)")
    parser.add_argument("--minutes", type=float, default=60, help="time in all (default 60)")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--kinds", default="", help=f"of: {', '.join(kind.name for kind in kinds.KINDS)}")
    parser.add_argument("--seeds", type=Path, help="a folder of valid files made before; made there if it is absent")
    parser.add_argument("--failed", type=Path, default=Path("fuzz-failed"), help="where failing inputs are kept")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--valid", action="store_true", help="only run each command on its undamaged file")
    options = parser.parse_args()
    chosen = [kind for kind in kinds.KINDS if not options.kinds or kind.name in options.kinds.split(",")]
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        seeds = options.seeds.absolute() if options.seeds else Path(folder, "seeds")
        if not seeds.exists():
            print("making valid files of every kind …", file=sys.stderr, flush=True)
            kinds.make(seeds)
        attack.warm()
        place = attack.Place(seeds, Path(folder))
        if options.valid:
            return valid(place, chosen)
        return attacked(place, chosen, options)


def valid(place: attack.Place, chosen: list[kinds.Kind]) -> int:
    """Prints how each command ends on an undamaged file: what is refused at once never reaches the code to be tried."""
    for kind in chosen:
        for command in kind.commands:
            ended = place.run(kind, (place.seeds / kind.file).read_bytes(), command)
            how = f"exit {ended.code}, {ended.seconds} s {' '.join(ended.wrong)} {_last(ended) if ended.code else ''}"
            print(f"{kind.name}: {command}: {how}")
    return 0


def attacked(place: attack.Place, chosen: list[kinds.Kind], options: argparse.Namespace) -> int:
    """Runs until the count or the time is reached; prints the table. 1 if anything ended as it must not."""
    end = time.monotonic() + 60 * options.minutes
    ends: list[attack.Ended] = []
    ways: dict[tuple[str, str], attack.Ended] = {}
    for path, kind, command in corpus(chosen):
        ends.append(place.run(kind, path.read_bytes(), command))
        if ends[-1].wrong:
            ways[kind.name, path.stem] = ends[-1]
            print(f"{path.stem}: {', '.join(ends[-1].wrong)}: {_last(ends[-1])}", file=sys.stderr, flush=True)
    for number in itertools.count(options.first):
        for kind in chosen:
            if time.monotonic() > end or (options.count and len(ends) >= options.count):
                return report(ends, ways, options)
            data, ended = attack.one(place, kind, number)
            ends.append(ended)
            if ended.wrong and (way := (kind.name, _way(ended))) not in ways:
                ways[way] = ended
                options.failed.mkdir(exist_ok=True)
                stem = options.failed / f"{kind.name.replace(' ', '-')}-{number}"
                stem.with_suffix(".input").write_bytes(data)
                stem.with_suffix(".txt").write_text(f"{ended.command}\n{ended.wrong}\n{ended.said}\n")
                print(f"{kind.name} {number}: {', '.join(ended.wrong)}: {_last(ended)}", file=sys.stderr, flush=True)
    return 0


def corpus(chosen: list[kinds.Kind]) -> Iterator[tuple[Path, kinds.Kind, str]]:
    """What once failed: `KIND, WHAT.input`, and beside it the command."""
    for path in sorted((HERE / "corpus").glob("*.input")):
        (kind,) = [kind for kind in kinds.KINDS if kind.name == path.stem.partition(", ")[0]]
        if kind in chosen:
            yield path, kind, path.with_suffix(".command").read_text().strip()


def _last(ended: attack.Ended) -> str:
    lines = [line for line in ended.said.splitlines() if line.startswith("edgekit: ")] or ended.said.splitlines()
    return lines[-1][:200] if lines else ""


def _way(ended: attack.Ended) -> str:
    """Inputs that fail in the same way, apart from numbers and names, are one."""
    import re

    return re.sub(r"\d+|'[^']*'|\"[^\"]*\"", "#", " ".join(ended.wrong) + _last(ended))[:120]


def report(ends: list[attack.Ended], ways: dict[tuple[str, str], attack.Ended], options: argparse.Namespace) -> int:
    rows = []
    for name in dict.fromkeys(ended.kind for ended in ends):
        found = [ended for ended in ends if ended.kind == name]
        codes = collections.Counter(ended.code for ended in found)
        rows.append(
            {
                "kind": name,
                "inputs": len(found),
                "failed": sum(bool(ended.wrong) for ended in found),
                "codes": {str(code): count for code, count in sorted(codes.items())},
                "longest_s": max(ended.seconds for ended in found),
                "most_mb": round(max(ended.memory for ended in found) / 1e6),
            }
        )
    print("| kind of input | inputs | failed | exit 0 | 1 | 2 | 3 | 4 | longest, s | most, MB |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        codes = " | ".join(str(row["codes"].get(str(code), 0)) for code in attack.EXPECTED)
        ends_in = f"{row['inputs']} | {row['failed']} | {codes}"
        print(f"| {row['kind']} | {ends_in} | {row['longest_s']:.1f} | {row['most_mb']} |")
    print(f"\n{len(ends)} inputs, {sum(bool(ended.wrong) for ended in ends)} failed, in {len(ways)} ways")
    if options.json:
        failures = [
            {"kind": kind, "command": e.command, "wrong": e.wrong, "said": e.said} for (kind, _), e in ways.items()
        ]
        options.json.write_text(json.dumps({"rows": rows, "ways": failures}, indent=1) + "\n")
    return 1 if ways else 0


if __name__ == "__main__":
    sys.exit(main())
