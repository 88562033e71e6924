"""What would happen, when only that was asked."""

from events.message import Message


class Line(Message, omit_defaults=False):
    """What would happen to one."""

    id: str
    text: str
