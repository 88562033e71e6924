"""Which trace an execution or a plan belongs to, in the words of W3C Trace Context.

    00-<trace: 32 hex>-<span: 16 hex>-<flags: 2 hex>        https://www.w3.org/TR/trace-context/#traceparent-header

An entity belongs to the trace of its first event, and every event of it carries that context: the one that
the caller sent, else one of its own.  The ids of spans follow from the entity, so that whoever makes the
spans of it, and however often, makes the same ones.
"""

import hashlib
import re
from typing import NamedTuple

_FORM = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_LONGEST = 512
SAMPLED = 1


class Context(NamedTuple):
    """A place in a trace."""

    trace: str
    span: str
    """The span under which something was asked for; its own, when nobody sent one."""
    flags: str

    @property
    def sampled(self) -> bool:
        """Whether whoever began the trace wants it recorded."""
        return bool(int(self.flags, 16) & SAMPLED)

    def __str__(self) -> str:
        return f"00-{self.trace}-{self.span}-{self.flags}"


def parse(text: str) -> Context | None:
    """Read a traceparent; None when it is none, which the standard wants treated as if nothing was sent."""
    found = _FORM.fullmatch(text.strip()) if len(text) <= _LONGEST else None
    if found is None:
        return None
    version, trace, span, flags, more = found.groups()
    if version == "ff" or (version == "00" and more) or not int(trace, 16) or not int(span, 16):
        return None
    # Flags of a later version that we do not know must not be passed on (section 3.2.2.5).
    return Context(trace, span, flags if version == "00" else f"{int(flags, 16) & SAMPLED:02x}")


def read(text: str | None) -> str:
    """The same as text of version 00; empty when it is no traceparent."""
    return str(parse(text) or "") if text else ""


def span(*names: str | int) -> str:
    """The id of the span with this name: of an entity, or of a part of it."""
    digest = hashlib.sha256("\n".join(map(str, names)).encode()).hexdigest()
    # A span must not be all zeros (section 3.2.2.4).
    return digest[:16] if int(digest[:16], 16) else f"{1:016x}"


def born(entity: str, event: str) -> str:
    """The context of an entity that nobody sent one for, by the id of its first event; it is its own root."""
    return str(Context(hashlib.sha256(f"trace\n{event}".encode()).hexdigest()[:32], span(entity), "01"))


def under(context: str, *names: str | int) -> str:
    """The context for what happens inside the span with this name; empty outside of any trace."""
    outer = parse(context)
    return "" if outer is None else str(outer._replace(span=span(*names)))
