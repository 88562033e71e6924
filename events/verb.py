"""A verb: what can be asked of a kind, and what is answered."""

from typing import NamedTuple

from events.message import Message
from events.spec import Strict


class Verb(NamedTuple):
    """One line of the table in `events/service.py`."""

    kind: str
    name: str
    request: type[Strict]
    reply: type[Message]
    text: str
