"""`python -m tests.bench.guests.client MODULE rate|latency COUNT`: enqueue, wait, print seconds."""

import importlib
import json
import sys
import time
from typing import Any

LOOK_SECONDS, WITHIN = 0.0005, 300.0


def main() -> None:
    """Send one job to be sure that the workers are there, then measure."""
    module, what, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    guest: Any = importlib.import_module(module)
    guest.check()
    _result(guest, guest.send())
    found = _rate(guest, count) if what == "rate" else _latency(guest, count)
    sys.stdout.write(json.dumps(found) + "\n")


def _result(guest: Any, handle: Any) -> None:
    deadline = time.monotonic() + WITHIN
    while (result := guest.read(handle)) is None:
        if time.monotonic() > deadline:
            raise SystemExit("no result came")
        time.sleep(LOOK_SECONDS)
    assert result == {"exit_code": 0, "stdout": "", "stderr": ""}, result


def _rate(guest: Any, count: int) -> list[float]:
    """Seconds from the first job until the last result is stored; every result is read afterwards."""
    before = guest.stored()
    begun = time.perf_counter()
    handles = [guest.send() for _ in range(count)]
    while guest.stored() < before + count:
        if time.perf_counter() - begun > WITHIN:
            raise SystemExit(f"only {guest.stored() - before} of {count} results came")
        time.sleep(0.005)
    seconds = time.perf_counter() - begun
    for handle in handles:
        _result(guest, handle)
    return [seconds]


def _latency(guest: Any, count: int) -> list[float]:
    took: list[float] = []
    for _ in range(count):
        begun = time.perf_counter()
        _result(guest, guest.send())
        took.append(time.perf_counter() - begun)
    return took


if __name__ == "__main__":
    main()
