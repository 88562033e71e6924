"""A plugin whose jobs do nothing, in the two forms that there are."""

import msgspec

from actors.plugin import Plugin

plugin = Plugin("bench", workers=64)


class Given(msgspec.Struct):
    """A number."""

    number: int


@plugin.job(repeatable=True)
def short(given: Given) -> int:
    """Give it back; it may be done twice, so its start needs no fact."""
    return given.number


@plugin.job()
def full(given: Given) -> int:
    """Give it back."""
    return given.number
