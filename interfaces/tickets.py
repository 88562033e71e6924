"""How a browser gets in where a token is needed: `hindbrain open` makes a ticket, which the door takes once.

A ticket is signed with a key that lies in the data folder, so whoever may read that folder may come in.  It
holds for a minute and only for the door that was open when it was made; what the browser gets for it is a
cookie, signed with the same key.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
import time
from pathlib import Path

COOKIE = "brain"
TICKET_SECONDS, COOKIE_SECONDS = 60, 30 * 24 * 3600
KEY_BYTES = 32


class Tickets:
    """Makes tickets and cookies, and knows its own again."""

    def __init__(self, data: Path) -> None:
        self._file = data / "door.key"
        self._began = int(time.time())
        self._used: dict[str, int] = {}

    def ticket(self) -> str:
        """Make a ticket that holds for a minute."""
        return self._sign("ticket", f"{int(time.time())}.{secrets.token_hex(16)}")

    def take(self, text: str) -> str | None:
        """Take a ticket, once, and give a cookie for it; None for one that does not hold."""
        now = int(time.time())
        said = self._read("ticket", text)
        if said is None or said in self._used:
            return None
        made = int(said.partition(".")[0])
        if not max(self._began, now - TICKET_SECONDS) <= made <= now:
            return None
        self._used = {word: when for word, when in self._used.items() if when > now - TICKET_SECONDS}
        self._used[said] = made
        return self._sign("cookie", f"{now + COOKIE_SECONDS}.{secrets.token_hex(16)}")

    def holds(self, cookie: str) -> bool:
        """Whether a cookie is one of ours and not too old."""
        said = self._read("cookie", cookie)
        return said is not None and int(said.partition(".")[0]) > time.time()

    def _sign(self, use: str, text: str) -> str:
        return f"{text}.{self._mark(use, text)}"

    def _read(self, use: str, signed: str) -> str | None:
        text, _, mark = signed.rpartition(".")
        good = hmac.compare_digest(mark.encode(), self._mark(use, text).encode())
        return text if text and good else None

    def _mark(self, use: str, text: str) -> str:
        digest = hmac.digest(self._key(), f"{use}\n{text}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    def _key(self) -> bytes:
        """Read the key; the first who needs it makes it."""
        try:
            return self._file.read_bytes()
        except FileNotFoundError:
            fresh = self._file.with_name(f"{self._file.name}.{secrets.token_hex(4)}")
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_bytes(KEY_BYTES))
            # Whoever was quicker made the key for both.
            with contextlib.suppress(FileExistsError):
                self._file.hardlink_to(fresh)
            fresh.unlink()
            return self._file.read_bytes()
