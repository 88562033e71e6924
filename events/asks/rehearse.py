"""What would happen, when only that was asked."""

import msgspec

from events.message import Message


class Line(Message, omit_defaults=False):
    """What would happen to one."""

    id: str
    text: str


class Rehearsable(Message):
    """The part of a reply that says what would happen, when only that was asked."""

    rehearsed: list[Line] | msgspec.UnsetType = msgspec.UNSET
    """What would happen; nothing was changed."""
    note: str | msgspec.UnsetType = msgspec.UNSET
    """Whether that could be taken back."""
