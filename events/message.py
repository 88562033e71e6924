"""The shape of everything that is said: commands ask, events state what happened.

The module is the noun and the class the verb, so `execution.Queued` is the fact that an execution was
queued.  Class names are the wire format for good: a field is only ever added, with a default.
"""

import functools
import re
from typing import Any, dataclass_transform

import msgspec


@functools.cache
def token(name: str) -> str:
    """Turn a class name into its token on the wire: `CancelRequested` is `cancel_requested`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class _Frozen(msgspec.StructMeta):
    """Say once that messages are frozen and take keywords; msgspec inherits only the first of the two."""

    def __new__(mcls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **config: Any) -> type:
        config.setdefault("kw_only", True)
        config.setdefault("frozen", True)
        return super().__new__(mcls, name, bases, namespace, **config)


class Message(msgspec.Struct, metaclass=_Frozen, omit_defaults=True):
    """Any value that travels; frozen, built with keywords, defaults left out on the wire."""


class Command(Message, tag_field="command", tag=token, forbid_unknown_fields=True):
    """A wish, in the imperative; a field it does not know is an error, because a typo must fail loudly."""


class Event(Message, tag_field="event", tag=token):
    """A fact, in the past tense; fields it does not know are ignored, so old readers survive new writers."""

    @classmethod
    def name(cls) -> str:
        """The token of this event in subjects and tables."""
        return token(cls.__name__)
