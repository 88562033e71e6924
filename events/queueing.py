"""How long something waits for a worker, by the formula of Erlang.

A. K. Erlang, "Solution of some problems in the theory of probabilities of significance in automatic
telephone exchanges", 1917; as M/M/c in L. Kleinrock, "Queueing Systems", volume 1, 1975, section 3.5.  It
takes arrivals as independent of each other and durations as exponential; durations that vary less make the
wait shorter.
"""

import math
from collections.abc import Iterator


def waits(arrivals_per_second: float, service_seconds: float) -> Iterator[float]:
    """The expected wait in seconds with 0, 1, 2, ... workers; infinite where they cannot keep up."""
    load = arrivals_per_second * service_seconds
    blocked, workers = 1.0, 0
    while True:
        if not load:
            yield 0.0
        elif load >= workers:
            yield math.inf
        else:
            # Erlang B goes up step by step without the factorials; Erlang C follows from it.
            queued = blocked / (1 - load / workers * (1 - blocked))
            yield queued * service_seconds / (workers - load)
        workers += 1
        blocked = load * blocked / (workers + load * blocked)


def needed(
    arrivals_per_second: float, service_seconds: float, queued: int, wait_seconds: float, most: int
) -> int:
    """The fewest workers with which what comes now waits no longer than that on average, at most `most`.

    What comes now waits for all that stands before it, and never less than what the formula says of the long
    run.
    """
    for workers, wait in enumerate(waits(arrivals_per_second, service_seconds)):
        before = queued * service_seconds / workers if workers else math.inf if queued else 0.0
        if workers >= most or max(wait, before) <= wait_seconds:
            return workers
    raise AssertionError("the waits go on for ever")
