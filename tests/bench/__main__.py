"""`python -m tests.bench`: run the benches, and print or write what they found."""

import argparse
import asyncio
import importlib
import shutil
import signal
import sys
import tempfile
import traceback
from pathlib import Path

from tests.bench import figures, peers
from tests.bench.run import Run

BENCHES = ("memory", "appends", "latency", "executions", "jobs", "output", "replay", "rebuild", "pages")
"""Memory comes first: this process maps DuckDB later on, and who shares a page halves its count."""
DOCS = Path(__file__).parent.parent.parent / "docs"


def main() -> int:
    """Run what is asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description="Speed and memory on this machine.")
    parser.add_argument("--only", metavar="NAME,...", help=f"some of {', '.join(BENCHES)}")
    parser.add_argument("--quick", action="store_true", help="small counts, to see whether it works")
    parser.add_argument(
        "--peers", action="store_true", help="run Huey and Dramatiq beside; installs them under .cache"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--write", action="store_true", help="write docs/figures.md and docs/figures.json")
    given = parser.parse_args()
    names = given.only.split(",") if given.only else BENCHES
    if unknown := set(names) - set(BENCHES):
        parser.error(f"there is no bench {', '.join(sorted(unknown))}; there are {', '.join(BENCHES)}")
    # Whoever is told to stop cleans up first; a shell in the background hands on that INT is ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    where = figures.machine(folder)
    failed: list[str] = []
    stolen: dict[str, float] = {}
    where["stolen"] = stolen
    command = ["scripts/bench", *sys.argv[1:]]
    try:
        found = peers.prepare(folder) if given.peers else peers.Found([], {}, [])
        where["versions"] |= found.versions
        run = Run(folder, quick=given.quick, peers=found.peers)
        for run.bench in names:
            before = figures.stolen()
            try:
                asyncio.run(importlib.import_module(f"tests.bench.{run.bench}").measure(run))
            except Exception:  # noqa: BLE001  the others are measured all the same, and the exit code tells
                run.note(traceback.format_exc())
                failed.append(run.bench)
            kept, ticks = (now - then for now, then in zip(figures.stolen(), before, strict=True))
            stolen[run.bench] = round(kept / max(ticks, 1), 3)
            run.note(f"the host gave {stolen[run.bench]:.0%} of the processors to other machines")
    finally:
        peers.end()
        shutil.rmtree(folder)
    skipped = [*found.skipped, *(f"{name}, because it failed." for name in failed)]
    if given.write and not failed:
        DOCS.joinpath("figures.md").write_text(figures.page(where, command, run.figures, skipped))
        DOCS.joinpath("figures.json").write_text(figures.document(where, command, run.figures, skipped))
    if given.json:
        sys.stdout.write(figures.document(where, command, run.figures, skipped))
    elif not given.write or failed:
        sys.stdout.write(figures.table(run.figures, skipped))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
