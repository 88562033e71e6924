"""What the keeper must still know when it comes back: one line of JSON per thing that happened.

    {"type": "boot", "boot_id": ..., "pid": ...}                              a keeper begins
    {"type": "intent", "execution": ..., "attempt": ..., ...}                 it is about to start a command
    {"type": "spawned" | "spawn_failed" | "killing" | "exited" | "lost", ...} what came of it
    {"type": "forgotten", "execution": ..., "attempt": ...}                   somebody else knows it for good

What is kept of an attempt is the sum of its lines: later fields win, and a state never goes back.  A line
is one `write` without fsync: it survives the death of the keeper; the death of the system is told by the
boot id. Neither arguments nor environment are written here: secrets may be among them.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False  # what `typing` says too; importing it costs the keeper 0.7 MB
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Key = tuple[str, int]
    Record = dict[str, Any]

STATES = {
    "intent": "intent",
    "spawned": "running",
    "spawn_failed": "failed",
    "exited": "exited",
    "lost": "lost",
}
OVER = frozenset({"failed", "exited", "lost"})
COMPACT_AT = 4000  # lines: about a second of work at full speed, and below a megabyte


def fold(attempts: dict[Key, Record], record: Record, boot: str) -> str:
    """Add one line to what is known; answers the boot id that holds after it."""
    kind = record["type"]
    if kind == "boot":
        return record["boot_id"]
    key = (record["execution"], record["attempt"])
    known = attempts.get(key)
    if kind == "forgotten":
        if known and known["state"] in OVER:
            del attempts[key]
    elif kind == "intent":
        if known is None:
            attempts[key] = {"state": "intent", "boot_id": boot, **record}
            del attempts[key]["type"]
    elif known and known["state"] not in OVER:
        known.update(record)
        del known["type"]
        if kind in STATES:
            known["state"] = STATES[kind]
    return boot


def replay(lines: Iterable[bytes]) -> tuple[dict[Key, Record], int, int]:
    """Add up a journal: what is known, how many lines there were, and how many could not be read (torn)."""
    attempts: dict[Key, Record] = {}
    boot, count, torn = "", 0, 0
    for line in lines:
        if not line.strip():
            continue
        count += 1
        try:
            boot = fold(attempts, json.loads(line), boot)
        except (ValueError, KeyError, TypeError):  # a line cut off by a death in the middle of a write
            torn += 1
    return attempts, count, torn


class Journal:
    """The journal of one data folder; only the keeper that holds the folder's lock may open it.

    Raises OSError when the file cannot be opened.
    """

    def __init__(self, path: str, boot: str):
        self.path, self.boot = path, boot
        self.fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with open(path, "rb") as file:  # noqa: PTH123 - pathlib costs memory
            self.attempts, self.lines, self.torn = replay(file)
            size = file.tell()
        self.owed = b""
        if size and os.pread(self.fd, 1, size - 1) != b"\n":
            self.owed = b"\n"
        self.append({"type": "boot", "boot_id": boot, "pid": os.getpid()})

    def append(self, record: Record) -> bool:
        """Write one line and add it up; False when the disk did not take it (tried again with the next)."""
        fold(self.attempts, record, self.boot)
        self.lines += 1
        self.owed += json.dumps(record, separators=(",", ":")).encode() + b"\n"
        return self.settle()

    def settle(self) -> bool:
        """Write what a full disk refused before; says whether everything is written now."""
        try:
            while self.owed:
                self.owed = self.owed[os.write(self.fd, self.owed) :]
        except OSError:
            return False
        return True

    def compact(self, *, force: bool = False) -> bool:
        """Write the file anew when most of it is forgotten; the old one stays whole until the new one is."""
        if not force and (self.lines < COMPACT_AT or self.lines < 8 * len(self.attempts)):
            return False
        fresh = self.path + ".new"
        records: list[Record] = [{"type": "boot", "boot_id": self.boot, "pid": os.getpid()}]
        records += [{"type": "intent", **one} for one in self.attempts.values()]
        data = b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in records)
        try:
            fd = os.open(fresh, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                os.rename(fresh, self.path)  # noqa: PTH104 - pathlib costs memory
            except OSError:
                os.close(fd)
                raise
        except OSError:  # a full disk: the long file stays good; try again after as many lines again
            self.lines = 0
            return False
        os.close(self.fd)
        self.fd, self.lines, self.owed = fd, len(records), b""
        return True

    def close(self) -> None:
        """Let go of the file."""
        os.close(self.fd)
