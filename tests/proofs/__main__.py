"""`python -m tests.proofs NAME [--seed N]`: run one proof, print what it measured, exit 0 when it held."""

import argparse
import asyncio
import contextlib
import importlib
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.proofs.report import Report

PROOFS = (
    "kills",
    "actors",
    "inbox",
    "crowd",
    "streams",
    "pair",
    "trees",
    "past",
    "damage",
    "fuzz",
    "flood",
    "ticks",
    "graphs",
    "batch",
    "plans",
    "playbooks",
    "backoff",
    "workers",
    "neighbours",
    "findings",
    "sleepers",
    "limits",
    "plans_rules",
    "agent",
)


def main() -> int:
    """Run the proof that is named, or list them all."""
    parser = argparse.ArgumentParser(prog="scripts/prove", description="Long proofs with whole nodes.")
    parser.add_argument("name", nargs="?", choices=PROOFS)
    parser.add_argument("--seed", type=int, help="repeats the moments of an earlier run")
    parser.add_argument("--more", action="store_true", help="the crueller variant, where there is one")
    parser.add_argument(
        "--keep", action="store_true", help="leave the data folder, for a look at what went wrong"
    )
    given = parser.parse_args()
    if given.name is None:
        for name in PROOFS:
            module = importlib.import_module(f"tests.proofs.{name}")
            sys.stdout.write(f"{name:8} {(module.__doc__ or '').splitlines()[0]}\n")
        return 0
    seed = random.SystemRandom().randrange(10**6) if given.seed is None else given.seed
    folder = Path(tempfile.mkdtemp(prefix=f"p-{given.name}-"))
    report = Report(given.name)
    report.note(f"seed {seed}, in {folder}")
    module = importlib.import_module(f"tests.proofs.{given.name}")
    more = {"more": True} if given.more else {}
    asyncio.run(module.prove(report, folder, seed, **more))
    code = report.verdict()
    if not given.keep and not code:
        with contextlib.suppress(OSError):
            shutil.rmtree(folder)
    return code


if __name__ == "__main__":
    sys.exit(main())
