"""Names for things: a kind's prefix, an underscore, 26 lower-case Crockford characters.

A fresh id is a ULID (48 bits of milliseconds, 80 random bits; https://github.com/ulid/spec), so ids sort by
birth.  An id may also be derived from a key: the same key then always names the same thing, on every node and
for ever, without anything to look up.
"""

import hashlib
import os
import re
import threading

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
PREFIXES = {
    "execution": "exec",
    "node": "node",
    "finding": "find",
    "schedule": "sched",
    "plan": "plan",
    "decision": "dec",
    "playbook": "play",
    "checkpoint": "ckpt",
    "task": "task",
}
TOKEN = re.compile(r"[a-z0-9_-]{1,64}")
"""What may stand in a subject; a full match is meant."""


_PAIRS = [one + other for one in _ALPHABET for other in _ALPHABET]


def _crockford(value: int) -> str:
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range(120, -1, -10)])


class _Noise:
    """Random bytes of the system, for many ids at once: a system call for each would cost most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes, self._at = b"", 0

    def bits(self, count: int) -> int:
        """So many random bits, a multiple of 8; no two callers get the same ones."""
        size = count // 8
        with self._lock:
            if self._at + size > len(self._bytes):
                self._bytes, self._at = os.urandom(4096), 0
            self._at += size
            return int.from_bytes(self._bytes[self._at - size : self._at], "big")

    def forget(self) -> None:
        """A process that was forked must not make the ids of its parent."""
        self._lock = threading.Lock()
        self._bytes, self._at = b"", 0


_noise = _Noise()
os.register_at_fork(after_in_child=_noise.forget)


def fresh(kind: str, now: int) -> str:
    """Make a new id; `now` is in milliseconds since 1970."""
    return f"{PREFIXES[kind]}_{_crockford((now << 80) | _noise.bits(80))}"


def derived(kind: str, key: str) -> str:
    """Make the id that belongs to a key, always the same one."""
    digest = hashlib.sha256(f"{kind}\n{key}".encode()).digest()
    return f"{PREFIXES[kind]}_{_crockford(int.from_bytes(digest[:17], 'big') >> 8)}"


def event() -> str:
    """Make the id of one event: 26 random characters."""
    return _crockford(_noise.bits(128))
