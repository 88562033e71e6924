"""Moments as the log writes them down: RFC 3339 UTC with milliseconds."""

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=64)
def _second(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}"


def stamp(milliseconds: int) -> str:
    """Milliseconds since 1970 as RFC 3339 UTC: `2026-01-31T12:00:00.000Z`."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second(seconds)}.{rest:03d}Z"


def millis(time: str) -> int:
    """RFC 3339 as milliseconds since 1970."""
    return round(datetime.fromisoformat(time).timestamp() * 1000)
