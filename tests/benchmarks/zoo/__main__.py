"""`make zoo`: public architectures through the command line, from import to bench; writes docs/models.md.

Each stage of each network is an edgekit process of its own, with limits of time and memory. Results are kept, a JSON
file per network, so that an interrupted zoo resumes: a stage that has one is not repeated, unless --again says so.
Exit code 1 if edgekit failed with a bug (exit code 70), a crash or a traceback anywhere.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import outside  # noqa: E402
import page  # noqa: E402
from architectures import NETWORKS, Network  # noqa: E402
from stages import STAGES, Place, bug  # noqa: E402

from edgekit.core.files import write_atomically  # noqa: E402

PAGE = ROOT / "docs" / "models.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="NAME,…", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--stages", default="", metavar="STAGE,…", help=f"of {', '.join(STAGES)}")
    parser.add_argument("--again", choices=("failed", "all"), help="repeat what did not work, or everything")
    parser.add_argument("--jobs", type=int, default=2, help="networks at a time (default 2)")
    parser.add_argument("--folder", type=Path, help="where results and models are kept")
    parser.add_argument("--packages", type=Path, help="the folder with the packages of packages.txt")
    parser.add_argument("--show", action="store_true", help="write the page from the kept results, and run nothing")
    options = parser.parse_args()
    wanted = [name for name in options.only.split(",") if name] or list(NETWORKS)
    stages = [name for name in options.stages.split(",") if name] or list(STAGES)
    if unknown := [*({*wanted} - {*NETWORKS}), *({*stages} - {*STAGES})]:
        parser.error(f"there is no {', '.join(sorted(unknown))}")
    folder = (options.folder or user_cache_path("edgekit") / "zoo").absolute()
    packages = [str(options.packages.absolute())] if options.packages else outside.FOLDERS
    if not options.show:
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(lambda name: walk(NETWORKS[name], stages, folder, packages, options.again), wanted))
    results = {name: read(folder, name) for name in NETWORKS}
    write_atomically(PAGE, page.document(results).encode())
    bugs = [f"{name}, {stage}: {why}" for name, found in results.items() for stage, why in bugs_of(found)]
    print("\n".join([page.summary(results), *bugs]))
    sys.exit(1 if bugs else 0)


def walk(network: Network, stages: list[str], folder: Path, packages: list[str], again: str | None) -> None:
    """The stages of one network that have no result yet; each needs the import, which needs the packages."""
    found = read(folder, network.name)
    missing = [
        name
        for name in stages
        if name not in found or again == "all" or (again == "failed" and not page.works(found[name]))
    ]
    if not missing:
        return
    place = Place(network, folder / "work" / network.name, packages)
    for name in STAGES:
        if name not in missing and not (name == "import" and not place.imported):
            continue
        found[name] = place.run(name)
        write_atomically(folder / f"{network.name}.json", json.dumps(found, indent=1).encode())
        print(f"{network.name:28} {name:8} {page.line(found[name])}", flush=True)
        if name == "import" and found[name]["code"]:
            break
    if all(name in found for name in STAGES):
        shutil.rmtree(place.folder, ignore_errors=True)


def read(folder: Path, name: str) -> dict[str, Any]:
    path = folder / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def bugs_of(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(stage, why) for stage, result in found.items() if (why := bug(result))]


if __name__ == "__main__":
    main()
