"""Whether a failed attempt is followed by another one, and after which pause."""

from events.spec import RETRIED, Retries

JITTER = 0.25
"""The largest part by which a pause is longer than its rule says, at random."""


def pause(retries: Retries, failed: int, jitter: float) -> int:
    """Milliseconds to wait after so many failed attempts; `jitter` is a random number between 0 and 1."""
    try:
        rule = retries.backoff_ms * retries.factor ** (failed - 1)
    except OverflowError:
        rule = float("inf")
    most = retries.max_backoff_ms
    return round(min(most, min(most, rule) * (1 + JITTER * min(1.0, max(0.0, jitter)))))


def wanted(retries: Retries, code: str, exit_code: int | None) -> bool:
    """Whether an attempt that failed like this is one to be tried again."""
    if code == "command_failed" and retries.on_exit is not None:
        return exit_code in retries.on_exit
    return code in (RETRIED if retries.on is None else retries.on)


def refusal(retries: Retries, failed: int, code: str, exit_code: int | None) -> str | None:
    """Why there will be no other attempt; None when there may be one."""
    if not wanted(retries, code, exit_code):
        return "not a failure that is retried"
    return None if failed <= retries.max else f"all {retries.max} retries were used"
