"""Ten thousand random plans, led at random by the rules alone: order, limits, ends, reruns, rollbacks."""

import time
from pathlib import Path
from random import Random

from tests.proofs import courses, rows
from tests.proofs.report import Report

PLANS, BATCHES = 10_000, 500


async def prove(report: Report, folder: Path, seed: int, *, more: bool = False) -> None:
    """Lead them all; the first law that is broken ends it, with the seed of that plan."""
    times = 10 if more else 1
    for what, lead, count in (("plans", _plan, PLANS * times), ("batches", _batch, BATCHES * times)):
        began, facts = time.monotonic(), 0
        for number in range(count):
            one = seed * 1_000_000 + number
            try:
                facts += lead(Random(one))
            except AssertionError as error:
                report.claim(False, f"{what} keep the laws", f"seed {one}: {error!r}")
                return
        seconds = time.monotonic() - began
        report.claim(True, f"{count} {what} keep the laws: {facts} facts in {seconds:.1f} s")


def _plan(random: Random) -> int:
    return len(courses.led(random).facts)


def _batch(random: Random) -> int:
    return rows.led(random).n
