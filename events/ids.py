"""Names for things: a kind's prefix, an underscore, 26 lower-case Crockford characters.

A fresh id is a ULID (48 bits of milliseconds, 80 random bits; https://github.com/ulid/spec), so ids sort by
birth.  An id may also be derived from a key: the same key then always names the same thing, on every node and
for ever, without anything to look up.
"""

import hashlib
import re
import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
PREFIXES = {"execution": "exec", "node": "node", "finding": "find", "schedule": "sched", "plan": "plan"}
TOKEN = re.compile(r"[a-z0-9_-]{1,64}")
"""What may stand in a subject; a full match is meant."""


def _crockford(value: int) -> str:
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(125, -1, -5))


def fresh(kind: str, now: int) -> str:
    """Make a new id; `now` is in milliseconds since 1970."""
    return f"{PREFIXES[kind]}_{_crockford((now << 80) | secrets.randbits(80))}"


def derived(kind: str, key: str) -> str:
    """Make the id that belongs to a key, always the same one."""
    digest = hashlib.sha256(f"{kind}\n{key}".encode()).digest()
    return f"{PREFIXES[kind]}_{_crockford(int.from_bytes(digest[:17], 'big') >> 8)}"


def event() -> str:
    """Make the id of one event: 26 random characters."""
    return _crockford(secrets.randbits(128))
