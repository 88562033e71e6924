"""The heap of a process that lives long: what is there once it has started is not looked at for ever."""

import gc

THRESHOLDS = (20_000, 20, 20)
"""CPython's own (700, 10, 10) had a node spend a fifth of its time looking for garbage under load, nearly
all of it among what stays; there are few cycles to be found, so it can be done seldom."""


def widen() -> None:
    """Look for garbage seldom."""
    gc.set_threshold(*THRESHOLDS)


def settle() -> None:
    """Call it once, when everything is up; a start leaves little garbage, not worth a look at it all."""
    gc.freeze()
    widen()


def leave() -> None:
    """Call it last: who ends looks for no garbage before, which would cost a tenth of a short life."""
    gc.freeze()
