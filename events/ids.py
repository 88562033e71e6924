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
_ANY = bytes(ord(_ALPHABET[byte & 31]) for byte in range(256))
"""A character of the alphabet for every byte."""


def _crockford(value: int, characters: int = 26) -> str:
    return "".join([_PAIRS[(value >> shift) & 1023] for shift in range(5 * characters - 10, -1, -10)])


class _Noise:
    """Random characters for many ids at once: a system call for each would cost most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._characters, self._at = "", 0

    def characters(self, count: int) -> str:
        """So many random characters of 5 bits; no two callers get the same ones."""
        with self._lock:
            at = self._at
            if at + count > len(self._characters):
                self._characters, at = os.urandom(4096).translate(_ANY).decode(), 0
            self._at = at + count
            return self._characters[at : at + count]

    def forget(self) -> None:
        """A process that was forked must not make the ids of its parent."""
        self._lock = threading.Lock()
        self._characters, self._at = "", 0


_noise = _Noise()
os.register_at_fork(after_in_child=_noise.forget)


def fresh(kind: str, now: int) -> str:
    """Make a new id; `now` is in milliseconds since 1970."""
    return f"{PREFIXES[kind]}_{_crockford(now, 10)}{_noise.characters(16)}"


def derived(kind: str, key: str) -> str:
    """Make the id that belongs to a key, always the same one."""
    digest = hashlib.sha256(f"{kind}\n{key}".encode()).digest()
    return f"{PREFIXES[kind]}_{_crockford(int.from_bytes(digest[:17], 'big') >> 8)}"


def event() -> str:
    """Make the id of one event: 26 random characters."""
    return _noise.characters(26)
