"""An event as it lies in the stream: where it stands, its envelope, and its body as it was written."""

import hashlib
from typing import NamedTuple

_ROOT = ("brain", "evt")


class Record(NamedTuple):
    """One stored event, nothing of it decoded; the body's bytes are kept, because the chain hashes them."""

    seq: int
    subject: str
    id: str
    time: str
    """When it was decided, RFC 3339 UTC with milliseconds."""
    cause: str
    by: str
    prev: str
    """The hash of the entity's previous event, empty for its first."""
    trace: str
    stored_at: str | None
    """When the stream stored it, RFC 3339 UTC; None when nobody knows."""
    body: bytes

    @property
    def row(self) -> tuple[int | str | None, ...]:
        """The record as the `events` table takes it: kind, entity, n, event and the subject's tail apart."""
        tokens = self.subject.split(".", 6)
        if len(tokens) < 6 or tuple(tokens[:2]) != _ROOT:
            tokens = [*_ROOT, "", self.subject, "0", ""]
        _, _, kind, entity, n, event, *tail = tokens
        body = self.body.decode(errors="replace")
        head = (self.seq, self.id, self.time, kind, entity, n, event)
        return (*head, self.cause, self.by, self.prev, self.trace, body, "".join(tail), self.stored_at)

    @property
    def hash(self) -> str:
        """The chain hash: what the entity's next event carries as `prev`."""
        head = (self.subject, self.id, self.time, self.cause, self.by, self.prev)
        return hashlib.sha256("\n".join(head).encode() + b"\n" + self.body + b"\n").hexdigest()


SUBJECT = (
    "'brain.evt.' || kind || '.' || entity || '.' || n || '.' || event || if(tail = '', '', '.' || tail)"
)
"""The subject of a row of `events`, in SQL."""

STAMP = "strftime(time, '%Y-%m-%dT%H:%M:%S.%gZ')"
"""The time of a row of `events` as it was written, in SQL."""

HASH = (
    f'sha256({SUBJECT} || chr(10) || id || chr(10) || {STAMP} || chr(10) || cause || chr(10) || "by"'
    " || chr(10) || prev || chr(10) || data::VARCHAR || chr(10))"
)
"""The chain hash of a row of `events`, in SQL."""
