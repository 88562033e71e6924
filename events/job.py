"""A job: a named handler of a plugin, and what it is given."""

import re
from typing import Any

from events.errors import Validation
from events.ids import TOKEN
from events.message import Message

TYPE = re.compile(r"([a-z0-9_-]{1,64}):([a-z0-9_-]{1,64})")
"""`plugin:name`; a full match is meant."""


class Job(Message, forbid_unknown_fields=True):
    """Which handler is to run, and its input; the plugin's schema says what that has to be."""

    type: str
    """`plugin:name`, as the handler is registered."""
    data: Any = {}

    @property
    def plugin(self) -> str:
        """Whose handler it is."""
        return self.type.partition(":")[0]


def check(job: Job) -> None:
    """Refuse a name that no handler can have."""
    if not TYPE.fullmatch(job.type):
        raise Validation(
            f"bad job type {job.type[:80]!r}: it is `plugin:name`, each of a-z, 0-9, _ and -, at most 64",
            field="job.type",
        )


def named(plugin: str, name: str) -> str:
    """Put the name of a handler under its plugin; one that names its plugin already stays."""
    whole = name if ":" in name else f"{plugin}:{name}"
    check(Job(type=whole))
    return whole


def plugin_name(name: str) -> str:
    """Check the name of a plugin or module; gives it back."""
    if not TOKEN.fullmatch(name):
        raise Validation(f"bad name {name!r}: use a-z, 0-9, _ and -, at most 64", field="name")
    return name
